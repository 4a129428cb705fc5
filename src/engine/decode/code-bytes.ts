/** The guest code that is being decoded: bytes of one page, and of the next where an instruction crosses. */

import { shapeKeeper } from '../shapes.ts';

/** The next page cannot be fetched; the instruction that needs it faults when it is reached. */
export class FetchFault extends Error {}

const keepShape = shapeKeeper<CodeBytes>();

export class CodeBytes {
  readonly #memory: Uint8Array;
  /** Address of the page's first byte. */
  readonly page: number;
  readonly #fetchNextPage: () => number;
  /** What is added to `pageOffset` to find a byte of the page. */
  #from: number;
  /** Address of the second page, -1 until it is needed. */
  secondPage = -1;
  /** Offset from the page's start of the next byte; passes 4096 in the second page. */
  pageOffset: number;
  /** Set when what an instruction becomes depends on its place by more than PC, NEXT_PC and RIP-relative addresses. */
  placeMatters = false;

  /**
   * @param memory what the pages are in
   * @param page address of the page
   * @param pageOffset where to begin
   * @param fetchNextPage address of the page that follows in linear addresses; throws FetchFault
   */
  constructor(memory: Uint8Array, page: number, pageOffset: number, fetchNextPage: () => number) {
    this.#memory = memory;
    this.page = page;
    this.#from = page;
    this.pageOffset = pageOffset;
    this.#fetchNextPage = fetchNextPage;
    keepShape(this);
  }

  next(): number {
    const offset = this.pageOffset++;
    if (offset < 4096) return this.#memory[this.#from + offset];
    if (this.secondPage < 0) this.secondPage = this.#fetchNextPage();
    return this.#memory[this.secondPage + offset - 4096];
  }

  /** Has bytes of the page read from a copy, of a page that would begin at `address`. */
  readFrom(address: number): void {
    this.#from = address;
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
