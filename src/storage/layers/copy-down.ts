/**
 * Copies what a layer has into the layer below it. At any moment, and after any crash, the two over each other read the
 * same: what is written is hidden by where it came from, and the bits of the lower layer follow its data.
 */
import { setImmediate } from 'node:timers/promises';
import type { DataRange } from '../disk-source.ts';
import { dataRuns } from '../sparse.ts';
import type { Volume } from '../volume.ts';
import type { RateLimit } from './rate-limit.ts';

const PIECE_BYTES = 256 * 1024;
/** So much of a bitmap is looked through at once. */
const STRIDE_BYTES = 16 << 20;

/** A layer whose own content is read. */
export interface LayerSource extends Pick<Volume, 'sizeBytes' | 'read'> {
  nextOwn(offset: number, limit: number): DataRange | undefined;
}

export interface CopyDownOptions {
  readonly rate: RateLimit;
  readonly signal?: AbortSignal | undefined;
  /** How far it is; called after each piece and each empty stretch. */
  readonly onPosition?: ((bytes: number) => Promise<void> | void) | undefined;
}

/** Copies what `from` has in `start` … `end`. Nothing is flushed. */
export async function copyDown(
  from: LayerSource,
  to: Volume,
  { start, end }: DataRange,
  { rate, signal, onPosition }: CopyDownOptions,
): Promise<void> {
  for (let at = start; at < end; ) {
    signal?.throwIfAborted();
    const limit = Math.min(end, at + STRIDE_BYTES);
    const own = from.nextOwn(at, limit);
    if (own === undefined) {
      at = limit;
      await setImmediate();
    } else {
      const length = Math.min(own.end - own.start, PIECE_BYTES);
      await rate.spend(length, signal);
      await copyPiece(from, to, own.start, length);
      at = own.start + length;
    }
    await onPosition?.(at);
  }
}

async function copyPiece(from: LayerSource, to: Volume, offset: number, length: number): Promise<void> {
  const bytes = new Uint8Array(length);
  await from.read(offset, [bytes], true);
  let done = 0;
  for (const [start, end] of dataRuns(bytes)) {
    if (start > done) await to.writeZeroes(offset + done, start - done, true);
    await to.write(offset + start, [bytes.subarray(start, end)]);
    done = end;
  }
  if (done < length) await to.writeZeroes(offset + done, length - done, true);
}
