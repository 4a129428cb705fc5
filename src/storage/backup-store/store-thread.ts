/** The owner's side of a task on a store. */
import { Worker } from 'node:worker_threads';
import type { StoreConfig } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import type { FromStoreWorker, StoreTaskName, StoreTasks, ToStoreWorker } from './tasks.ts';

const ENTRY = new URL(`./store-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export interface TaskOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** A thread with one task. */
export class StoreThread<K extends StoreTaskName> {
  /** Settles when the thread is gone. Rejects with AppErrors. */
  readonly result: Promise<StoreTasks[K]['result']>;
  readonly #worker: Worker;
  #onMessage: (message: FromStoreWorker) => void = () => undefined;

  constructor(store: StoreConfig, task: K, input: StoreTasks[K]['input']) {
    this.#worker = new Worker(ENTRY, { name: `backup ${task}`, workerData: { task, store, input } });
    this.result = this.#run();
    this.result.catch(() => undefined);
  }

  /** Messages other than the end. */
  onMessage(listener: (message: FromStoreWorker) => void): void {
    this.#onMessage = listener;
  }

  post(message: ToStoreWorker): void {
    this.#worker.postMessage(message);
  }

  /** Asks it to end. */
  cancel(): void {
    this.post({ type: 'cancel' });
  }

  async #run(): Promise<StoreTasks[K]['result']> {
    let end: Extract<FromStoreWorker, { type: 'done' | 'failed' }> | undefined;
    let crash: unknown;
    this.#worker.on('message', (message: FromStoreWorker) => {
      if (message.type === 'done' || message.type === 'failed') end = message;
      else this.#onMessage(message);
    });
    this.#worker.on('error', (error) => {
      crash = error;
    });
    await new Promise((resolve) => this.#worker.on('exit', resolve));
    if (end?.type === 'failed') throw AppError.fromPlain(end.error);
    if (end !== undefined) return end.result as StoreTasks[K]['result']; // INVARIANT: store-worker.ts answers so.
    throw new AppError('io_error', `the thread of the backup store ended: ${String(crash)}`, {
      cause: crash,
    });
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
  const thread = new StoreThread(store, task, input);
  const cancel = (): void => thread.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  thread.onMessage((message) => {
    if (message.type === 'progress') onProgress?.(message.done, message.total);
  });
  try {
    return await thread.result;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
