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
