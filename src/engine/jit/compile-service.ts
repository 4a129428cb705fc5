/** A compiler in a thread of its own, for all the VMs of a process. */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { THREAD_LIMITS } from '../v8.ts';

const WORKER = new URL(`./compile-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export class CompileService {
  readonly #worker = new Worker(WORKER, {
    name: 'compiler',
    execArgv: [],
    resourceLimits: THREAD_LIMITS,
  });

  constructor() {
    this.#worker.unref();
  }

  /** A port for one VM's `CpuOptions.compiler`; it may be passed to another thread. */
  connect(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage(port1, [port1]);
    return port2;
  }
}
