/** An instance of the engine's core alone, for tests that call its functions directly. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MAX_PAGES = 65536;

export interface CoreInstance {
  readonly view: DataView;
  readonly bytes: Uint8Array;
  /** Calls an exported function. i64 parameters and results are bigints. */
  call(name: string, ...args: (number | bigint)[]): number | bigint;
  /** An exported function, for calls in loops. */
  fn<T extends (...args: never[]) => unknown>(name: string): T;
}

/**
 * Instantiates `build/core.wasm` (or the file that CORE_WASM names) over a fresh memory of 16 MiB;
 * its imports do nothing.
 */
export function coreInstance(): CoreInstance {
  const path = process.env.CORE_WASM ?? fileURLToPath(new URL('../../build/core.wasm', import.meta.url));
  const module = new WebAssembly.Module(readFileSync(path));
  const memory = new WebAssembly.Memory({ initial: 256, maximum: MAX_PAGES, shared: true });
  // Whatever the core imports besides its memory is a function.
  const env = new Proxy<Record<string, WebAssembly.ImportValue>>(
    {},
    { get: (_, name) => (name === 'memory' ? memory : () => 0) },
  );
  const exports = new WebAssembly.Instance(module, { env }).exports;
  const fn = (name: string): ((...args: unknown[]) => number | bigint) => {
    const value = exports[name];
    if (typeof value !== 'function') throw new Error(`the core does not export ${name}`);
    return value as (...args: unknown[]) => number | bigint;
  };
  return {
    view: new DataView(memory.buffer),
    bytes: new Uint8Array(memory.buffer),
    call: (name, ...args) => fn(name)(...args),
    fn: <T>(name: string) => fn(name) as T,
  };
}
