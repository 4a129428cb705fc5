import type { JobEvent } from '../contracts/jobs.ts';

/** Those who want to hear of jobs. A listener that throws is reported and harms neither job nor scheduler. */
export class JobListeners {
  readonly #listeners = new Set<(event: JobEvent) => void>();
  readonly #onError: (error: unknown) => void;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  add(listener: (event: JobEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  emit(event: JobEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#onError(error);
      }
    }
  }
}
