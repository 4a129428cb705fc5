/** Keeps work in the background from taking all of a disk's bandwidth. */
import { setTimeout } from 'node:timers/promises';

export class RateLimit {
  readonly #bytesPerMs: number;
  #begun = performance.now();
  #spent = 0;

  /** Undefined: as fast as it goes. */
  constructor(bytesPerSecond: number | undefined) {
    this.#bytesPerMs = bytesPerSecond === undefined ? Number.POSITIVE_INFINITY : bytesPerSecond / 1000;
  }

  /** Resolves when so many bytes are within the limit. Rejects with the signal's reason when that is aborted meanwhile. */
  async spend(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    const earned = (now - this.#begun) * this.#bytesPerMs;
    // What was not used in an idle second is not saved up.
    if (earned - this.#spent > this.#bytesPerMs * 1000) {
      this.#begun = now;
      this.#spent = 0;
    }
    this.#spent += bytes;
    const waitMs = this.#begun + this.#spent / this.#bytesPerMs - now;
    if (waitMs <= 1) return;
    try {
      await setTimeout(waitMs, undefined, { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }
}
