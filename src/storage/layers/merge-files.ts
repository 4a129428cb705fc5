/** A merge of a layer that nobody writes to into the one below it, which machines may have open for reading. */
import { COW_SECTOR_BYTES } from '../cow/header.ts';
import { readWholeHeader } from '../cow/open.ts';
import { CowVolume } from '../cow/volume.ts';
import { fileError } from '../errors.ts';
import { hostFile, openLocked } from '../host-file.ts';
import type { DiskBelow } from '../volume.ts';
import { copyDown } from './copy-down.ts';
import { openLower } from './files.ts';
import { RateLimit } from './rate-limit.ts';

/** After so much the lower layer is made durable, and the merge need not begin again before that. */
const DURABLE_EVERY_BYTES = 64 << 20;

export interface LayerMerge {
  readonly upper: string;
  readonly lower: string;
  /** The lower layer is a raw file. */
  readonly lowerIsRaw: boolean;
  /** As an earlier `onDurable` said; 0 to begin with. */
  readonly from: number;
  readonly bytesPerSecond?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** All up to here is in the lower layer, whatever happens. */
  readonly onDurable?: ((bytes: number) => void) | undefined;
}

/**
 * Copies what `upper` has into `lower`; durable when it resolves. `upper` must not change, and must be all over `lower`.
 * Rejects with the signal's reason, BlockError, or AppErrors of the files and headers.
 */
export async function mergeLayers(merge: LayerMerge): Promise<void> {
  const { lowerIsRaw, bytesPerSecond, signal, onProgress, onDurable } = merge;
  const opened = openLocked(merge.upper, false, 'cow');
  const upperFile = hostFile(opened.fd);
  try {
    const header = readWholeHeader(merge.upper, opened);
    const upper = new CowVolume(upperFile, NOTHING_BELOW, header);
    const lower = openLower(merge.lower, lowerIsRaw ? undefined : NOTHING_BELOW);
    const total = Math.ceil(header.sizeBytes / COW_SECTOR_BYTES) * COW_SECTOR_BYTES;
    let durable = merge.from;
    const onPosition = async (at: number): Promise<void> => {
      onProgress?.(at, total);
      if (at < durable + DURABLE_EVERY_BYTES) return;
      await lower.volume.flush();
      durable = at;
      onDurable?.(at);
    };
    try {
      const range = { start: merge.from, end: total };
      await copyDown(upper, lower.volume, range, { rate: new RateLimit(bytesPerSecond), signal, onPosition });
    } finally {
      await lower.volume.close();
    }
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw fileError(error, 'layer', `cannot merge ${merge.upper} into ${merge.lower}`);
  } finally {
    upperFile.close();
  }
}

/** Only what the layers have themselves is read and written. */
const NOTHING_BELOW: DiskBelow = {
  read() {
    throw new Error('read below a layer');
  },
  close: () => undefined,
};
