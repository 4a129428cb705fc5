/** The data path's worker thread, seen from the control side. */
import { Worker } from 'node:worker_threads';
import { AppError } from '../../contracts/errors.ts';
import { descriptorMemory } from './descriptors.ts';
import { libc, openEventFd, signalEventFd } from './libc.ts';
import type {
  DataRequest,
  DataWorkerOptions,
  FromDataWorker,
  StationReport,
  ToDataWorker,
  UmlPortInfo,
} from './messages.ts';

// Run from source or from the built package.
const WORKER = new URL(`./data-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

interface Options {
  readonly hub: boolean;
  /** `wakeFd` is the caller's to close, after the worker's end. */
  readonly trunk?: { readonly ring: SharedArrayBuffer; readonly wakeFd: number } | undefined;
  readonly onStation?: ((report: StationReport) => void) | undefined;
  readonly onError: (error: Error) => void;
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class DataWorker {
  readonly #options: Options;
  readonly #wakeFd: number;
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #exited = Promise.withResolvers<void>();
  #nextId = 1;
  #ended: Error | undefined;
  #closing = false;

  constructor(options: Options) {
    this.#options = options;
    this.#wakeFd = options.trunk?.wakeFd ?? openEventFd();
    const workerData: DataWorkerOptions = {
      hub: options.hub,
      reportStations: options.onStation !== undefined,
      wakeFd: this.#wakeFd,
      ring: options.trunk?.ring,
      descriptors: descriptorMemory(),
    };
    this.#worker = new Worker(WORKER, { name: 'uml-switch', workerData });
    this.#worker.on('message', (message: FromDataWorker) => this.#receive(message));
    this.#worker.on('error', (error: unknown) => this.#end(error));
    this.#worker.on('exit', (code) => {
      this.#end(new Error(`exit status ${code}`));
      if (options.trunk === undefined) libc().close(this.#wakeFd);
      this.#exited.resolve();
    });
  }

  request(request: DataRequest): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const id = this.#nextId++;
    const message: ToDataWorker = { id, request };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage(message);
      signalEventFd(this.#wakeFd);
    });
  }

  async ports(): Promise<UmlPortInfo[]> {
    return (await this.request({ type: 'ports' })) as UmlPortInfo[];
  }

  async close(): Promise<void> {
    this.#closing = true;
    if (this.#ended === undefined) await this.request({ type: 'stop' }).catch(() => undefined);
    await this.#exited.promise;
  }

  #receive(message: FromDataWorker): void {
    if (message.type === 'station') {
      this.#options.onStation?.(message.report);
      return;
    }
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.type === 'reply') waiting?.resolve(message.result);
    else waiting?.reject(AppError.fromPlain(message.error));
  }

  #end(cause: unknown): void {
    if (this.#ended !== undefined) return;
    const reason = cause instanceof Error ? cause.message : String(cause);
    this.#ended = new AppError('unreachable', `the switch's data path has ended: ${reason}`, { cause });
    for (const waiting of this.#waiting.values()) waiting.reject(this.#ended);
    this.#waiting.clear();
    if (!this.#closing) this.#options.onError(this.#ended);
  }
}
