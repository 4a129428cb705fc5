/** Bytes on their way to a guest that it has not acknowledged: a ring that grows with what is in it, within a budget. */

const BYTES_MIN = 16 * 1024;
export const SEND_BYTES_MAX = 512 * 1024;

/** Memory that many connections share: when it is spent, each gets along with little. */
export class Budget {
  used = 0;
  readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  get isSpent(): boolean {
    return this.used >= this.limit;
  }
}

export class SendBuffer {
  length = 0;
  readonly #budget: Budget;
  #bytes = new Uint8Array(0);
  #first = 0;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Who feeds it may go on. */
  get hasRoom(): boolean {
    return this.length < (this.#budget.isSpent ? BYTES_MIN : SEND_BYTES_MAX / 2);
  }

  /** Adds all of it: who feeds it stops when there is no room, so it overshoots by one read at most. */
  append(data: Uint8Array): void {
    const needed = this.length + data.length;
    if (needed > this.#bytes.length) this.#grow(needed);
    const size = this.#bytes.length;
    const at = (this.#first + this.length) % size;
    const toEnd = Math.min(data.length, size - at);
    this.#bytes.set(data.subarray(0, toEnd), at);
    this.#bytes.set(data.subarray(toEnd), 0);
    this.length = needed;
  }

  /** Copies `count` bytes from `offset` on. */
  copyTo(target: Uint8Array, at: number, offset: number, count: number): void {
    const size = this.#bytes.length;
    const from = (this.#first + offset) % size;
    const toEnd = Math.min(count, size - from);
    target.set(this.#bytes.subarray(from, from + toEnd), at);
    if (toEnd < count) target.set(this.#bytes.subarray(0, count - toEnd), at + toEnd);
  }

  /** Forgets the first `count` bytes. */
  drop(count: number): void {
    this.length -= count;
    this.#first = this.length === 0 ? 0 : (this.#first + count) % this.#bytes.length;
    // What a burst has made large is given back when it is over.
    if (this.length === 0 && this.#bytes.length > 4 * BYTES_MIN) this.free();
  }

  free(): void {
    this.#budget.used -= this.#bytes.length;
    this.#bytes = new Uint8Array(0);
    this.#first = 0;
    this.length = 0;
  }

  #grow(needed: number): void {
    let size = Math.max(BYTES_MIN, this.#bytes.length);
    while (size < needed) size *= 2;
    const grown = new Uint8Array(size);
    if (this.length > 0) this.copyTo(grown, 0, 0, this.length);
    this.#budget.used += size - this.#bytes.length;
    this.#bytes = grown;
    this.#first = 0;
  }
}
