/** Disk files from one format to another. */
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import type { DiskConfig } from '../contracts/machine.ts';
import { BackupTarget } from './backup-target.ts';
import type { DiskSource } from './disk-source.ts';
import { syncFolder } from './durable.ts';
import { fileError } from './errors.ts';
import { detectFormat, openDiskSource, openSource, type SourceOptions } from './open-source.ts';
import { type Qcow2Options, Qcow2Writer } from './qcow2/writer.ts';
import type { CopyOptions } from './restore.ts';

/** The largest cluster of a qcow2 file: none is decompressed twice. */
const PIECE_BYTES = 2 << 20;

export interface ConvertOptions extends CopyOptions, SourceOptions {
  /** Undefined: a raw file, with holes for zeros. */
  readonly qcow2?: Omit<Qcow2Options, 'backing'> | undefined;
  /** A raw or qcow2 file: the new qcow2 file has only what differs from it. */
  readonly backing?: string | undefined;
  /** What the new file calls it, where that is another place than here. */
  readonly backingName?: string | undefined;
}

/**
 * Makes the disk file `to` with the content that a guest sees in `from`, whatever its format (see `openSource`) and
 * with all backing files below it. `to` appears complete and durable or not at all, with mode 0600.
 * AppErrors: those of `openSource`, `already_exists`, `disk_full`, `io_error`, `canceled`.
 */
export async function convertDisk(from: string, to: string, options: ConvertOptions = {}): Promise<void> {
  await convertSource(await openSource(from, options), from, to, options);
}

/** As `convertDisk`, of a disk that a machine's configuration describes. */
export async function exportDisk(
  config: DiskConfig,
  to: string,
  options: ConvertOptions = {},
): Promise<void> {
  await convertSource(await openDiskSource(config), config.cow ?? config.file, to, options);
}

/** Closes `source`. */
async function convertSource(
  source: DiskSource,
  from: string,
  to: string,
  options: ConvertOptions,
): Promise<void> {
  try {
    if (source.sizeBytes === 0) {
      throw new AppError('bad_image', `${from} has a disk of 0 bytes`, { field: 'size' });
    }
    await writeTarget(source, to, options);
    syncFolder(path.dirname(path.resolve(to)));
    options.onProgress?.(source.sizeBytes, source.sizeBytes);
  } catch (error) {
    throw fileError(error, 'to', `cannot convert ${from} to ${to}`);
  } finally {
    await source.close();
  }
}

async function writeTarget(source: DiskSource, to: string, options: ConvertOptions): Promise<void> {
  const { sizeBytes } = source;
  const target = new BackupTarget(to, options.qcow2 === undefined ? sizeBytes : 0);
  try {
    if (options.qcow2 === undefined) {
      await copyData(source, options, (at, bytes) =>
        target.write(at, bytes.subarray(0, Math.min(bytes.length, sizeBytes - at))),
      );
    } else await writeQcow2(source, target, to, options.qcow2, options);
    await target.complete();
    target.publish();
  } catch (error) {
    target.discard();
    throw error;
  }
}

async function writeQcow2(
  source: DiskSource,
  target: BackupTarget,
  to: string,
  qcow2: Omit<Qcow2Options, 'backing'>,
  options: ConvertOptions,
): Promise<void> {
  const { backing } = options;
  if (backing === undefined) {
    const writer = new Qcow2Writer(target, source.sizeBytes, qcow2);
    await copyData(source, options, (at, bytes) => writer.write(at, bytes));
    await writer.finish();
    return;
  }
  // An image of ours is raw, whatever its guest has made it begin with.
  const format = options.backingName === undefined ? detectFormat(backing) : 'raw';
  if (format === 'cow') {
    throw new AppError('unsupported', `${backing} is a COW file, which qcow2 files cannot be over`, {
      field: 'backing',
      remedy: 'give the raw or qcow2 file that is below it',
    });
  }
  const below = await openSource(backing, { format });
  try {
    const named = { path: options.backingName ?? pathFrom(path.dirname(to), backing), format };
    const writer = new Qcow2Writer(target, source.sizeBytes, { ...qcow2, backing: named });
    await copyDifferences(source, below, options, (at, bytes, theirs) => writer.write(at, bytes, theirs));
    await writer.finish();
  } finally {
    await below.close();
  }
}

/** Relative for files beside or below, so that they can be moved together. */
function pathFrom(folder: string, file: string): string {
  const relative = path.relative(path.resolve(folder), path.resolve(file));
  return relative.startsWith('..') ? path.resolve(file) : relative;
}

/** As `copyData`, with the same clusters of what is below; pieces that are zeros in both are passed over. */
async function copyDifferences(
  source: DiskSource,
  below: DiskSource,
  { onProgress, signal }: ConvertOptions,
  write: (offset: number, bytes: Uint8Array, theirs: Uint8Array) => Promise<void>,
): Promise<void> {
  const [mine, theirs] = [new Uint8Array(PIECE_BYTES), new Uint8Array(PIECE_BYTES)];
  for (let at = 0; at < source.sizeBytes; at += PIECE_BYTES) {
    if (signal?.aborted) throw new AppError('canceled', 'the conversion was cancelled', { field: 'to' });
    const hasData = await Promise.all([fill(source, at, mine), fill(below, at, theirs)]);
    if (hasData.includes(true)) await write(at, mine, theirs);
    onProgress?.(Math.min(at + PIECE_BYTES, source.sizeBytes), source.sizeBytes);
  }
}

/** Reads a piece, with zeros behind the end; whether there is anything. */
async function fill(source: DiskSource, at: number, into: Uint8Array): Promise<boolean> {
  into.fill(0);
  const length = Math.min(into.length, source.sizeBytes - at);
  if (length <= 0 || (await source.nextData(at, at + length)) === undefined) return false;
  await source.read(at, into.subarray(0, length));
  return true;
}

/** Gives whole clusters, in ascending order; what is beyond the disk's end is zeros. */
async function copyData(
  source: DiskSource,
  { onProgress, signal }: ConvertOptions,
  write: (offset: number, bytes: Uint8Array) => Promise<void>,
): Promise<void> {
  const buffer = new Uint8Array(PIECE_BYTES);
  for (let at = 0; ; ) {
    const next = await source.nextData(at);
    if (next === undefined) return;
    // Neighbouring runs may be in one piece: each piece is given once.
    at = Math.max(at, Math.floor(next.start / PIECE_BYTES) * PIECE_BYTES);
    if (signal?.aborted) throw new AppError('canceled', 'the conversion was cancelled', { field: 'to' });
    const length = Math.min(PIECE_BYTES, source.sizeBytes - at);
    await source.read(at, buffer.subarray(0, length));
    buffer.fill(0, length);
    await write(at, buffer);
    at += length;
    if (at >= source.sizeBytes) return;
    onProgress?.(at, source.sizeBytes);
  }
}
