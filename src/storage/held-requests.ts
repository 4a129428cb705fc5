/** Requests that failed and are neither answered nor given up: they wait until somebody has them tried again. */

interface Held {
  readonly error: unknown;
  /** Settles when it has been tried, whatever came of it. */
  again(): Promise<void>;
  fail(error: unknown): void;
}

export class HeldRequests {
  #held: Held[] = [];

  get count(): number {
    return this.#held.length;
  }

  /**
   * Settles as `retry` does when `retryAll` is called, or rejects with `error` when `failAll` is. `retry` says when it
   * has tried: it may hold the request again.
   */
  hold(error: unknown, retry: (tried: () => void) => void | Promise<void>): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const again = (): Promise<void> => {
      const { promise: isTried, resolve: tried } = Promise.withResolvers<void>();
      try {
        resolve(retry(tried));
      } catch (thrown) {
        reject(thrown);
      }
      return isTried;
    };
    this.#held.push({ error, again, fail: reject });
    return promise;
  }

  /** In the order in which they failed; resolves when all have been tried. */
  async retryAll(): Promise<void> {
    await Promise.all(this.#held.splice(0).map(({ again }) => again()));
  }

  /** Each with the error that it met. */
  failAll(): void {
    for (const { error, fail } of this.#held.splice(0)) fail(error);
  }
}
