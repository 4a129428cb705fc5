/**
 * The threads that work on stores. Starting one takes longer than a small task, so those that have nothing to do are kept for a
 * while. Who needs a processor for itself has a thread for itself; the readers of files, which mostly wait for whoever they read
 * for, share two.
 */
import { MessageChannel, type MessagePort, SHARE_ENV, Worker } from 'node:worker_threads';
import { MANNERS, type StoreJob, type TaskManner, type ToStoreThread } from './tasks.ts';

const ENTRY = new URL(`./store-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
/** Threads that readers share. */
const SHARED_MAX = 2;
const IDLE_MS = 60_000;
/** Of a manner that are kept with nothing to do. */
const IDLE_MAX = 1;

export interface StartedTask {
  /** The owner's end of the channel to the task; it may be passed to another thread. The task is canceled when it closes. */
  readonly port: MessagePort;
  /** Resolves when the task has let go of the store. Never rejects. */
  readonly ended: Promise<void>;
  /** Asks it to end, whoever has the port. */
  cancel(): void;
}

/** Begins a task. */
export function startStoreTask(job: StoreJob): StartedTask {
  return threadFor(MANNERS[job.task]).start(job);
}

const threads = new Set<StoreThread>();

function threadFor(manner: TaskManner): StoreThread {
  const those = [...threads].filter((thread) => thread.manner === manner);
  const [least] = those.toSorted((a, b) => a.tasks - b.tasks);
  if (least?.tasks === 0 || (manner === 'shared' && those.length >= SHARED_MAX)) return least!;
  return new StoreThread(manner);
}

class StoreThread {
  readonly manner: TaskManner;
  readonly #worker: Worker;
  /** What ends them. */
  readonly #tasks = new Map<number, () => void>();
  #nextId = 1;
  #idle: NodeJS.Timeout | undefined;

  constructor(manner: TaskManner) {
    this.manner = manner;
    const name = `backup store, ${manner}`;
    this.#worker = new Worker(ENTRY, { name, workerData: { manner }, env: SHARE_ENV });
    this.#worker.on('message', (id: number) => this.#ended(id));
    // After that: who listens keeps it. A task's port keeps its owner's thread alive, an idle thread does not.
    this.#worker.unref();
    // Owners see their ports close; the cause is for the log.
    this.#worker.on('error', (error) => process.emitWarning(error as Error));
    this.#worker.on('exit', () => {
      threads.delete(this);
      for (const end of this.#tasks.values()) end();
    });
    threads.add(this);
  }

  get tasks(): number {
    return this.#tasks.size;
  }

  start(job: StoreJob): StartedTask {
    clearTimeout(this.#idle);
    const id = this.#nextId++;
    const { port1, port2 } = new MessageChannel();
    this.#post({ type: 'start', id, job, port: port1 }, [port1]);
    const ended = new Promise<void>((resolve) => this.#tasks.set(id, resolve));
    return { port: port2, ended, cancel: () => this.#post({ type: 'cancel', id }) };
  }

  #post(message: ToStoreThread, transfer: MessagePort[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #ended(id: number): void {
    this.#tasks.get(id)?.();
    this.#tasks.delete(id);
    if (this.tasks > 0) return;
    const idle = [...threads].filter((thread) => thread.manner === this.manner && thread.tasks === 0);
    if (idle.length > IDLE_MAX) this.#end();
    else this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref();
  }

  #end(): void {
    threads.delete(this);
    void this.#worker.terminate();
  }
}
