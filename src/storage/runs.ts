/** Reading what is scattered over places: sectors in runs, each of which is in one place. */
import type { MaybePromise } from '../engine/backends.ts';
import { allSettled } from './settle.ts';
import { sliceVectors, totalBytes } from './vectors.ts';

const SECTOR_BYTES = 512;

export interface Runs {
  /** The end of the run of sectors, from `sector` on and before `end`, that are in the same place. */
  runEnd(sector: number, end: number): number;
  /** Reads from `sector` on, within its run. */
  readRun(sector: number, into: readonly Uint8Array[], background: boolean): MaybePromise<void>;
}

/** As `Volume.read`. Runs are read at the same time. */
export function readRuns(
  runs: Runs,
  offset: number,
  into: readonly Uint8Array[],
  background: boolean,
): MaybePromise<void> {
  const first = offset / SECTOR_BYTES;
  const end = first + totalBytes(into) / SECTOR_BYTES;
  if (first === end) return;
  const firstEnd = runs.runEnd(first, end);
  if (firstEnd === end) return runs.readRun(first, into, background);
  return readEach(runs, first, firstEnd, end, into, background);
}

function readEach(
  runs: Runs,
  first: number,
  firstEnd: number,
  end: number,
  into: readonly Uint8Array[],
  background: boolean,
): MaybePromise<void> {
  const pending: Promise<void>[] = [];
  try {
    for (let sector = first, runEnd = firstEnd; sector < end; ) {
      const bytes = (runEnd - sector) * SECTOR_BYTES;
      const done = runs.readRun(
        sector,
        sliceVectors(into, (sector - first) * SECTOR_BYTES, bytes),
        background,
      );
      if (done !== undefined) pending.push(done);
      sector = runEnd;
      if (sector < end) runEnd = runs.runEnd(sector, end);
    }
  } catch (error) {
    if (pending.length === 0) throw error;
    pending.push(Promise.reject(error));
  }
  if (pending.length > 0) return allSettled(pending);
}
