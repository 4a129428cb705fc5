/**
 * A live capture of a network or of one of its ports, in the switch's thread: pcapng in chunks to a MessagePort. What its
 * reader does not take in time is left out and counted, so no capture slows the switch down.
 */
import type { MessagePort } from 'node:worker_threads';
import type { Port } from '../fabric/port.ts';
import type { FrameWatcher } from '../fabric/segment.ts';
import { checksumOf, finishChecksum, segmentationOf } from '../offload/offload.ts';
import type { FrameSource } from '../ring/producer.ts';
import type { CaptureOptions, FromCapture, ToCapture } from './messages.ts';
import { compileFilter } from './filter.ts';
import {
  INBOUND,
  interfaceDescription,
  interfaceStatistics,
  OUTBOUND,
  packetBytes,
  sectionHeader,
  writePacket,
} from './pcapng.ts';

const CHUNK_BYTES = 64 * 1024;
/** A chunk that is not full is sent after this time. */
const FLUSH_MS = 50;
/** Bytes that are on their way to the reader. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** More would not fit into a chunk. */
export const SNAP_BYTES_MAX = CHUNK_BYTES - 4096;

interface Interface {
  readonly id: number;
  received: bigint;
  dropped: bigint;
}

export class Capture {
  readonly #options: CaptureOptions;
  readonly #port: MessagePort;
  readonly #wants: (frame: Uint8Array) => boolean;
  readonly #interfaces = new Map<string, Interface>();
  readonly #timer: NodeJS.Timeout;
  readonly #onEnd: () => void;
  /** What is to be added to the monotonic clock for the time since 1970. */
  readonly #epoch = BigInt(Date.now()) * 1_000_000n - process.hrtime.bigint();
  #chunk = Buffer.alloc(CHUNK_BYTES);
  #filled = 0;
  #total = 0;
  #onTheWay = 0;
  #flushTimer: NodeJS.Timeout | undefined;
  #ended = false;

  /** `onEnd`: its watcher is not to be called any more. Throws AppError `invalid_input`. */
  constructor(options: CaptureOptions, port: MessagePort, onEnd: () => void) {
    this.#options = options;
    this.#wants = compileFilter(options.filter);
    this.#port = port;
    this.#onEnd = onEnd;
    this.#timer = setTimeout(() => this.end(), options.maxSeconds * 1000);
    port.on('message', ({ taken }: ToCapture) => {
      this.#onTheWay -= taken;
    });
    port.on('close', () => this.end());
    this.#append(sectionHeader());
    // So that the reader sees at once that it goes on.
    this.#flush();
  }

  readonly watch: FrameWatcher = (port, frame, out) => {
    if (this.#ended || !this.#isAt(port, out)) return;
    const bytes = frame.bytes.subarray(frame.offset, frame.offset + frame.length);
    if (!this.#wants(bytes)) return;
    const seen = this.#interfaceOf(port.id);
    seen.received++;
    const data = bytes.subarray(0, this.#options.snapBytes);
    const size = packetBytes(data.length);
    if (this.#onTheWay + this.#filled + size > WINDOW_BYTES) {
      seen.dropped++;
      return;
    }
    if (this.#total + size > this.#options.maxBytes) return this.end();
    this.#reserve(size);
    const time = process.hrtime.bigint() + this.#epoch;
    const direction = out ? INBOUND : OUTBOUND;
    const packet = { interfaceId: seen.id, time, length: frame.length, direction } as const;
    const at = writePacket(this.#chunk, this.#filled, data, packet);
    this.#finishChecksum(frame, at, data.length);
    this.#advance(size);
  };

  /** Sends what there is, and the statistics. Does nothing the second time. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    clearTimeout(this.#timer);
    const time = process.hrtime.bigint() + this.#epoch;
    for (const { id, received, dropped } of this.#interfaces.values()) {
      this.#append(interfaceStatistics({ interfaceId: id, time, received, dropped }));
    }
    this.#flush();
    this.#post({ type: 'end' });
    this.#port.close();
    this.#onEnd();
  }

  /** Of a network each frame once, as it comes in; of a port both directions. */
  #isAt(port: Port, out: boolean): boolean {
    return this.#options.portId === undefined ? !out : port.id === this.#options.portId;
  }

  #interfaceOf(portId: string): Interface {
    const known = this.#interfaces.get(portId);
    if (known !== undefined) return known;
    const made = { id: this.#interfaces.size, received: 0n, dropped: 0n };
    this.#interfaces.set(portId, made);
    this.#append(interfaceDescription(portId, this.#options.snapBytes));
    return made;
  }

  /** What the sender has left to the receiver would look like an error. */
  #finishChecksum(frame: FrameSource, at: number, length: number): void {
    const checksum = checksumOf(frame);
    if (checksum === 0 || segmentationOf(frame) !== 0 || length < frame.length) return;
    finishChecksum(this.#chunk, at, length, checksum);
  }

  #append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#chunk.set(bytes, this.#filled);
    this.#advance(bytes.length);
  }

  #reserve(bytes: number): void {
    if (this.#filled + bytes > CHUNK_BYTES) this.#flush();
  }

  #advance(bytes: number): void {
    this.#filled += bytes;
    this.#total += bytes;
    this.#flushTimer ??= setTimeout(() => this.#flush(), FLUSH_MS);
  }

  #flush(): void {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    if (this.#filled === 0) return;
    const bytes = Uint8Array.prototype.slice.call(this.#chunk, 0, this.#filled);
    this.#onTheWay += bytes.length;
    this.#filled = 0;
    this.#post({ type: 'bytes', bytes });
  }

  #post(message: FromCapture): void {
    this.#port.postMessage(message, message.type === 'bytes' ? [message.bytes.buffer as ArrayBuffer] : []);
  }
}
