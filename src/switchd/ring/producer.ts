/** The writing end of a ring. One per ring; used by one thread. */
import {
  BASE,
  DROPPED,
  ENTRY_HEADER_BYTES,
  entryBytes,
  FRAME_BYTES_MAX,
  HEAD,
  type RingViews,
  ROOM_WANTED,
  SKIP,
  TAIL,
  WAITING,
} from './layout.ts';

/** Up to this size a loop over words beats the setup cost of TypedArray.prototype.set. */
const WORD_COPY_BYTES_MAX = 256;

/** A ring is used up to here before it is begun anew, where that is possible. */
const REWIND_BYTES = 8192;

/**
 * A frame in memory, as a ring holds it: `offset` is 4 more than a multiple of 8 and `words` covers `bytes`. The two words
 * before it are its offloads.
 */
export interface FrameSource {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  offset: number;
  length: number;
}

export class RingProducer {
  readonly #header: Int32Array;
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #size: number;
  #head: number;
  #base: number;
  /** The consumer's tail when last looked at: it can only have moved on since. */
  #tail: number;
  #published: number;
  readonly #wake: () => void;

  /** `wake` gets a consumer's thread to go on that does not sleep on the ring, but has armed it. */
  constructor(views: RingViews, wake?: () => void) {
    this.#header = views.header;
    this.#wake = wake ?? (() => Atomics.notify(views.header, WAITING));
    this.#words = views.words;
    this.#bytes = views.bytes;
    this.#size = views.bytes.length;
    this.#head = Atomics.load(views.header, HEAD) & ~7;
    this.#base = Atomics.load(views.header, BASE) & ~7;
    this.#tail = Atomics.load(views.header, TAIL);
    this.#published = this.#head;
  }

  /** Copies a frame in; the consumer sees it after `publish`. False: no room, the frame is dropped and counted. */
  push(frame: FrameSource): boolean {
    const { length, offset } = frame;
    if (this.#published === this.#head) this.#rewind();
    const at = this.#reserve(length);
    if (at < 0) return false;
    const to = this.#words;
    const from = frame.words;
    let source = (offset >> 2) - 2;
    let target = at >> 2;
    to[target++] = length;
    to[target++] = from[source++]!;
    to[target++] = from[source++]!;
    if (length <= WORD_COPY_BYTES_MAX) {
      const count = (length + 3) >> 2;
      for (let i = 0; i < count; i++) to[target++] = from[source++]!;
    } else {
      this.#bytes.set(frame.bytes.subarray(offset, offset + length), at + ENTRY_HEADER_BYTES);
    }
    this.#head = (this.#head + entryBytes(length)) | 0;
    return true;
  }

  /** As `push`, from consecutive pieces, but only when there is room: a frame that is too long is dropped. */
  pushPieces(pieces: readonly Uint8Array[], checksum: number, segmentation: number): boolean {
    let length = 0;
    for (const piece of pieces) length += piece.length;
    if (this.#published === this.#head) this.#rewind();
    if (length <= FRAME_BYTES_MAX && !this.#hasRoom(this.#need(length))) return false;
    const at = this.#reserve(length);
    if (at < 0) return true;
    const word = at >> 2;
    this.#words[word] = length;
    this.#words[word + 1] = checksum;
    this.#words[word + 2] = segmentation;
    let target = at + ENTRY_HEADER_BYTES;
    for (const piece of pieces) {
      this.#bytes.set(piece, target);
      target += piece.length;
    }
    this.#head = (this.#head + entryBytes(length)) | 0;
    return true;
  }

  /** Makes everything pushed visible and wakes the consumer if it waits. */
  publish(): void {
    if (this.#published === this.#head) return;
    this.#published = this.#head;
    Atomics.store(this.#header, HEAD, this.#head);
    // The consumer sets WAITING before it looks at HEAD a last time, so one of both sees the other's store.
    if (Atomics.load(this.#header, WAITING) === 0) return;
    if (Atomics.exchange(this.#header, WAITING, 0) === 1) this.#wake();
  }

  /** Calls `ready` once, later, when the consumer has made room since the last frame that found none, or may have. */
  waitForRoom(ready: () => void): void {
    const header = this.#header;
    Atomics.store(header, ROOM_WANTED, 1);
    // Looks again after the store: the consumer stores TAIL before it looks at ROOM_WANTED.
    if (Atomics.load(header, TAIL) !== this.#tail) {
      Atomics.store(header, ROOM_WANTED, 0);
      queueMicrotask(ready);
      return;
    }
    const result = Atomics.waitAsync(header, ROOM_WANTED, 1);
    void (result.async ? result.value : Promise.resolve()).then(ready);
  }

  /**
   * Begins an empty ring anew at the start of its data: a port with little to say stays in the same memory, which is in the
   * processor's caches. The consumer looks at BASE after it has seen a new HEAD, and until it has released all, it stays.
   */
  #rewind(): void {
    if (((this.#head - this.#base) & (this.#size - 1)) < REWIND_BYTES) return;
    this.#tail = Atomics.load(this.#header, TAIL);
    if (this.#tail !== this.#head) return;
    this.#base = this.#head;
    Atomics.store(this.#header, BASE, this.#base);
  }

  /** Offset of an entry for `length` bytes, after a SKIP where needed; −1 if it must be dropped. */
  #reserve(length: number): number {
    if (length > FRAME_BYTES_MAX) return this.#drop();
    if (!this.#hasRoom(this.#need(length))) return this.#drop();
    let at = (this.#head - this.#base) & (this.#size - 1);
    const toEnd = this.#size - at;
    if (entryBytes(length) > toEnd) {
      this.#words[at >> 2] = SKIP | 0;
      this.#head = (this.#head + toEnd) | 0;
      at = 0;
    }
    return at;
  }

  /** Bytes of the ring that a frame takes, with the rest before the end where it does not fit in. */
  #need(length: number): number {
    const need = entryBytes(length);
    const toEnd = this.#size - ((this.#head - this.#base) & (this.#size - 1));
    return need <= toEnd ? need : toEnd + need;
  }

  #hasRoom(bytes: number): boolean {
    if (this.#size - ((this.#head - this.#tail) >>> 0) >= bytes) return true;
    const tail = Atomics.load(this.#header, TAIL);
    // A tail that is ahead of the head or off the grid is a broken consumer's: no room until it is sane.
    if ((tail & 7) !== 0 || (this.#head - tail) >>> 0 > this.#size) return false;
    this.#tail = tail;
    return this.#size - ((this.#head - tail) >>> 0) >= bytes;
  }

  #drop(): number {
    // Single writer: no read-modify-write is needed.
    Atomics.store(this.#header, DROPPED, (Atomics.load(this.#header, DROPPED) + 1) | 0);
    return -1;
  }
}
