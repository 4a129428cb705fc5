/**
 * What threads that run or compile guests ask of V8 while they run; bin/launch.mjs has what it is started with.
 *
 * V8 collects when its own heap grows. The machine code of a WebAssembly module lies outside of it, behind an object of
 * some hundred bytes, so that modules without use would stay for hours; so would a kernel's unpacked image. Whoever
 * lets such things go says so, and now and then has their memory collected. A collection takes some milliseconds: a
 * VM's thread has a small heap. What V8 frees then, and what its compilers freed all along, glibc would keep. Without gc(), in a process that was started otherwise, V8 is left to itself.
 */
import { flushCompileCache } from 'node:module';
import koffi from 'koffi';

/** For threads that run or compile guests: hardly any garbage, and what lives is small. The guest's memory is outside. */
export const THREAD_LIMITS = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 3 } as const;

/** Bytes of WebAssembly that may wait for a collection; machine code is several times as large. */
const RECLAIM_BYTES = 3 << 20;

const SOON_MS = 1000;

/** By then a program has compiled most of what it needs to come up. */
const STARTED_MS = 3000;

let waiting = 0;

/** Says that modules of `bytes` have lost their last use in this thread. */
export function modulesDropped(bytes: number): void {
  waiting += bytes;
  if (waiting < RECLAIM_BYTES) return;
  waiting = 0;
  collectGarbage();
}

let trim: ((pad: number) => number) | undefined;

/** glibc's malloc_trim(3); elsewhere there is none. */
function trimFunction(): (pad: number) => number {
  try {
    return koffi.load('libc.so.6').func('int malloc_trim(size_t pad)');
  } catch {
    return () => 0;
  }
}

/** Collects all garbage of this thread; what the process has freed goes back to the host. */
export function collectGarbage(): void {
  if (globalThis.gc === undefined) return;
  globalThis.gc();
  trim ??= trimFunction();
  trim(0);
}

let isCollectionNear = false;

/** As `collectGarbage`, within a second, however often it is asked for in that: what compiling has left is 16 MB by then. */
export function collectGarbageSoon(): void {
  if (isCollectionNear) return;
  isCollectionNear = true;
  setTimeout(() => {
    isCollectionNear = false;
    waiting = 0;
    collectGarbage();
  }, SOON_MS).unref();
}

/** Has this thread's compiled code written for the next start, also if the process is killed. */
export function keepCompiledCode(): void {
  setTimeout(flushCompileCache, STARTED_MS).unref();
}
