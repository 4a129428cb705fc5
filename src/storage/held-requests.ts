/** Requests that failed and are neither answered nor given up: they wait until somebody has them tried again. */

interface Held {
  readonly error: unknown;
  again(): void;
  fail(error: unknown): void;
}

export class HeldRequests {
  #held: Held[] = [];

  get count(): number {
    return this.#held.length;
  }

  /** Settles as `retry` does when `retryAll` is called, or rejects with `error` when `failAll` is. */
  hold(error: unknown, retry: () => void | Promise<void>): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const again = (): void => {
      try {
        resolve(retry());
      } catch (thrown) {
        reject(thrown);
      }
    };
    this.#held.push({ error, again, fail: reject });
    return promise;
  }

  /** In the order in which they failed. */
  retryAll(): void {
    for (const { again } of this.#held.splice(0)) again();
  }

  /** Each with the error that it met. */
  failAll(): void {
    for (const { error, fail } of this.#held.splice(0)) fail(error);
  }
}
