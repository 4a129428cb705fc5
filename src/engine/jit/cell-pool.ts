/** A stretch of memory in cells of one size, which are taken and given back one by one. */
export class CellPool {
  readonly #start: number;
  readonly #bytes: number;
  readonly #cells: number;
  readonly #free: number[] = [];
  /** Cells from the start on that have been taken at some time. */
  #touched = 0;

  /** @param bytes of a cell */
  constructor(start: number, bytes: number, cells: number) {
    this.#start = start;
    this.#bytes = bytes;
    this.#cells = cells;
  }

  /** Cells that can be taken. */
  get available(): number {
    return this.#free.length + this.#cells - this.#touched;
  }

  /** Address of a cell, which holds anything; undefined when all are taken. */
  take(): number | undefined {
    const given = this.#free.pop();
    if (given !== undefined || this.#touched === this.#cells) return given;
    return this.#start + this.#bytes * this.#touched++;
  }

  /** Takes `count` cells, or none when there are not as many. */
  takeMany(count: number): number[] | undefined {
    if (count > this.available) return undefined;
    return Array.from({ length: count }, () => this.take()!);
  }

  give(cell: number): void {
    this.#free.push(cell);
  }

  /** All cells have been given back. */
  clear(): void {
    this.#free.length = 0;
    this.#touched = 0;
  }
}
