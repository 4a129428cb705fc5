/** Where a disk's bytes are kept: a raw file, or a COW file over a backing file. */
import type { MaybePromise } from '../engine/backends.ts';

/**
 * Offsets and lengths in bytes, multiples of 512 and within `sizeBytes`: the caller has checked them.
 * Failure throws or rejects with BlockError.
 */
export interface Volume {
  /** A multiple of 512. */
  readonly sizeBytes: number;
  /** `background`: never on this thread, whatever the length. */
  read(offset: number, into: readonly Uint8Array[], background?: boolean): MaybePromise<void>;
  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void>;
  flush(): MaybePromise<void>;
  discard(offset: number, length: number): MaybePromise<void>;
  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void>;
  /** Everything must have finished; flushes if anything is left to be. */
  close(): Promise<void>;
}

/** What shows through where a copy-on-write file has no data of its own: a raw file, or layers over one. */
export interface DiskBelow {
  /** As `Volume.read`. */
  read(offset: number, into: readonly Uint8Array[], background?: boolean): MaybePromise<void>;
  /** Lets go of the files; nothing may be in flight. */
  close(): void;
}

/** Zeros for file systems that cannot make holes: written piece by piece. */
const ZEROS = new Uint8Array(1 << 20);

export async function writeZerosTo(
  write: (offset: number, from: readonly Uint8Array[]) => MaybePromise<void>,
  offset: number,
  length: number,
): Promise<void> {
  for (let done = 0; done < length; done += ZEROS.length) {
    await write(offset + done, [ZEROS.subarray(0, Math.min(ZEROS.length, length - done))]);
  }
}
