/** A task's end of the channel to its owner. */
import type { MessagePort, Transferable } from 'node:worker_threads';
import type { TaskControl } from './restore.ts';
import type { FromStoreTask, ToStoreTask } from './tasks.ts';

/** Progress is told in about so many steps. */
const PROGRESS_STEPS = 200;

export class TaskChannel implements TaskControl {
  /** The owner has asked for the end, or is gone. */
  readonly signal: AbortSignal;
  readonly #abort = new AbortController();
  readonly #port: MessagePort;
  #told = 0;

  constructor(port: MessagePort) {
    this.#port = port;
    this.signal = this.#abort.signal;
    this.onMessage(({ type }) => {
      if (type === 'cancel') this.cancel();
    });
    port.on('close', () => this.cancel());
  }

  cancel(): void {
    this.#abort.abort();
  }

  onMessage(listener: (message: ToStoreTask) => void): void {
    this.#port.on('message', listener);
  }

  post(message: FromStoreTask, transfer: Transferable[] = []): void {
    this.#port.postMessage(message, transfer);
  }

  progress(done: number, total: number): void {
    if (done < total && done < this.#told + total / PROGRESS_STEPS) return;
    this.#told = done;
    this.post({ type: 'progress', done, total });
  }

  close(): void {
    this.#port.close();
  }
}
