/** The reading end of a ring. One per ring; used by one thread. Trusts nothing that the producer wrote. */
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
import type { FrameSource } from './producer.ts';

/** The producer's end is broken: its positions or lengths cannot be right. */
export class RingCorruptError extends Error {
  constructor(detail: string) {
    super(`corrupt frame ring: ${detail}`);
    this.name = 'RingCorruptError';
  }
}

export class RingConsumer implements FrameSource {
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  /** Of the frame that `next` found, in `bytes`. */
  offset = 0;
  /** Of the frame that `next` found, in bytes. */
  length = 0;

  readonly #header: Int32Array;
  readonly #size: number;
  /** After the current frame. */
  #position: number;
  /** The producer's head when last looked at, and the base that belongs to it. */
  #head: number;
  #base: number;
  #released: number;
  #closed = false;

  constructor(views: RingViews) {
    this.#header = views.header;
    this.words = views.words;
    this.bytes = views.bytes;
    this.#size = views.bytes.length;
    this.#position = Atomics.load(views.header, TAIL) & ~7;
    this.#head = this.#position;
    this.#base = this.#loadBase();
    this.#released = this.#position;
  }

  /** Frames that the producer dropped for want of room, modulo 2^32. */
  get dropped(): number {
    return Atomics.load(this.#header, DROPPED) >>> 0;
  }

  /**
   * Goes to the next frame: `offset` and `length` describe it until the next call of `release`.
   * False when there is none. Throws RingCorruptError.
   */
  next(): boolean {
    if (this.#position === this.#head && !this.#look()) return false;
    let at = (this.#position - this.#base) & (this.#size - 1);
    let length = this.words[at >> 2]! >>> 0;
    if (length === SKIP) {
      this.#advance(this.#size - at, 'skip');
      if (this.#position === this.#head) throw new RingCorruptError('nothing after a skip');
      at = 0;
      length = this.words[0]! >>> 0;
    }
    if (length > FRAME_BYTES_MAX) throw new RingCorruptError(`frame of ${length} bytes`);
    const need = entryBytes(length);
    if (need > this.#size - at) throw new RingCorruptError('frame over the end');
    this.#advance(need, 'frame');
    this.offset = at + ENTRY_HEADER_BYTES;
    this.length = length;
    return true;
  }

  /** Gives the room of all frames up to and with the current one back to the producer. */
  release(): void {
    if (this.#released === this.#position) return;
    this.#released = this.#position;
    const header = this.#header;
    Atomics.store(header, TAIL, this.#position);
    // The producer sets ROOM_WANTED before it looks at TAIL a last time.
    if (Atomics.load(header, ROOM_WANTED) === 0) return;
    if (Atomics.exchange(header, ROOM_WANTED, 0) === 1) Atomics.notify(header, ROOM_WANTED);
  }

  /** Forgets everything in the ring, also what is broken. */
  reset(): void {
    this.#head = Atomics.load(this.#header, HEAD) & ~7;
    this.#position = this.#head;
    this.#base = this.#loadBase();
    this.release();
  }

  /**
   * Calls `wake` once, later, when there is a frame or there may be one. Never calls it from inside.
   * A pending wait does not keep the thread alive.
   */
  wait(wake: () => void): void {
    if (this.#closed) return;
    const header = this.#header;
    Atomics.store(header, WAITING, 1);
    // Looks again after the store: the producer stores HEAD before it looks at WAITING.
    if (Atomics.load(header, HEAD) !== this.#position) {
      Atomics.store(header, WAITING, 0);
      queueMicrotask(() => this.#wake(wake));
      return;
    }
    const result = Atomics.waitAsync(header, WAITING, 1);
    const woken = result.async ? result.value : Promise.resolve();
    void woken.then(() => this.#wake(wake));
  }

  /**
   * For a thread that sleeps on something else: from now on the producer's `wake` is called, once, for the next frame.
   * False: there is a frame already.
   */
  arm(): boolean {
    Atomics.store(this.#header, WAITING, 1);
    if (Atomics.load(this.#header, HEAD) === this.#position) return true;
    Atomics.store(this.#header, WAITING, 0);
    return false;
  }

  /** Ends a pending wait without calling its function; no further waits. */
  close(): void {
    this.#closed = true;
    Atomics.store(this.#header, WAITING, 0);
    Atomics.notify(this.#header, WAITING);
  }

  #wake(wake: () => void): void {
    if (!this.#closed) wake();
  }

  #look(): boolean {
    const head = Atomics.load(this.#header, HEAD);
    if (head === this.#position) return false;
    if ((head & 7) !== 0) throw new RingCorruptError(`head ${head >>> 0} is not a multiple of 8`);
    const used = (head - this.#released) >>> 0;
    if (used > this.#size) throw new RingCorruptError(`${used} bytes used of ${this.#size}`);
    this.#head = head;
    this.#base = this.#loadBase();
    return true;
  }

  /** Whatever is there, it leads to a place within the data. */
  #loadBase(): number {
    return Atomics.load(this.#header, BASE) & ~7;
  }

  #advance(bytes: number, what: string): void {
    if (bytes > (this.#head - this.#position) >>> 0) throw new RingCorruptError(`${what} beyond the head`);
    this.#position = (this.#position + bytes) | 0;
  }
}
