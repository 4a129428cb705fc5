/**
 * A disk in a COW file over what is below it (a backing file, or more layers), with the semantics of UML's ubd driver.
 *
 * Order of writes: data goes to the file first; the bits that announce it are kept in memory, where reads
 * see them, and reach the file only in a flush: fdatasync (data), bitmap pages, fdatasync. So no crash,
 * of this process or of the host, leaves a bit in the file for data that is not there. What a crash takes
 * back is only what the guest has not flushed.
 */
import type { MaybePromise } from '../../engine/backends.ts';
import { DiskLost } from '../errors.ts';
import { Flusher } from '../flusher.ts';
import type { HostFile } from '../host-file.ts';
import { type Runs, readRuns } from '../runs.ts';
import { totalBytes } from '../vectors.ts';
import { type DiskBelow, type Volume, writeZerosTo } from '../volume.ts';
import type { DataRange } from '../disk-source.ts';
import { BITMAP_PAGE_BYTES, CowBitmap, filePageReader, SECTORS_PER_PAGE } from './bitmap.ts';
import { COW_SECTOR_BYTES, type CowHeader, dataAt } from './header.ts';

/** More changed bitmap pages than this start a flush that the guest has not asked for: 4 MiB. */
const DIRTY_PAGES_MAX = 1024;
/**
 * More data than this that the file did not have starts a flush, too. The host's file system allocates blocks for it only then, and
 * lets writers of the file wait while it allocates many: the less there is at a time, the shorter.
 */
const NEW_BYTES_MAX = 8 << 20;
/** A guest that never flushes loses no more than this much time to a crash. */
const UNASKED_FLUSH_MS = 5000;
/** A longer discard goes in pieces, so that its bitmap pages can be written in between. */
const DISCARD_PIECE_BYTES = DIRTY_PAGES_MAX * SECTORS_PER_PAGE * COW_SECTOR_BYTES;

export type CowPlacement = Pick<CowHeader, 'sizeBytes' | 'bitmapOffset' | 'bitmapBytes' | 'dataOffset'>;

export class CowVolume implements Volume, Runs {
  readonly sizeBytes: number;
  readonly #cow: HostFile;
  #below: DiskBelow;
  readonly #placement: CowPlacement;
  readonly #bitmap: CowBitmap;
  readonly #flusher = new Flusher(() => this.#sync());
  #changed = false;
  /** Written since the last flush began, of what the file did not have. */
  #newBytes = 0;
  #timer: NodeJS.Timeout | undefined;
  #lost: DiskLost | undefined;

  constructor(cow: HostFile, below: DiskBelow, placement: CowPlacement) {
    this.#cow = cow;
    this.#below = below;
    this.#placement = placement;
    const sectors = Math.ceil(placement.sizeBytes / COW_SECTOR_BYTES);
    this.sizeBytes = sectors * COW_SECTOR_BYTES;
    this.#bitmap = new CowBitmap(
      Math.min(sectors, placement.bitmapBytes * 8),
      filePageReader(cow, placement.bitmapOffset, placement.bitmapBytes),
    );
  }

  /** From now on `below` shows through. Its content must be what showed through before. */
  replaceBelow(below: DiskBelow): void {
    this.#below = below;
  }

  /** The first range in `offset` … `limit` that the COW file has itself; at most up to `limit`. */
  nextOwn(offset: number, limit: number): DataRange | undefined {
    const end = limit / COW_SECTOR_BYTES;
    let sector = offset / COW_SECTOR_BYTES;
    if (sector < end && !this.#bitmap.isSet(sector)) sector = this.#bitmap.runEnd(sector, end);
    if (sector >= end) return undefined;
    const runEnd = this.#bitmap.runEnd(sector, end);
    return { start: sector * COW_SECTOR_BYTES, end: runEnd * COW_SECTOR_BYTES };
  }

  read(offset: number, into: readonly Uint8Array[], background = false): MaybePromise<void> {
    return readRuns(this, offset, into, background);
  }

  runEnd(sector: number, end: number): number {
    return this.#bitmap.runEnd(sector, end);
  }

  readRun(sector: number, into: readonly Uint8Array[], background: boolean): MaybePromise<void> {
    const at = sector * COW_SECTOR_BYTES;
    return this.#bitmap.isSet(sector)
      ? this.#cow.read(dataAt(this.#placement, at), into, background)
      : this.#below.read(at, into, background);
  }

  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    const length = totalBytes(from);
    const done = this.#cow.write(dataAt(this.#placement, offset), from);
    if (done === undefined) this.#written(offset, length);
    else return done.then(() => this.#written(offset, length));
  }

  /** Data becomes the file's own once in the file's life, so hardly anything is written twice because of this. */
  #written(offset: number, length: number): void {
    this.#newBytes += this.#announce(offset, length);
    if (this.#newBytes < NEW_BYTES_MAX) return;
    this.#newBytes = 0;
    this.#flushUnasked();
  }

  /** The range is in the file's data area now. Returns how many bytes of it were not before. */
  #announce(offset: number, length: number): number {
    this.#changed = true;
    const added = this.#bitmap.setRange(offset / COW_SECTOR_BYTES, (offset + length) / COW_SECTOR_BYTES);
    if (this.#bitmap.dirtyPages > DIRTY_PAGES_MAX) this.#flushUnasked();
    else this.#timer ??= setTimeout(() => this.#flushUnasked(), UNASKED_FLUSH_MS).unref();
    return added * COW_SECTOR_BYTES;
  }

  /** A failure is told at the guest's next flush: what could not be written is still to be, or the disk has ended. */
  #flushUnasked(): void {
    this.#stopTimer();
    this.#flusher.request().catch(() => undefined);
  }

  flush(): MaybePromise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#changed || !this.#flusher.idle) return this.#flusher.request();
  }

  async #sync(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    this.#newBytes = 0;
    this.#stopTimer();
    // Taken before the first fdatasync: bits set while it runs may announce data that it does not cover.
    const pages = this.#bitmap.takeDirty();
    try {
      await this.#cow.sync();
    } catch (error) {
      this.#bitmap.putBack(pages);
      this.#lost = new DiskLost(error);
      throw this.#lost;
    }
    if (pages.length > 0) await this.#writeBitmap(pages);
  }

  async #writeBitmap(pages: ReturnType<CowBitmap['takeDirty']>): Promise<void> {
    const { bitmapOffset, bitmapBytes } = this.#placement;
    try {
      for (const { page, bytes } of pages) {
        const at = page * BITMAP_PAGE_BYTES;
        await this.#cow.write(bitmapOffset + at, [
          bytes.subarray(0, Math.min(bytes.length, bitmapBytes - at)),
        ]);
      }
      await this.#cow.sync();
    } catch (error) {
      this.#bitmap.putBack(pages);
      this.#changed = true;
      throw error;
    }
    this.#bitmap.written(pages);
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** As UML does it: the sectors become the COW file's own and holes. Nothing where holes cannot be made. */
  discard(offset: number, length: number): MaybePromise<void> {
    return this.#zero('punch', offset, length, () => undefined);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void> {
    return this.#zero(mayUnmap ? 'punch' : 'zero', offset, length, (at, bytes) =>
      writeZerosTo((to, from) => this.write(to, from), at, bytes),
    );
  }

  #zero(
    how: 'punch' | 'zero',
    offset: number,
    length: number,
    otherwise: (offset: number, length: number) => MaybePromise<void>,
  ): MaybePromise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    if (length > DISCARD_PIECE_BYTES) return this.#zeroInPieces(how, offset, length, otherwise);
    const done = this.#cow.makeHole(how, dataAt(this.#placement, offset), length);
    const settle = (result: 'done' | 'unsupported'): MaybePromise<void> => {
      if (result === 'unsupported') return otherwise(offset, length);
      this.#announce(offset, length);
    };
    return typeof done === 'string' ? settle(done) : done.then(settle);
  }

  async #zeroInPieces(
    how: 'punch' | 'zero',
    offset: number,
    length: number,
    otherwise: (offset: number, length: number) => MaybePromise<void>,
  ): Promise<void> {
    for (let done = 0; done < length; done += DISCARD_PIECE_BYTES) {
      await this.#zero(how, offset + done, Math.min(DISCARD_PIECE_BYTES, length - done), otherwise);
      await this.#flusher.request();
    }
  }

  /**
   * Another volume has all that it has: no flush is to come any more. Resolves when none is under way; the file, which stays
   * open, may be closed then. Never rejects.
   */
  abandon(): Promise<void> {
    this.#stopTimer();
    this.#changed = false;
    return this.#flusher.request().catch(() => undefined);
  }

  async close(): Promise<void> {
    try {
      if (this.#lost === undefined) await this.#flusher.request();
    } finally {
      this.#stopTimer();
      this.#cow.close();
      this.#below.close();
    }
  }
}
