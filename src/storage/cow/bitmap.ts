/**
 * The bitmap of a COW file: bit n is set when sector n lives in the COW file. Pages of it are read when
 * first needed and a bounded number of clean ones is kept, so that neither a large disk nor a hostile
 * header makes the host read or hold much. Changes stay in memory until the owner writes them.
 */
import type { HostFile } from '../host-file.ts';

export const BITMAP_PAGE_BYTES = 4096;
export const SECTORS_PER_PAGE = BITMAP_PAGE_BYTES * 8;
/** 64 GiB of disk at 16 MiB a page. */
const PAGES_KEPT_MAX = 4096;

/** Reads a page; must answer at once. */
export type PageReader = (page: number, into: Uint8Array) => void;

export interface DirtyPage {
  readonly page: number;
  readonly bytes: Uint8Array;
}

const NO_PAGE: Uint8Array = new Uint8Array(0);

export class CowBitmap {
  readonly #readPage: PageReader;
  /** Sectors that have a bit; in versions 1 and 2 there may be up to 7 more sectors. */
  readonly sectors: number;
  readonly #pages = new Map<number, Uint8Array>();
  /** The page that was asked for last: the next question is mostly about the same. */
  #lastIndex = -1;
  #lastPage = NO_PAGE;
  readonly #dirty = new Set<number>();
  /** Taken by a flush and not yet written: the file still has the old content, so they must stay. */
  readonly #inFlight = new Set<number>();

  constructor(sectors: number, readPage: PageReader) {
    this.sectors = sectors;
    this.#readPage = readPage;
  }

  get dirtyPages(): number {
    return this.#dirty.size;
  }

  isSet(sector: number): boolean {
    if (sector >= this.sectors) return false;
    const bytes = this.#page(Math.floor(sector / SECTORS_PER_PAGE));
    return (bytes[(sector % SECTORS_PER_PAGE) >> 3]! & (1 << (sector & 7))) !== 0;
  }

  /** The end of the run of sectors, from `sector` on and before `end`, whose bits equal that of `sector`. */
  runEnd(sector: number, end: number): number {
    const set = this.isSet(sector);
    const whole = set ? 0xff : 0;
    const wholeEnd = Math.min(end, this.sectors) - 7;
    let at = sector;
    while (at < end) {
      if ((at & 7) === 0 && at < wholeEnd) {
        const bytes = this.#page(Math.floor(at / SECTORS_PER_PAGE));
        if (bytes[(at % SECTORS_PER_PAGE) >> 3] === whole) {
          at += 8;
          continue;
        }
      }
      if (this.isSet(at) !== set) return at;
      at++;
    }
    return end;
  }

  /**
   * Sets the bits of sectors `from`…`to` − 1. The data they announce must be in the file already.
   * @returns how many of them were clear
   */
  setRange(from: number, to: number): number {
    let added = 0;
    let at = from;
    while (at < to) {
      const pageIndex = Math.floor(at / SECTORS_PER_PAGE);
      const page = this.#page(pageIndex);
      const base = pageIndex * SECTORS_PER_PAGE;
      const end = Math.min(to, base + SECTORS_PER_PAGE);
      const here = setBits(page, at - base, end - base);
      if (here > 0) this.#dirty.add(pageIndex);
      added += here;
      at = end;
    }
    return added;
  }

  /** Clears the bits of sectors `from`…`to` − 1. Their data may go only when the cleared bits are durable. */
  clearRange(from: number, to: number): void {
    for (let sector = from; sector < Math.min(to, this.sectors); sector++) {
      const pageIndex = Math.floor(sector / SECTORS_PER_PAGE);
      if (!this.isSet(sector)) continue;
      const page = this.#page(pageIndex);
      page[(sector % SECTORS_PER_PAGE) >> 3]! &= ~(1 << (sector & 7));
      this.#dirty.add(pageIndex);
    }
  }

  /** Copies of the changed pages, which count as clean from now on unless `putBack` is called. */
  takeDirty(): DirtyPage[] {
    const taken = [...this.#dirty].sort((a, b) => a - b);
    this.#dirty.clear();
    for (const page of taken) this.#inFlight.add(page);
    return taken.map((page) => ({ page, bytes: this.#pages.get(page)!.slice() }));
  }

  /** The pages are in the file now. */
  written(pages: readonly DirtyPage[]): void {
    for (const { page } of pages) this.#inFlight.delete(page);
  }

  /** The pages could not be written. */
  putBack(pages: readonly DirtyPage[]): void {
    for (const { page } of pages) {
      this.#inFlight.delete(page);
      this.#dirty.add(page);
    }
  }

  #page(index: number): Uint8Array {
    if (index === this.#lastIndex) return this.#lastPage;
    const page = this.#pages.get(index) ?? this.#load(index);
    this.#lastIndex = index;
    this.#lastPage = page;
    return page;
  }

  #load(index: number): Uint8Array {
    if (this.#pages.size >= PAGES_KEPT_MAX) this.#evictClean();
    const bytes = new Uint8Array(BITMAP_PAGE_BYTES);
    this.#readPage(index, bytes);
    this.#pages.set(index, bytes);
    return bytes;
  }

  #evictClean(): void {
    this.#lastIndex = -1;
    for (const index of this.#pages.keys()) {
      if (!this.#dirty.has(index) && !this.#inFlight.has(index)) this.#pages.delete(index);
    }
  }
}

/** Sets bits `from`…`to` − 1 of a page; how many of them were clear. */
function setBits(bytes: Uint8Array, from: number, to: number): number {
  let added = 0;
  for (let at = from; at < to; ) {
    const byte = at >> 3;
    const last = Math.min(to - (byte << 3), 8);
    const clear = ((1 << last) - 1) & ~((1 << (at & 7)) - 1) & ~bytes[byte]!;
    if (clear !== 0) {
      bytes[byte]! |= clear;
      added += bitsIn(clear);
    }
    at = (byte + 1) << 3;
  }
  return added;
}

/** How many bits of a byte are set. */
function bitsIn(byte: number): number {
  const pairs = byte - ((byte >> 1) & 0x55);
  const nibbles = (pairs & 0x33) + ((pairs >> 2) & 0x33);
  return (nibbles + (nibbles >> 4)) & 0x0f;
}

/** Reads pages of a bitmap that occupies `bytes` bytes from `offset` of `file`. */
export function filePageReader(file: HostFile, offset: number, bytes: number): PageReader {
  return (page, into) => {
    const at = page * BITMAP_PAGE_BYTES;
    const length = Math.min(BITMAP_PAGE_BYTES, bytes - at);
    if (length > 0) file.read(offset + at, [into.subarray(0, length)]);
  };
}
