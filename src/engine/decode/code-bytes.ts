/** The guest code that is being decoded: bytes of one page, and of the next where an instruction crosses. */

import { shapeKeeper } from '../shapes.ts';

/** The next page cannot be fetched; the instruction that needs it faults when it is reached. */
export class FetchFault extends Error {}

const keepShape = shapeKeeper<CodeBytes>();

export class CodeBytes {
  readonly #ram: Uint8Array;
  /** RAM offset of the page's first byte. */
  readonly #page: number;
  readonly #fetchNextPage: () => number;
  /** RAM offset of the second page, -1 until it is needed. */
  secondPage = -1;
  /** Offset from the page's start of the next byte; passes 4096 in the second page. */
  pageOffset: number;
  /** Set when what an instruction becomes depends on its place by more than PC, NEXT_PC and RIP-relative addresses. */
  placeMatters = false;

  /**
   * @param ram guest RAM
   * @param page RAM offset of the page
   * @param pageOffset where to begin
   * @param fetchNextPage RAM offset of the page that follows in linear addresses; throws FetchFault
   */
  constructor(ram: Uint8Array, page: number, pageOffset: number, fetchNextPage: () => number) {
    this.#ram = ram;
    this.#page = page;
    this.pageOffset = pageOffset;
    this.#fetchNextPage = fetchNextPage;
    keepShape(this);
  }

  next(): number {
    const offset = this.pageOffset++;
    if (offset < 4096) return this.#ram[this.#page + offset];
    if (this.secondPage < 0) this.secondPage = this.#fetchNextPage();
    return this.#ram[this.secondPage + offset - 4096];
  }

  /** Four bytes from `ahead` on, without going on. They must lie in the first page. */
  word(ahead: number): number {
    const ram = this.#ram;
    const at = this.#page + this.pageOffset + ahead;
    return ram[at]! | (ram[at + 1]! << 8) | (ram[at + 2]! << 16) | (ram[at + 3]! << 24);
  }

  /** True when bytes of the second page were asked for. */
  get crossed(): boolean {
    return this.pageOffset > 4096;
  }

  /** Goes back to an offset in the first page. */
  rewind(pageOffset: number): void {
    this.pageOffset = pageOffset;
    this.secondPage = -1;
  }

  back(): void {
    this.pageOffset -= 1;
  }
}
