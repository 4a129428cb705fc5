/**
 * One isolated broadcast domain: ports and a MAC table (transparent bridging, IEEE 802.1D §7).
 * Frames go in one by one; `flush` ends a batch and publishes it to the ports it touched.
 */
import { FRAME_BYTES_MIN } from '../ring/layout.ts';
import type { FrameSource } from '../ring/producer.ts';
import { MacTable, UNKNOWN } from './mac-table.ts';
import { type Outlet, Port } from './port.ts';

/** Most ports on one segment. */
export const PORTS_MAX = 4096;

export class Segment {
  readonly macTable = new MacTable();
  /** Every frame goes to every other port, as in a hub. */
  readonly hub: boolean;
  /** Indexed by slot. */
  readonly #ports: (Port | undefined)[] = [];
  readonly #dirty: Port[] = [];
  #nowSeconds = 0;

  constructor(options: { readonly hub: boolean }) {
    this.hub = options.hub;
  }

  ports(): Port[] {
    return this.#ports.filter((port) => port !== undefined);
  }

  port(slot: number): Port | undefined {
    return this.#ports[slot];
  }

  /** Undefined when the segment is full. */
  add(id: string, outlet: Outlet): Port | undefined {
    const free = this.#ports.indexOf(undefined);
    const slot = free >= 0 ? free : this.#ports.length;
    if (slot >= PORTS_MAX) return undefined;
    const port = new Port(id, slot, outlet);
    this.#ports[slot] = port;
    return port;
  }

  remove(port: Port): void {
    if (this.#ports[port.slot] !== port) return;
    this.flush();
    this.#ports[port.slot] = undefined;
    this.macTable.forget(port.slot);
  }

  /** Sets the clock of the frames that follow, in seconds of any monotonic clock. */
  setTime(nowSeconds: number): void {
    this.#nowSeconds = nowSeconds;
  }

  /** Handles a frame received from a port. */
  forward(from: Port, frame: FrameSource): void {
    const { counters } = from;
    counters.receivedFrames++;
    counters.receivedBytes += frame.length;
    if (frame.length < FRAME_BYTES_MIN) {
      counters.droppedRunts++;
      return;
    }
    // Destination in bytes 0 to 5, source in 6 to 11; words are little-endian.
    const word = frame.offset >> 2;
    const word0 = frame.words[word]!;
    const word1 = frame.words[word + 1]!;
    const word2 = frame.words[word + 2]!;
    if ((word1 & 0x1_0000) !== 0) {
      counters.droppedGroupSource++;
      return;
    }
    const now = this.#nowSeconds;
    if (!this.macTable.learn(word2 >>> 16, (word1 >>> 16) | (word2 << 16), from.slot, now)) {
      counters.droppedForged++;
      return;
    }
    const isGroup = (word0 & 1) !== 0;
    const slot = this.hub || isGroup ? UNKNOWN : this.macTable.lookup(word1 & 0xffff, word0, now);
    if (slot === UNKNOWN) this.#flood(from, frame);
    else if (slot === from.slot) counters.droppedLocal++;
    else this.#send(this.#ports[slot]!, frame, from.slot);
  }

  /** The port that alone gets a frame, which has been forwarded; undefined for those that are flooded. */
  receiverOf(frame: FrameSource): Port | undefined {
    const word = frame.offset >> 2;
    const word0 = frame.words[word]!;
    if (this.hub || frame.length < FRAME_BYTES_MIN || (word0 & 1) !== 0) return undefined;
    return this.#ports[this.macTable.lookup(frame.words[word + 1]! & 0xffff, word0, this.#nowSeconds)];
  }

  /** Publishes everything forwarded since the last time. */
  flush(): void {
    const dirty = this.#dirty;
    for (let port = dirty.pop(); port !== undefined; port = dirty.pop()) {
      port.dirty = false;
      port.outlet.publish();
    }
  }

  #flood(from: Port, frame: FrameSource): void {
    const ports = this.#ports;
    for (let slot = 0; slot < ports.length; slot++) {
      const port = ports[slot];
      if (port !== undefined && slot !== from.slot) this.#send(port, frame, from.slot);
    }
  }

  #send(port: Port, frame: FrameSource, from: number): void {
    if (!port.outlet.push(frame, from)) {
      port.counters.droppedQueueFull++;
      return;
    }
    port.counters.sentFrames++;
    port.counters.sentBytes += frame.length;
    if (port.dirty) return;
    port.dirty = true;
    this.#dirty.push(port);
  }
}
