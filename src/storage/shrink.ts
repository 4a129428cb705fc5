/**
 * Giving back the space of a disk that nobody has open: blocks of zeros become holes, and so do those of a COW file that are
 * what is below it anyway. What a guest reads stays the same at every moment, so it can be cut off anywhere: a sector's bit is
 * cleared, durably, before its data goes.
 */
import * as fs from 'node:fs';
import { AppError } from '../contracts/errors.ts';
import type { MaybePromise } from '../engine/backends.ts';
import { BITMAP_PAGE_BYTES, CowBitmap, filePageReader } from './cow/bitmap.ts';
import { COW_SECTOR_BYTES } from './cow/header.ts';
import type { CowPlacement } from './cow/volume.ts';
import { type HostFile, hostFile } from './host-file.ts';
import { seekData } from './libc.ts';
import type { CopyOptions } from './restore.ts';
import { SPARSE_UNIT_BYTES } from './sparse.ts';

/** Read at once; also how much is cleared by one pair of fdatasync. */
const PIECE_BYTES = 8 << 20;
const SECTORS_PER_UNIT = SPARSE_UNIT_BYTES / COW_SECTOR_BYTES;

/** Bytes of the file on the host, before and after. */
export interface Shrunk {
  readonly beforeBytes: number;
  readonly afterBytes: number;
}

/** What shows through where a COW file has no data of its own. */
export interface Below {
  read(offset: number, into: readonly Uint8Array[], background?: boolean): MaybePromise<void>;
}

/** The file of a disk, open for writing. */
export interface ShrinkFile {
  readonly file: HostFile;
  /** The next range from `offset` of the file on that is no hole. */
  nextData(offset: number): { readonly start: number; readonly end: number } | undefined;
  /** On the host. */
  allocatedBytes(): number;
}

export function shrinkFile(fd: number): ShrinkFile {
  return {
    file: hostFile(fd),
    nextData: (offset) => seekData(fd, offset),
    allocatedBytes: () => fs.fstatSync(fd).blocks * 512,
  };
}

/** Where in the file a disk is. */
interface Layout {
  readonly dataOffset: number;
  readonly sizeBytes: number;
}

/** A raw disk. */
export async function shrinkRaw(
  file: ShrinkFile,
  sizeBytes: number,
  options: CopyOptions = {},
): Promise<Shrunk> {
  const reclaim = (at: number, bytes: Buffer): Promise<Range[]> => Promise.resolve(zeroUnits(at, bytes));
  return await shrink(file, { dataOffset: 0, sizeBytes }, reclaim, options);
}

/** A COW file over `below`. */
export async function shrinkCow(
  file: ShrinkFile,
  header: CowPlacement,
  below: Below,
  options: CopyOptions = {},
): Promise<Shrunk> {
  const clearer = new Clearer(file.file, header, below);
  return await shrink(file, header, (at, bytes) => clearer.reclaim(at, bytes), options);
}

/** A range of the disk, in bytes. */
type Range = readonly [from: number, to: number];

/** @param reclaim which ranges of a piece of the disk need not be in the file; it may change the bitmap before it answers */
async function shrink(
  { file, nextData, allocatedBytes }: ShrinkFile,
  { dataOffset, sizeBytes }: Layout,
  reclaim: (at: number, bytes: Buffer) => Promise<Range[]>,
  { onProgress, signal }: CopyOptions,
): Promise<Shrunk> {
  const beforeBytes = allocatedBytes();
  const buffer = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; at < sizeBytes; ) {
    if (signal?.aborted) throw new AppError('canceled', 'the shrinking was cancelled', { field: 'disk' });
    const data = nextData(dataOffset + at);
    if (data === undefined || data.start >= dataOffset + sizeBytes) break;
    // In units, so that none is looked at twice.
    const start = Math.floor((data.start - dataOffset) / SPARSE_UNIT_BYTES) * SPARSE_UNIT_BYTES;
    at = Math.max(at, start);
    const end = Math.min(sizeBytes, at + PIECE_BYTES, roundUp(data.end - dataOffset));
    const bytes = buffer.subarray(0, end - at);
    await file.read(dataOffset + at, [bytes], true);
    for (const [from, to] of await reclaim(at, bytes)) {
      const result = await file.makeHole('punch', dataOffset + from, to - from);
      if (result === 'unsupported') throw noHoles();
    }
    at = end;
    onProgress?.(at, sizeBytes);
  }
  await file.sync();
  onProgress?.(sizeBytes, sizeBytes);
  return { beforeBytes, afterBytes: allocatedBytes() };
}

const roundUp = (bytes: number): number => Math.ceil(bytes / SPARSE_UNIT_BYTES) * SPARSE_UNIT_BYTES;

function noHoles(): AppError {
  return new AppError('unsupported', 'the file system of the disk cannot make holes in files', {
    field: 'disk',
    remedy: 'convert the disk to a new file instead',
  });
}

const ZEROS = Buffer.alloc(SPARSE_UNIT_BYTES);

function isZero(bytes: Buffer, from: number, to: number): boolean {
  return bytes.compare(ZEROS, 0, to - from, from, to) === 0;
}

/** Neighbours joined. */
function add(ranges: Range[], from: number, to: number): void {
  const last = ranges.at(-1);
  if (last !== undefined && last[1] === from) ranges[ranges.length - 1] = [last[0], to];
  else ranges.push([from, to]);
}

function zeroUnits(at: number, bytes: Buffer): Range[] {
  const ranges: Range[] = [];
  for (let unit = 0; unit < bytes.length; unit += SPARSE_UNIT_BYTES) {
    const end = Math.min(unit + SPARSE_UNIT_BYTES, bytes.length);
    if (isZero(bytes, unit, end)) add(ranges, at + unit, at + end);
  }
  return ranges;
}

class Clearer {
  readonly #file: HostFile;
  readonly #header: CowPlacement;
  readonly #below: Below;
  readonly #bitmap: CowBitmap;
  readonly #theirs = Buffer.alloc(PIECE_BYTES);

  constructor(file: HostFile, header: CowPlacement, below: Below) {
    this.#file = file;
    this.#header = header;
    this.#below = below;
    const sectors = Math.min(Math.ceil(header.sizeBytes / COW_SECTOR_BYTES), header.bitmapBytes * 8);
    this.#bitmap = new CowBitmap(sectors, filePageReader(file, header.bitmapOffset, header.bitmapBytes));
  }

  /** Clears the bits of sectors that are as below, where that frees a unit, and makes that durable. */
  async reclaim(at: number, bytes: Buffer): Promise<Range[]> {
    const theirs = this.#theirs.subarray(0, bytes.length);
    const whole = Math.ceil(bytes.length / COW_SECTOR_BYTES) * COW_SECTOR_BYTES;
    theirs.fill(0);
    await this.#below.read(at, [this.#theirs.subarray(0, whole)], true);
    const free: Range[] = [];
    const same: Range[] = [];
    for (let unit = 0; unit < bytes.length; unit += SPARSE_UNIT_BYTES) {
      const end = Math.min(unit + SPARSE_UNIT_BYTES, bytes.length);
      const clear = this.#unit(at, bytes, theirs, unit, end);
      if (clear === undefined) continue;
      add(free, at + unit, at + end);
      for (const sector of clear) add(same, sector, sector + 1);
    }
    if (same.length > 0) await this.#clear(same);
    return free;
  }

  /** The sectors of a unit whose bits must go so that the unit can; undefined when it has data of its own. */
  #unit(at: number, bytes: Buffer, theirs: Buffer, unit: number, end: number): number[] | undefined {
    const clear: number[] = [];
    for (let index = 0; index < SECTORS_PER_UNIT; index++) {
      const from = unit + index * COW_SECTOR_BYTES;
      if (from >= end) break;
      const to = Math.min(from + COW_SECTOR_BYTES, end);
      const sector = (at + from) / COW_SECTOR_BYTES;
      if (!this.#bitmap.isSet(sector) || isZero(bytes, from, to)) continue;
      if (bytes.compare(theirs, from, to, from, to) !== 0) return undefined;
      clear.push(sector);
    }
    return clear;
  }

  async #clear(sectors: readonly Range[]): Promise<void> {
    for (const [from, to] of sectors) this.#bitmap.clearRange(from, to);
    const pages = this.#bitmap.takeDirty();
    const { bitmapOffset, bitmapBytes } = this.#header;
    for (const { page, bytes } of pages) {
      const start = page * BITMAP_PAGE_BYTES;
      const length = Math.min(bytes.length, bitmapBytes - start);
      await this.#file.write(bitmapOffset + start, [bytes.subarray(0, length)], true);
    }
    await this.#file.sync();
    this.#bitmap.written(pages);
  }
}
