/**
 * Where a guest's page tables put code, read without a trace: no accessed bits are set and no TLB is filled. What it
 * finds is a proposal, which the core checks when the compiled code is entered (`checkPlacement`).
 */
import { HIGH_RAM, LOW_RAM_MAX, type MemoryMap, MODE } from '../layout.ts';

/** The registers that paging depends on, and the mode of the code. */
export interface Paging {
  readonly cr0: bigint;
  readonly cr3: bigint;
  readonly efer: bigint;
  readonly mode: number;
}

const CR0_PG = 1n << 31n;
const EFER_LMA = 1n << 10n;
const EFER_NXE = 1n << 11n;
const PRESENT = 1;
const USER = 4;
const LARGE = 0x80;
const NO_EXECUTE = 0x8000_0000;
const LEVELS = 4;

export class PageWalker {
  readonly #ram: DataView;
  readonly #ramBytes: number;
  readonly #low: number;

  constructor(buffer: ArrayBufferLike, map: MemoryMap) {
    this.#ram = new DataView(buffer, map.ram, map.ramBytes);
    this.#ramBytes = map.ramBytes;
    this.#low = Math.min(map.ramBytes, LOW_RAM_MAX);
  }

  /** RAM offset of the page at a linear address, -1 where code cannot be executed or paging is neither off nor 64-bit. */
  codePage(linear: bigint, paging: Paging): number {
    const address = Number(BigInt.asUintN(48, linear));
    if ((paging.cr0 & CR0_PG) === 0n) return this.#ramOffset(address - (address % 4096));
    if ((paging.efer & EFER_LMA) === 0n) return -1;
    return this.#walk(address, paging);
  }

  #ramOffset(physical: number): number {
    if (physical < this.#low) return physical;
    const offset = physical - HIGH_RAM + this.#low;
    return physical >= HIGH_RAM && offset < this.#ramBytes ? offset : -1;
  }

  #walk(address: number, { cr3, efer, mode }: Paging): number {
    const forbidden = (efer & EFER_NXE) === 0n ? 0 : NO_EXECUTE;
    const required = mode & MODE.USER ? PRESENT | USER : PRESENT;
    let table = Number(cr3 & 0xff_ffff_f000n);
    for (let level = LEVELS; level > 0; level--) {
      const size = 2 ** (12 + 9 * (level - 1));
      const at = this.#ramOffset(table + (Math.floor(address / size) & 511) * 8);
      if (at < 0) return -1;
      const low = this.#ram.getUint32(at, true);
      const high = this.#ram.getUint32(at + 4, true);
      if ((low & required) !== required || (high & forbidden) !== 0) return -1;
      table = (high & 0xff) * 2 ** 32 + ((low & 0xffff_f000) >>> 0);
      if (level > 1 && (low & LARGE) === 0) continue;
      const page = table - (table % size) + (address % size);
      return this.#ramOffset(page - (page % 4096));
    }
    return -1;
  }
}
