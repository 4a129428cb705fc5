/** The owner's side of a task on a store. */
import type { MessagePort } from 'node:worker_threads';
import type { StoreConfig } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import { startStoreTask } from './store-threads.ts';
import type { FromStoreTask, StoreJob, StoreTaskName, StoreTasks, ToStoreTask } from './tasks.ts';

export interface TaskOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export class StoreTask<K extends StoreTaskName> {
  /** Settles when the task has let go of the store. Rejects with AppErrors. */
  readonly result: Promise<StoreTasks[K]['result']>;
  readonly #port: MessagePort;
  #onMessage: (message: FromStoreTask) => void = () => undefined;

  /** @param port to a task of this kind */
  constructor(port: MessagePort) {
    this.#port = port;
    this.result = this.#run();
    this.result.catch(() => undefined);
  }

  /** Begins it. */
  static start<K extends StoreTaskName>(
    store: StoreConfig,
    task: K,
    input: StoreTasks[K]['input'],
  ): StoreTask<K> {
    // INVARIANT: the task and its input belong together.
    return new StoreTask<K>(startStoreTask({ store, task, input } as StoreJob).port);
  }

  /** Messages other than the end. */
  onMessage(listener: (message: FromStoreTask) => void): void {
    this.#onMessage = listener;
  }

  post(message: ToStoreTask): void {
    this.#port.postMessage(message);
  }

  /** Asks it to end. */
  cancel(): void {
    this.post({ type: 'cancel' });
  }

  async #run(): Promise<StoreTasks[K]['result']> {
    let end: Extract<FromStoreTask, { type: 'done' | 'failed' }> | undefined;
    this.#port.on('message', (message: FromStoreTask) => {
      if (message.type === 'done' || message.type === 'failed') end = message;
      else this.#onMessage(message);
    });
    await new Promise<void>((resolve) => this.#port.on('close', resolve));
    if (end?.type === 'failed') throw AppError.fromPlain(end.error);
    if (end !== undefined) return end.result as StoreTasks[K]['result']; // INVARIANT: store-worker.ts answers so.
    throw new AppError('io_error', 'the thread of the backup store has ended');
  }
}

/** Does a task. AppErrors of the task, `canceled`. */
export async function runStoreTask<K extends StoreTaskName>(
  store: StoreConfig,
  task: K,
  input: StoreTasks[K]['input'],
  { signal, onProgress }: TaskOptions = {},
): Promise<StoreTasks[K]['result']> {
  if (signal?.aborted) throw new AppError('canceled', 'it was canceled on request');
  const running = StoreTask.start(store, task, input);
  const cancel = (): void => running.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  running.onMessage((message) => {
    if (message.type === 'progress') onProgress?.(message.done, message.total);
  });
  try {
    return await running.result;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
