/** A compiler in a thread of its own, for all the VMs of a process. */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { THREAD_LIMITS } from '../v8.ts';

const WORKER = new URL(`./compile-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export class CompileService {
  #worker: Worker | undefined;

  /** Whether there is a thread now; there is none before the first VM. */
  get isRunning(): boolean {
    return this.#worker !== undefined;
  }

  /** A port for one VM's `CpuOptions.compiler`; it may be passed to another thread. */
  connect(): MessagePort {
    this.#worker ??= this.#start();
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage(port1, [port1]);
    return port2;
  }

  /** A thread that dies takes no VM with it: those that it served interpret what is not compiled yet. */
  #start(): Worker {
    const worker = new Worker(WORKER, { name: 'compiler', execArgv: [], resourceLimits: THREAD_LIMITS });
    worker.unref();
    worker.on('error', (error) => process.emitWarning(error as Error));
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
    });
    return worker;
  }
}
