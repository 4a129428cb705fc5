/** Flushes one after the other; those asked for while one waits share it. */
export class Flusher {
  readonly #flush: () => Promise<void>;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  /** `flush` covers everything that finished before it is called. */
  constructor(flush: () => Promise<void>) {
    this.#flush = flush;
  }

  /** No flush is running or asked for. */
  get idle(): boolean {
    return this.#running === undefined && this.#next === undefined;
  }

  request(): Promise<void> {
    if (this.#running === undefined) return this.#start();
    this.#next ??= this.#running.then(
      () => this.#startNext(),
      () => this.#startNext(),
    );
    return this.#next;
  }

  #startNext(): Promise<void> {
    this.#next = undefined;
    return this.#start();
  }

  #start(): Promise<void> {
    const run = this.#flush().finally(() => {
      if (this.#running === run) this.#running = undefined;
    });
    this.#running = run;
    return run;
  }
}
