/** Runs tasks one after another, so that nothing comes between a task's check of a state and its change. */
export class SerialQueue {
  #tail: Promise<unknown> = Promise.resolve();

  run<T>(task: () => Promise<T> | T): Promise<T> {
    const result = this.#tail.then(task);
    // The next task does not care how this one ended; its caller is told through `result`.
    this.#tail = result.catch(() => undefined);
    return result;
  }
}

/** A queue for each key. Keys for which nothing is to be done take no memory. */
export class SerialQueues {
  readonly #queues = new Map<string, { readonly queue: SerialQueue; tasks: number }>();

  /** Keys for which something is to be done. */
  get size(): number {
    return this.#queues.size;
  }

  async run<T>(key: string, task: () => Promise<T> | T): Promise<T> {
    const entry = this.#queues.get(key) ?? { queue: new SerialQueue(), tasks: 0 };
    this.#queues.set(key, entry);
    entry.tasks++;
    try {
      return await entry.queue.run(task);
    } finally {
      entry.tasks--;
      if (entry.tasks === 0) this.#queues.delete(key);
    }
  }

  /** All that was begun is done. */
  async settled(): Promise<void> {
    await Promise.all([...this.#queues.values()].map(({ queue }) => queue.run(() => undefined)));
  }
}
