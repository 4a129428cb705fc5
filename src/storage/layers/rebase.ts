/** A disk's content in a new file: over another base, with only what differs from that, or without anything below it. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { DiskConfig } from '../../contracts/machine.ts';
import { BackupTarget } from '../backup-target.ts';
import { syncFolder } from '../durable.ts';
import { fileError } from '../errors.ts';
import type { CopyOptions } from '../restore.ts';
import { SPARSE_UNIT_BYTES } from '../sparse.ts';
import type { Volume } from '../volume.ts';
import { createLayers, layerFacts, openLayers } from './files.ts';

const PIECE_BYTES = 1 << 20;

export interface RebaseOptions extends CopyOptions {
  /** The raw file that the disk is to be over, at least as large as the disk; undefined: none. */
  readonly base?: string | undefined;
}

/**
 * Writes the content of a disk that nobody writes to into the new file `to`: copy-on-write over `base`, or raw. What `base` has
 * beyond the disk's end reads as zeros. `to` is complete and durable when it resolves, and not there when it rejects:
 * AppErrors as `openDisk`, `disk_full`, or the signal's reason. Returns the size of the new disk in bytes.
 */
export async function rebaseDisk(disk: DiskConfig, to: string, options: RebaseOptions): Promise<number> {
  const { base, signal } = options;
  const source = openLayers({ ...disk, readOnly: true });
  try {
    return base === undefined ? await flatten(source, to, options) : await differ(source, base, to, options);
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw fileError(error, 'disk', `cannot write the content of the disk to ${to}`);
  } finally {
    await source.close();
  }
}

async function flatten(source: Volume, to: string, options: CopyOptions): Promise<number> {
  const { sizeBytes } = source;
  const target = new BackupTarget(to, sizeBytes);
  try {
    await copyWhole(source, (at, piece) => target.write(at, piece), options);
    await target.complete();
    target.publish();
  } catch (error) {
    target.discard();
    throw error;
  }
  syncFolder(path.dirname(to));
  return sizeBytes;
}

/** Gives out all of `source`, in pieces. */
export async function copyWhole(
  source: Volume,
  write: (at: number, piece: Uint8Array) => Promise<void>,
  { onProgress, signal }: CopyOptions,
): Promise<void> {
  const { sizeBytes } = source;
  const buffer = new Uint8Array(PIECE_BYTES);
  for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
    signal?.throwIfAborted();
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at));
    await source.read(at, [piece], true);
    await write(at, piece);
    onProgress?.(at + piece.length, sizeBytes);
  }
}

async function differ(source: Volume, base: string, to: string, options: CopyOptions): Promise<number> {
  const facts = layerFacts(base, true);
  createLayers([{ file: to, below: base, ...facts }]);
  try {
    const target = openLayers({ device: '', file: base, cow: to, readOnly: false });
    try {
      await copyDifferences(source, target, options);
    } finally {
      await target.close();
    }
  } catch (error) {
    fs.rmSync(to, { force: true });
    throw error;
  }
  return facts.sizeBytes;
}

/** Makes `target` read as `source` does. What `target` has beyond the end of `source` becomes zeros. Nothing is flushed. */
export async function copyDifferences(
  source: Volume,
  target: Volume,
  { onProgress, signal }: CopyOptions,
): Promise<void> {
  const [mine, theirs] = [Buffer.alloc(PIECE_BYTES), Buffer.alloc(PIECE_BYTES)];
  for (let at = 0; at < target.sizeBytes; at += PIECE_BYTES) {
    signal?.throwIfAborted();
    const length = Math.min(PIECE_BYTES, target.sizeBytes - at);
    await readPadded(source, at, mine.subarray(0, length));
    await target.read(at, [theirs.subarray(0, length)], true);
    await writeDifferences(target, at, mine.subarray(0, length), theirs.subarray(0, length));
    onProgress?.(at + length, target.sizeBytes);
  }
}

/** Zeros beyond the end. */
async function readPadded(source: Volume, at: number, into: Buffer): Promise<void> {
  const length = Math.max(0, Math.min(into.length, source.sizeBytes - at));
  into.fill(0, length);
  if (length > 0) await source.read(at, [into.subarray(0, length)], true);
}

/** Writes those parts of `mine` at `at` that differ from `theirs`, which is what the target has there. */
export async function writeDifferences(
  target: Volume,
  at: number,
  mine: Buffer,
  theirs: Buffer,
): Promise<void> {
  for (let from = 0; from < mine.length; from += SPARSE_UNIT_BYTES) {
    const to = Math.min(from + SPARSE_UNIT_BYTES, mine.length);
    if (mine.compare(theirs, from, to, from, to) === 0) continue;
    const bytes = mine.subarray(from, to);
    if (bytes.every((byte) => byte === 0)) await target.writeZeroes(at + from, to - from, true);
    else await target.write(at + from, [bytes]);
  }
}
