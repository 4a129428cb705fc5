/**
 * Which of the layers over each other has a sector: the highest one whose bit is set, or the base below all of them. Pages
 * of the index are merged from the layers' bitmaps when first needed; so a read costs the same whether there is one layer
 * or many. A bounded number of pages is kept. Layers here never change, or only where a higher one hides it.
 */
import { BITMAP_PAGE_BYTES, type PageReader, SECTORS_PER_PAGE } from '../cow/bitmap.ts';

/** An owner fits a byte; 0 is the base. */
export const OWNERS_MAX = 255;
/** 64 GiB of disk at 16 MiB a page, most pages of 4 KiB. */
const PAGES_KEPT_MAX = 4096;
const SECTORS_PER_BLOCK = 8;

/** A page of the index: an owner for all of it, for each block of 4 KiB, or for each sector. */
type Page =
  | { readonly kind: 'whole'; readonly owner: number }
  | { readonly kind: 'blocks'; readonly owners: Uint8Array }
  | { readonly kind: 'sectors'; readonly owners: Uint8Array };

export class OwnerIndex {
  readonly #readers: readonly PageReader[];
  readonly #pages = new Map<number, Page>();
  /** The page that was asked for last: the next question is mostly about the same. */
  #lastIndex = -1;
  #lastPage: Page = { kind: 'whole', owner: 0 };
  readonly #bitmap = new Uint8Array(BITMAP_PAGE_BYTES);
  readonly #words = new Uint32Array(this.#bitmap.buffer);

  /** Readers of the layers' bitmaps, the lowest first: the first of them is owner 1. */
  constructor(readers: readonly PageReader[]) {
    if (readers.length > OWNERS_MAX) throw new RangeError(`${readers.length} layers over each other`);
    this.#readers = readers;
  }

  owner(sector: number): number {
    return ownerIn(this.#page(Math.floor(sector / SECTORS_PER_PAGE)), sector % SECTORS_PER_PAGE);
  }

  /** The end of the run of sectors, from `sector` on and before `end`, that have the same owner. */
  runEnd(sector: number, end: number): number {
    const owner = this.owner(sector);
    for (let at = sector; at < end; ) {
      const base = Math.floor(at / SECTORS_PER_PAGE) * SECTORS_PER_PAGE;
      const page = this.#page(base / SECTORS_PER_PAGE);
      const limit = Math.min(end - base, SECTORS_PER_PAGE);
      const stop = runEndIn(page, at - base, limit, owner);
      if (stop < limit) return base + stop;
      at = base + limit;
    }
    return end;
  }

  #page(index: number): Page {
    if (index !== this.#lastIndex) {
      this.#lastPage = this.#pages.get(index) ?? this.#load(index);
      this.#lastIndex = index;
    }
    return this.#lastPage;
  }

  #load(index: number): Page {
    if (this.#pages.size >= PAGES_KEPT_MAX) this.#pages.clear();
    const page = this.#build(index);
    this.#pages.set(index, page);
    return page;
  }

  #build(index: number): Page {
    const blocks = new Uint8Array(BITMAP_PAGE_BYTES);
    let sectors: Uint8Array | undefined;
    for (const [layer, read] of this.#readers.entries()) {
      this.#bitmap.fill(0);
      read(index, this.#bitmap);
      if (this.#words.every((word) => word === 0)) continue;
      if (sectors === undefined && this.#bitmap.some((byte) => byte !== 0 && byte !== 0xff)) {
        sectors = spread(blocks);
      }
      if (sectors === undefined) markBlocks(this.#bitmap, blocks, layer + 1);
      else markSectors(this.#bitmap, sectors, layer + 1);
    }
    if (sectors !== undefined) return { kind: 'sectors', owners: sectors };
    const owner = blocks[0]!;
    return blocks.every((other) => other === owner)
      ? { kind: 'whole', owner }
      : { kind: 'blocks', owners: blocks };
  }
}

/** The owners of blocks as owners of sectors. */
function spread(blocks: Uint8Array): Uint8Array {
  const sectors = new Uint8Array(SECTORS_PER_PAGE);
  for (const [block, owner] of blocks.entries()) {
    if (owner !== 0) sectors.fill(owner, block * SECTORS_PER_BLOCK, (block + 1) * SECTORS_PER_BLOCK);
  }
  return sectors;
}

function markBlocks(bitmap: Uint8Array, blocks: Uint8Array, owner: number): void {
  for (let block = 0; block < bitmap.length; block++) if (bitmap[block] === 0xff) blocks[block] = owner;
}

function markSectors(bitmap: Uint8Array, sectors: Uint8Array, owner: number): void {
  for (let block = 0; block < bitmap.length; block++) {
    const bits = bitmap[block]!;
    if (bits === 0) continue;
    const base = block * SECTORS_PER_BLOCK;
    for (let bit = 0; bit < SECTORS_PER_BLOCK; bit++) {
      if ((bits & (1 << bit)) !== 0) sectors[base + bit] = owner;
    }
  }
}

function ownerIn(page: Page, sector: number): number {
  switch (page.kind) {
    case 'whole':
      return page.owner;
    case 'blocks':
      return page.owners[sector >> 3]!;
    case 'sectors':
      return page.owners[sector]!;
  }
}

/** The first sector of the page, from `sector` on, that has another owner; `limit` when there is none before it. */
function runEndIn(page: Page, sector: number, limit: number, owner: number): number {
  if (page.kind === 'whole') return page.owner === owner ? limit : sector;
  const { owners } = page;
  if (page.kind === 'sectors') {
    let at = sector;
    while (at < limit && owners[at] === owner) at++;
    return at;
  }
  let block = sector >> 3;
  if (owners[block] !== owner) return sector;
  while (block * SECTORS_PER_BLOCK < limit && owners[block] === owner) block++;
  return Math.min(block * SECTORS_PER_BLOCK, limit);
}
