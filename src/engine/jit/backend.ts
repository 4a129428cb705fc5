/** Who compiles regions: the VM's own thread, or another one beside it. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { ExportedFunction } from '../wasm/module-reader.ts';
import {
  type CompileRequest,
  type TranslatedRegion,
  Translator,
  type TranslatorOptions,
} from './translator.ts';

/** A compiled module and what its functions are. */
export interface CompiledModule {
  readonly module: WebAssembly.Module;
  readonly bytes: number;
  readonly regions: readonly TranslatedRegion[];
  /** Time that it took. */
  readonly ms: number;
}

/** Requests that no region is made for. */
export interface TurnedAway {
  /** To be asked again if their blocks are hot once more. */
  readonly deferred: CompileRequest[];
  /** Nothing comes of them. */
  readonly refused: CompileRequest[];
}

/** What became of requests. */
export interface Compilation extends TurnedAway {
  readonly modules: readonly CompiledModule[];
}

export interface CompilerBackend {
  /** There is work for some time: what is not asked for now is not missed. */
  readonly isBusy: boolean;
  request(request: CompileRequest): void;
  /** What has come of the requests since the last call. */
  collect(): Compilation;
  /** Forgets what was requested. */
  clear(): void;
}

/** Regions in a module. */
export const BATCH = 8;

/** Requests without an answer from which on the compiler is busy. */
const BACKLOG = 8;

export const noneTurnedAway = (): TurnedAway => ({ deferred: [], refused: [] });

/** Gives a request to a translator, and notes it where that turns it away. */
export function offer(translator: Translator, request: CompileRequest, turnedAway: TurnedAway): void {
  const verdict = translator.add(request);
  if (verdict !== 'taken') turnedAway[verdict].push(request);
}

/** Writes and compiles the translator's pending regions. */
export function compilePending(translator: Translator, started: number): CompiledModule | undefined {
  const translation = translator.finish();
  if (translation === undefined) return undefined;
  const module = new WebAssembly.Module(translation.bytes as Uint8Array<ArrayBuffer>);
  const { bytes, regions } = translation;
  return { module, bytes: bytes.length, regions, ms: performance.now() - started };
}

/** Compiles in the thread that asks, when it collects. */
export class LocalBackend implements CompilerBackend {
  readonly isBusy = false;
  readonly #translator: Translator;
  #turnedAway = noneTurnedAway();
  #ms = 0;

  constructor(
    buffer: ArrayBufferLike,
    signatures: ReadonlyMap<string, ExportedFunction>,
    options: TranslatorOptions,
  ) {
    this.#translator = new Translator(buffer, signatures, options);
  }

  request(request: CompileRequest): void {
    const started = performance.now();
    offer(this.#translator, request, this.#turnedAway);
    this.#ms += performance.now() - started;
  }

  collect(): Compilation {
    const module = compilePending(this.#translator, performance.now() - this.#ms);
    const modules = module === undefined ? [] : [module];
    const compilation = { modules, ...this.#turnedAway };
    this.#ms = 0;
    this.#turnedAway = noneTurnedAway();
    return compilation;
  }

  clear(): void {
    this.#turnedAway = noneTurnedAway();
    this.#translator.clear();
  }
}

/** Has the thread at the other end of a port compile (`compile-worker.ts`). */
export class RemoteBackend implements CompilerBackend {
  readonly #port: MessagePort;
  /** Requests without an answer. */
  #waiting = 0;

  /** @param buffer of a shared memory */
  constructor(
    port: MessagePort,
    buffer: ArrayBufferLike,
    signatures: ReadonlyMap<string, ExportedFunction>,
    options: TranslatorOptions,
  ) {
    this.#port = port;
    const introduction: Introduction = { buffer, signatures, options };
    port.postMessage(introduction);
    port.unref();
  }

  get isBusy(): boolean {
    return this.#waiting >= BACKLOG;
  }

  request(request: CompileRequest): void {
    this.#waiting += 1;
    this.#port.postMessage(request);
  }

  collect(): Compilation {
    const modules: CompiledModule[] = [];
    const { deferred, refused } = noneTurnedAway();
    while (this.#waiting > 0) {
      const received = receiveMessageOnPort(this.#port) as { message: RemoteAnswer } | undefined;
      if (received === undefined) break;
      const { answered, compiled } = received.message;
      this.#waiting -= answered;
      if (compiled !== undefined) modules.push(compiled);
      deferred.push(...received.message.deferred);
      refused.push(...received.message.refused);
    }
    return { modules, deferred, refused };
  }

  clear(): void {
    // What is under way is of an earlier epoch.
  }
}

/** The first message of a VM to the compiler's thread; the others are `CompileRequest`s. */
export interface Introduction {
  readonly buffer: ArrayBufferLike;
  readonly signatures: ReadonlyMap<string, ExportedFunction>;
  readonly options: TranslatorOptions;
}

/** An answer of the compiler's thread: how many requests it is about, and what came of them. */
export interface RemoteAnswer extends TurnedAway {
  readonly answered: number;
  readonly compiled: CompiledModule | undefined;
}
