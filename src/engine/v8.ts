/**
 * What threads that run or compile guests ask of V8 while they run; bin/launch.mjs has what it is started with.
 *
 * V8 collects when its own heap grows. The machine code of a WebAssembly module lies outside of it, behind an object of
 * some hundred bytes, so that modules without use would stay for hours; so would a kernel's unpacked image. Whoever
 * lets such things go says so, and now and then has their memory collected. A collection takes some milliseconds: a
 * VM's thread has a small heap. What V8 frees then, and what its compilers freed all along, glibc would keep. Without gc(), in a process that was started otherwise, V8 is left to itself.
 */
import { flushCompileCache } from 'node:module';
import { mallocTrim } from './libc.ts';

/** For threads that run or compile guests: hardly any garbage, and what lives is small. The guest's memory is outside. */
export const THREAD_LIMITS = { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 3 } as const;

/** Bytes of WebAssembly that may wait for a collection; machine code is several times as large. */
const RECLAIM_BYTES = 3 << 20;

/** By then a program has compiled most of what it needs to come up. */
const STARTED_MS = 3000;

let waiting = 0;

/** Says that modules of `bytes` have lost their last use in this thread. */
export function modulesDropped(bytes: number): void {
  waiting += bytes;
  if (waiting >= RECLAIM_BYTES) collectGarbage();
}

/** Collects all garbage of this thread; what the process has freed goes back to the host. */
export function collectGarbage(): void {
  if (globalThis.gc === undefined) return;
  waiting = 0;
  globalThis.gc();
  mallocTrim(0);
}

/** While there is something to collect: memory is trimmed each time, and each fourth time garbage is collected. */
const TIDY_MS = 250;
const COLLECT_EACH = 4;

let tidied = 0;
let isTidying = false;
let isUntidy = false;

function tidy(): void {
  tidied += 1;
  if (tidied % COLLECT_EACH !== 0) {
    mallocTrim(0);
    return;
  }
  collectGarbage();
  isTidying = isUntidy;
  isUntidy = false;
}

/**
 * As `collectGarbage`, within a second, however often it is asked for in that: what compiling has left is 16 MB by then.
 * V8 optimizes what was compiled for a second more, and what it needs for that is as much.
 */
export function collectGarbageSoon(): void {
  isUntidy = true;
  if (isTidying || globalThis.gc === undefined) return;
  isTidying = true;
  const timer = setInterval(() => {
    tidy();
    if (!isTidying) clearInterval(timer);
  }, TIDY_MS);
  timer.unref();
}

/**
 * When a program has come up: has this thread's compiled code written for the next start, also if the process is killed, and
 * runs what else there is to do then.
 */
export function whenStarted(then?: () => void): void {
  setTimeout(() => {
    flushCompileCache();
    then?.();
  }, STARTED_MS).unref();
}
