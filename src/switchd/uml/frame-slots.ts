/** Frames in native memory, which the C library reads and writes: a slot each, laid out as in a ring. */
import koffi from 'koffi';
import { ENTRY_HEADER_BYTES } from '../ring/layout.ts';
import type { FrameSource } from '../ring/producer.ts';
import { lastErrno, libc } from './libc.ts';

/** What uml_switch reads of a datagram: the rest of a longer one is cut off. */
export const DATAGRAM_BYTES_MAX = 1514;
/** With an 802.1Q tag, as a port of another kind may send it. */
export const SLOT_FRAME_BYTES_MAX = 1518;
/** Frames of one batch. */
export const BATCH = 64;

const SLOT_BYTES = 1536;
const MMSGHDR_BYTES = 64;
const IOV_BYTES = 16;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Native memory for `count` frames. Gone after `free`: nothing may be used any more. */
export class FrameSlots implements FrameSource {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly lengths: Int32Array;
  /** Of the frame that `select` chose. */
  offset = 0;
  length = 0;
  slot = 0;
  readonly #block: bigint;

  constructor(count: number) {
    this.#block = koffi.alloc('uint8_t', count * SLOT_BYTES);
    const memory = koffi.view(this.#block, count * SLOT_BYTES);
    this.words = new Int32Array(memory);
    this.bytes = new Uint8Array(memory);
    // Also the words of offloads, which stay 0.
    this.bytes.fill(0);
    this.lengths = new Int32Array(count);
  }

  select(slot: number): this {
    this.slot = slot;
    this.offset = slot * SLOT_BYTES + ENTRY_HEADER_BYTES;
    this.length = this.lengths[slot]!;
    return this;
  }

  /** Copies a frame in. False: it is too long. */
  put(slot: number, frame: FrameSource): boolean {
    if (frame.length > SLOT_FRAME_BYTES_MAX) return false;
    const from = frame.bytes.subarray(frame.offset, frame.offset + frame.length);
    this.bytes.set(from, slot * SLOT_BYTES + ENTRY_HEADER_BYTES);
    this.lengths[slot] = frame.length;
    return true;
  }

  address(slot: number): bigint {
    return this.#block + BigInt(slot * SLOT_BYTES + ENTRY_HEADER_BYTES);
  }

  free(): void {
    koffi.free(this.#block);
  }
}

/** `full`: the receiver has no room now. `gone`: it will never have. */
export type SendEnd = 'done' | 'full' | 'gone';

/** Arrays of struct mmsghdr and struct iovec. */
class MessageVector {
  readonly address: bigint;
  readonly #memory: Buffer;

  constructor() {
    const size = BATCH * (MMSGHDR_BYTES + IOV_BYTES);
    this.address = koffi.alloc('uint8_t', size);
    this.#memory = Buffer.from(koffi.view(this.address, size));
    this.#memory.fill(0);
    for (let i = 0; i < BATCH; i++) {
      this.#memory.writeBigUInt64LE(this.address + BigInt(this.#iov(i)), i * MMSGHDR_BYTES + 16);
      this.#memory.writeBigUInt64LE(1n, i * MMSGHDR_BYTES + 24);
    }
  }

  describe(index: number, address: bigint, length: number): void {
    const at = this.#iov(index);
    this.#memory.writeBigUInt64LE(address, at);
    this.#memory.writeUInt32LE(length, at + 8);
  }

  /** Bytes that recvmmsg received. */
  length(index: number): number {
    return this.#memory.readUInt32LE(index * MMSGHDR_BYTES + 56);
  }

  #iov(index: number): number {
    return BATCH * MMSGHDR_BYTES + index * IOV_BYTES;
  }
}

/** Sends and receives slots in batches. For one thread. */
export class FrameTransfer {
  /** What was received last, and what is being forwarded. */
  readonly arena = new FrameSlots(BATCH);
  readonly #receive = new MessageVector();
  readonly #send = new MessageVector();

  constructor() {
    for (let i = 0; i < BATCH; i++) this.#receive.describe(i, this.arena.address(i), DATAGRAM_BYTES_MAX);
  }

  /** Datagrams that wait at a socket, into the arena. Gives their number. */
  receive(fd: number): number {
    const count = libc().recvmmsg(fd, this.#receive.address, BATCH, MSG_DONTWAIT, null);
    for (let i = 0; i < count; i++) this.arena.lengths[i] = this.#receive.length(i);
    return Math.max(0, count);
  }

  /** Frames that wait at a device. */
  receiveFromDevice(fd: number): number {
    let count = 0;
    while (count < BATCH) {
      const length = libc().read(fd, this.arena.address(count), DATAGRAM_BYTES_MAX);
      if (length <= 0) break;
      this.arena.lengths[count++] = length;
    }
    return count;
  }

  /** Sends `slots[0 … count)` of `from`, at most BATCH. `sent` frames have left. */
  send(fd: number, from: FrameSlots, slots: Int32Array, count: number): { sent: number; end: SendEnd } {
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      this.#send.describe(i, from.address(slot), from.lengths[slot]!);
    }
    let sent = 0;
    while (sent < count) {
      const vector = this.#send.address + BigInt(sent * MMSGHDR_BYTES);
      const result = libc().sendmmsg(fd, vector, count - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (result > 0) sent += result;
      else {
        const end = endOf(lastErrno());
        if (end !== 'done') return { sent, end };
      }
    }
    return { sent, end: 'done' };
  }

  sendToDevice(
    fd: number,
    from: FrameSlots,
    slots: Int32Array,
    count: number,
  ): { sent: number; end: SendEnd } {
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      if (libc().write(fd, from.address(slot), from.lengths[slot]!) >= 0) continue;
      const end = endOf(lastErrno());
      return { sent: i, end: end === 'done' ? 'full' : end };
    }
    return { sent: count, end: 'done' };
  }
}

/** `done` stands for: try again at once. */
export function endOf(errno: string): SendEnd {
  if (errno === 'EINTR') return 'done';
  return errno === 'EAGAIN' || errno === 'ENOBUFS' || errno === 'ENOMEM' ? 'full' : 'gone';
}
