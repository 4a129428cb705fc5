/**
 * Merging a COW file with its backing file, as uml_moo does: into a new file, or into the backing file itself.
 *
 * A merge into the backing file may be cut off anywhere and taken up again. The COW file is not changed, so what is
 * read through it stays the same all the time. Two things are made durable before the first byte of the backing file
 * changes: a record beside the COW file, which says that the backing file's new modification time is our own doing, and
 * that new time, because other COW files over it must not open any more. The record goes when the content is durable.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '../../contracts/errors.ts';
import { BackupTarget } from '../backup-target.ts';
import { syncFolder } from '../durable.ts';
import { fileError } from '../errors.ts';
import { type HostFile, hostFile, type OpenedFile, openLocked } from '../host-file.ts';
import { findChain } from '../layers/chain.ts';
import { openLayers } from '../layers/files.ts';
import type { CopyOptions } from '../restore.ts';
import { SPARSE_UNIT_BYTES } from '../sparse.ts';
import type { Volume } from '../volume.ts';
import { CowBitmap, filePageReader } from './bitmap.ts';
import { backingSelf, inspectCow, mtimeSeconds, sameFile } from './create.ts';
import { COW_SECTOR_BYTES, type CowHeader, dataAt } from './header.ts';
import { MergeRecord } from './merge-record.ts';
import { checkBackingSize, checkBackingTime, openBacking, readWholeHeader } from './open.ts';

const PIECE_BYTES = 1 << 20;

const fsync = promisify(fs.fsync);

export interface MergeOptions extends CopyOptions {
  /** Instead of the file that the header names; its size and modification time must be the recorded ones. */
  readonly backing?: string | undefined;
}

/**
 * Writes what `cow` and its backing file together hold (and the layers below, if that is a COW file: see `findChain`) to the new file `to`, whose sectors of zeros are holes. `to` is
 * replaced in the end, by a rename, when there is one. Unlike uml_moo's, the copy of a disk whose size is no
 * multiple of 512 has the last sector too. AppErrors: those of `openDisk`, `disk_full`, `io_error`, `canceled`.
 */
export async function mergeCow(cow: string, to: string, options: MergeOptions = {}): Promise<void> {
  const chain = options.backing === undefined ? findChain(cow) : { file: options.backing, frozen: [], cow };
  if ([chain.file, ...chain.frozen, cow].some((file) => sameFile(to, file))) {
    throw new AppError('invalid_input', `${to} is one of the files to merge`, {
      field: 'new',
      remedy: 'give another name, or merge into the backing file with -d',
    });
  }
  if (sameFile(cow, chain.file)) throw backingSelf(cow);
  const volume = openLayers({ device: 'cow', ...chain, readOnly: true });
  try {
    const replaced = fs.existsSync(to) ? openReplaced(to) : undefined;
    try {
      await writeMerged(volume, replaced?.path ?? to, options);
    } finally {
      if (replaced !== undefined) fs.closeSync(replaced.fd);
    }
  } catch (error) {
    throw fileError(error, 'new', `cannot merge ${cow} to ${to}`);
  } finally {
    await volume.close();
  }
}

/** Locked until its successor has the name, so that no machine loses its disk. Through a link, what it leads to. */
function openReplaced(to: string): { readonly path: string; readonly fd: number } {
  const real = fs.realpathSync(to);
  const { fd, stat } = openLocked(real, true, 'new');
  if (stat.isFile()) return { path: real, fd };
  fs.closeSync(fd);
  throw new AppError('invalid_input', `${to} is a block device`, {
    field: 'new',
    remedy: 'merge to a file, then copy it to the device',
  });
}

async function writeMerged(volume: Volume, to: string, { onProgress, signal }: MergeOptions): Promise<void> {
  const { sizeBytes } = volume;
  const target = new BackupTarget(to, sizeBytes, { replace: true });
  try {
    const buffer = new Uint8Array(PIECE_BYTES);
    for (let at = 0; at < sizeBytes; at += PIECE_BYTES) {
      stopIfAborted(signal);
      const piece = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - at));
      await volume.read(at, [piece], true);
      await target.write(at, piece);
      onProgress?.(at + piece.length, sizeBytes);
    }
    await target.complete();
    target.publish();
  } catch (error) {
    target.discard();
    throw error;
  }
  syncFolder(path.dirname(path.resolve(to)));
}

function stopIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AppError('canceled', 'the merge was cancelled', { field: 'cow' });
}

export interface InPlaceMerge {
  readonly backing: string;
  /** What differed and was written. */
  readonly writtenBytes: number;
  /** An earlier merge had been cut off, and was taken up. */
  readonly resumed: boolean;
}

/**
 * Writes the sectors that `cow` has into its backing file. No other COW file over that backing file opens any more,
 * nor does `cow` itself, which is left as it is. After any interruption, call it again with the same files.
 * AppErrors: `not_found`, `cow_corrupt`, `cow_backing_missing`, `cow_backing_changed`, `cow_backing_self`, `in_use`,
 * `protected` (a backing file without write permission, as images are), `disk_full`, `io_error`, `canceled`.
 */
export async function mergeCowIntoBacking(cow: string, options: MergeOptions = {}): Promise<InPlaceMerge> {
  const backing = options.backing ?? inspectCow(cow).backingPath;
  if (sameFile(cow, backing)) throw backingSelf(cow);
  checkWritable(backing);
  const cowFile = openLocked(cow, false, 'cow');
  try {
    const header = readWholeHeader(cow, cowFile);
    const backingFile = openBacking(backing, true);
    try {
      const record = new MergeRecord(cow, header, backingFile.stat);
      const resumed = record.exists();
      if (resumed) checkResumedSize(header, cow, backing, backingFile);
      else {
        checkBackingSize(header, cow, backing, backingFile);
        checkBackingTime(header, cow, backing, backingFile);
      }
      const writtenBytes = await mergeInPlace(cowFile, backingFile, header, record, options);
      return { backing, writtenBytes, resumed };
    } finally {
      fs.closeSync(backingFile.fd);
    }
  } catch (error) {
    throw fileError(error, 'cow', `cannot merge ${cow} into ${backing}`);
  } finally {
    fs.closeSync(cowFile.fd);
  }
}

/** Root could write to it all the same. */
function checkWritable(backing: string): void {
  const stat = fs.statSync(backing, { throwIfNoEntry: false });
  if (stat === undefined || (stat.mode & 0o222) !== 0) return;
  throw new AppError('protected', `the backing file ${backing} is write-protected, as images are`, {
    field: 'file',
    remedy: 'merge to a new file: other disks may be over this one',
  });
}

/** The cut-off merge may have filled up the last sector. */
function checkResumedSize(header: CowHeader, cow: string, backing: string, file: OpenedFile): void {
  const filledUp = Math.ceil(header.sizeBytes / COW_SECTOR_BYTES) * COW_SECTOR_BYTES;
  if (file.sizeBytes !== filledUp) checkBackingSize(header, cow, backing, file);
}

async function mergeInPlace(
  cowFile: OpenedFile,
  backingFile: OpenedFile,
  header: CowHeader,
  record: MergeRecord,
  options: MergeOptions,
): Promise<number> {
  const cow = hostFile(cowFile.fd);
  const backing = hostFile(backingFile.fd);
  let begun = false;
  const begin = (): void => {
    if (begun) return;
    begun = true;
    record.write();
    changeTime(backingFile.fd, header);
    fs.fsyncSync(backingFile.fd);
  };
  const writtenBytes = await copySectors(cow, backing, header, begin, options);
  if (begun) changeTime(backingFile.fd, header);
  // Of an earlier run, too: it may have been cut off before this.
  await fsync(backingFile.fd);
  record.remove();
  return writtenBytes;
}

/** The time must differ from the recorded one even if the backing file was made within this second. */
function changeTime(fd: number, header: CowHeader): void {
  const now = Math.floor(Date.now() / 1000);
  if (mtimeSeconds(fs.fstatSync(fd)) !== header.backingMtime) return;
  const time = now >>> 0 === header.backingMtime ? now + 1 : now;
  fs.futimesSync(fd, time, time);
}

/** Writes what differs, in units of 4 KiB; the number of bytes. `begin` is called before the first write. */
export async function copySectors(
  cow: HostFile,
  backing: HostFile,
  header: CowHeader,
  begin: () => void,
  { onProgress, signal }: CopyOptions,
): Promise<number> {
  const { sizeBytes, bitmapOffset, bitmapBytes } = header;
  const sectors = Math.min(Math.ceil(sizeBytes / COW_SECTOR_BYTES), bitmapBytes * 8);
  const bitmap = new CowBitmap(sectors, filePageReader(cow, bitmapOffset, bitmapBytes));
  const mine = Buffer.alloc(PIECE_BYTES);
  const theirs = Buffer.alloc(PIECE_BYTES);
  let writtenBytes = 0;
  for (let sector = 0; sector < sectors; ) {
    stopIfAborted(signal);
    const end = bitmap.runEnd(sector, Math.min(sectors, sector + PIECE_BYTES / COW_SECTOR_BYTES));
    if (bitmap.isSet(sector)) {
      const at = sector * COW_SECTOR_BYTES;
      const length = (end - sector) * COW_SECTOR_BYTES;
      await Promise.all([
        cow.read(dataAt(header, at), [mine.subarray(0, length)], true),
        backing.read(at, [theirs.subarray(0, length)], true),
      ]);
      for (const [from, to] of differences(mine, theirs, length)) {
        begin();
        await backing.write(at + from, [mine.subarray(from, to)], true);
        writtenBytes += to - from;
      }
    }
    sector = end;
    onProgress?.(Math.min(sector * COW_SECTOR_BYTES, sizeBytes), sizeBytes);
  }
  return writtenBytes;
}

function* differences(
  one: Buffer,
  other: Buffer,
  length: number,
): Generator<readonly [from: number, to: number]> {
  let start = -1;
  for (let at = 0; at < length; at += SPARSE_UNIT_BYTES) {
    const end = Math.min(at + SPARSE_UNIT_BYTES, length);
    const same = one.compare(other, at, end, at, end) === 0;
    if (same && start >= 0) {
      yield [start, at];
      start = -1;
    } else if (!same && start < 0) start = at;
  }
  if (start >= 0) yield [start, length];
}
