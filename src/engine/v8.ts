/**
 * What the engine asks of V8, in one place; tied to the Node that package.json names, whose V8 it was measured on.
 *
 * bin/umlaut.mjs has what can only be said when the process starts.
 *
 * --expose-gc: V8 collects when its own heap grows. The machine code of a WebAssembly module lies outside of it, behind
 * an object of some hundred bytes, so that modules without use would stay for hours. Whoever lets modules go says how
 * large they were, and now and then has their memory collected. A collection takes some milliseconds: a VM's thread has
 * a small heap.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** For threads that run or compile guests: hardly any garbage, and what lives is small. The guest's memory is outside. */
export const THREAD_LIMITS = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 3 } as const;

/** Bytes of WebAssembly that may wait for a collection; machine code is several times as large. */
const RECLAIM_BYTES = 3 << 20;

let collect: (() => void) | undefined;

/** Collects all garbage of this thread. */
function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
}

let waiting = 0;

/** Says that modules of `bytes` have lost their last use in this thread. */
export function modulesDropped(bytes: number): void {
  waiting += bytes;
  if (waiting < RECLAIM_BYTES) return;
  waiting = 0;
  collectGarbage();
}
