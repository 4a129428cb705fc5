/** A limit with bursts: `rate` per second on average, `burst` at once. What is larger than the rest makes a debt. */
export class TokenBucket {
  readonly rate: number;
  readonly burst: number;
  #tokens: number;
  #at = Number.NEGATIVE_INFINITY;

  constructor(rate: number, burst: number) {
    this.rate = rate;
    this.burst = burst;
    this.#tokens = burst;
  }

  /** True when there is something left; a token may be taken below zero. `now` in seconds of a monotonic clock. */
  has(now: number): boolean {
    if (now > this.#at) {
      if (this.#at > Number.NEGATIVE_INFINITY) {
        this.#tokens = Math.min(this.burst, this.#tokens + (now - this.#at) * this.rate);
      }
      this.#at = now;
    }
    return this.#tokens > 0;
  }

  take(cost: number): void {
    this.#tokens -= cost;
  }
}
