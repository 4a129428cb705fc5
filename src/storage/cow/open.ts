/** Opening a COW file over its backing file, with every check that keeps a guest's data from being mixed up. */
import * as fs from 'node:fs';
import { AppError } from '../../contracts/errors.ts';
import { absolutePath } from '../durable.ts';
import { fileError } from '../errors.ts';
import { hostFile, type OpenedFile, openLocked } from '../host-file.ts';
import { reserveRange } from '../libc.ts';
import { backingSelf, backingUnusable, createCow, mtimeSeconds, readCowHeader, sameFile } from './create.ts';
import { COW_SECTOR_BYTES, type CowHeader, encodeCowHeader } from './header.ts';
import { CowVolume } from './volume.ts';

/**
 * Opens `cow` over `backing`, making it when it is missing. The backing file is the one given, never the one that
 * the header names: a header is hostile input. When the header names another file that has the same size and mtime
 * (the images were moved), a version 3 header is rewritten, as the ubd driver does; headers of version 1 and 2 are
 * left alone, because a version 3 header would overwrite their bitmap.
 *
 * AppErrors: `cow_corrupt`, `cow_backing_missing`, `cow_backing_changed`, `cow_backing_self`, `in_use`,
 * `bad_image`, `disk_full`, `io_error`.
 */
export function openCowVolume(cow: string, backing: string, readOnly: boolean): CowVolume {
  if (sameFile(cow, backing)) throw backingSelf(cow);
  const below = openBacking(backing);
  try {
    if (!readOnly) createMissing(cow, backing);
    const { opened, header } = openCowOver(cow, { path: backing, opened: below }, { readOnly });
    return new CowVolume(hostFile(opened.fd), hostFile(below.fd), header);
  } catch (error) {
    fs.closeSync(below.fd);
    throw error;
  }
}

/** The file under a COW file. Of a COW file `opened` has the size of the disk, not that of the file. */
export interface FileBelow {
  readonly path: string;
  readonly opened: OpenedFile;
}

export interface OpenCowOptions {
  readonly readOnly: boolean;
  /** The daemon itself is writing to the file below, where this one hides it: its modification time says nothing. */
  readonly anyTime?: boolean | undefined;
}

export interface OpenedCow {
  readonly opened: OpenedFile;
  readonly header: CowHeader;
}

/** Opens, locks and checks an existing COW file over a file that is open. AppErrors as `openCowVolume`. */
export function openCowOver(
  cow: string,
  below: FileBelow,
  { readOnly, anyTime = false }: OpenCowOptions,
): OpenedCow {
  const opened = openLocked(cow, !readOnly, 'cow');
  try {
    const header = readWholeHeader(cow, opened);
    checkBackingSize(header, cow, below.path, below.opened);
    if (!anyTime) checkBackingTime(header, cow, below.path, below.opened);
    if (readOnly) return { opened, header };
    requireAllBits(header, cow);
    reserveBitmap(opened.fd, header);
    return { opened, header: header.version === 3 ? keepPathCurrent(header, opened.fd, below.path) : header };
  } catch (error) {
    fs.closeSync(opened.fd);
    throw fileError(error, 'cow', `cannot open the COW file ${cow}`);
  }
}

/** Larger bitmaps (of disks above 512 GiB) keep their holes. */
const RESERVED_BITMAP_BYTES_MAX = 16 << 20;

/**
 * On a full host disk the data of a sector may find the last free block: its bit must find one too. Best effort: where nothing
 * can be reserved, the flush that needs the block tells.
 */
export function reserveBitmap(fd: number, { bitmapOffset, bitmapBytes }: CowHeader): void {
  if (bitmapBytes <= RESERVED_BITMAP_BYTES_MAX) reserveRange(fd, bitmapOffset, bitmapBytes);
}

/** Makes a COW file that is missing. Somebody else may make it at the same moment: then the lock decides who gets it. */
export function createMissing(cow: string, backing: string): void {
  if (fs.existsSync(cow)) return;
  try {
    createCow(cow, backing);
  } catch (error) {
    if (!(error instanceof AppError && error.code === 'already_exists')) throw error;
  }
}

/** Opens and locks a backing file. `cow_backing_missing`, and what openLocked throws. */
export function openBacking(backing: string, writable = false): OpenedFile {
  try {
    return openLocked(backing, writable, 'file');
  } catch (error) {
    throw error instanceof AppError && error.code === 'not_found'
      ? backingUnusable(error.cause, backing)
      : error;
  }
}

function requireAllBits(header: CowHeader, cow: string): void {
  if (header.bitmapBytes * 8 >= Math.ceil(header.sizeBytes / COW_SECTOR_BYTES)) return;
  throw new AppError(
    'unsupported',
    `${cow} is of version ${header.version}, whose bitmap has no bits for the last sectors of this size`,
    { field: 'cow', remedy: 'merge it with uml_moo and make a new COW file, or open it read-only' },
  );
}

/** The header of a COW file that has all of its bitmap. `cow_corrupt`. */
export function readWholeHeader(cow: string, { fd, sizeBytes }: OpenedFile): CowHeader {
  const header = readCowHeader(fd, cow);
  if (sizeBytes >= header.bitmapOffset + header.bitmapBytes) return header;
  throw new AppError('cow_corrupt', `${cow} ends within its bitmap`, {
    field: 'bitmap',
    remedy: 'restore the COW file from a backup, or make a new one over its backing file',
  });
}

/** `cow_backing_changed`: what was meant for another size must not be laid over this one. */
export function checkBackingSize(header: CowHeader, cow: string, backing: string, file: OpenedFile): void {
  if (file.sizeBytes === header.sizeBytes) return;
  throw new AppError(
    'cow_backing_changed',
    `the backing file ${backing} has ${file.sizeBytes} bytes; ${cow} was made over ${header.sizeBytes} bytes`,
    { field: 'size', remedy: 'put the original backing file back, or restore the disk from a backup' },
  );
}

/** `cow_backing_changed`: somebody wrote to the backing file since, or copied it without its time. */
export function checkBackingTime(header: CowHeader, cow: string, backing: string, file: OpenedFile): void {
  const mtime = mtimeSeconds(file.stat);
  if (mtime === header.backingMtime) return;
  throw new AppError(
    'cow_backing_changed',
    `the backing file ${backing} was modified at ${mtime}; ${cow} was made when that was ${header.backingMtime} (seconds since 1970)`,
    {
      field: 'mtime',
      remedy:
        'put the original backing file back, or restore the disk from a backup; if only the time differs and not the content, accept it with `umlaut disk repair-header`',
    },
  );
}

/** Rewrites the header when it names another file than `backing`. */
function keepPathCurrent(header: CowHeader, fd: number, backing: string): CowHeader {
  const current = absolutePath(backing);
  if (header.backingPath === current || sameFile(header.backingPath, current)) return header;
  const { alignment, backingMtime, sizeBytes } = header;
  const rewritten = encodeCowHeader({ backingPath: current, backingMtime, sizeBytes, alignment });
  // With alignments above the header's size both layouts of version 3 place the bitmap alike; otherwise leave it.
  if (
    rewritten.header.dataOffset !== header.dataOffset ||
    rewritten.header.bitmapOffset !== header.bitmapOffset
  ) {
    return header;
  }
  fs.writeSync(fd, rewritten.bytes, 0, rewritten.bytes.length, 0);
  fs.fdatasyncSync(fd);
  return rewritten.header;
}
