/**
 * A running guest's memory, read at trace points: a hook that allocates, or that goes through much code, costs the guest more by what it
 * takes out of the processor's caches than by its own time. So addresses are two words, what is read are words and offsets in RAM,
 * and what is not there is told by -1.
 */
import type { MachineInspection } from '../../engine/inspection.ts';
import type { LinuxKernel } from '../kernel.ts';

const PAGE = 4096;
const WORD = 2 ** 32;
/** Bits of a page table's entry (Intel SDM volume 3, 4.5). */
const PRESENT = 1;
const LARGE = 0x80;
const FRAME_LOW = 0xffff_f000;
const FRAME_HIGH = 0x000f_ffff;
/** PAGE_OFFSET without KASLR (arch/x86/include/asm/page_64_types.h). */
const DIRECT_MAP = 0xffff_8880_0000_0000n;
/** Of the kernel's map of all memory, which is longer: no RAM is behind. */
const DIRECT_BYTES = 8 * WORD;

export class GuestWords {
  readonly ram: Uint8Array;
  readonly #view: DataView;
  readonly #machine: MachineInspection;
  readonly #directHigh: number;
  readonly #directLow: number;

  /** @param directMap where the kernel's map of all memory begins, see `directMapOf` */
  constructor(machine: MachineInspection, directMap: bigint) {
    this.#machine = machine;
    this.ram = machine.ram;
    this.#view = new DataView(this.ram.buffer, this.ram.byteOffset, this.ram.byteLength);
    this.#directHigh = Number(directMap >> 32n);
    this.#directLow = Number(directMap & 0xffff_ffffn);
  }

  /** Offset in RAM of bytes that are in one page, or in one piece of the kernel's memory; -1 where nothing is mapped, or no RAM. */
  at(high: number, low: number, bytes: number): number {
    const physical = (high - this.#directHigh) * WORD + (low - this.#directLow);
    if (physical >= 0 && physical < DIRECT_BYTES) return this.#machine.ramOffset(physical, bytes);
    return (low & (PAGE - 1)) + bytes > PAGE ? -1 : this.#walk(high, low, bytes);
  }

  /** The same behind an address. */
  behind(high: number, low: number, offset: number, bytes: number): number {
    const sum = low + offset;
    return this.at((high + (sum >= WORD ? 1 : 0)) >>> 0, sum >>> 0, bytes);
  }

  /** The same behind the address that is at an offset in RAM. */
  pointed(at: number, offset: number, bytes: number): number {
    return this.behind(this.word(at + 4), this.word(at), offset, bytes);
  }

  /** A word at an offset in RAM. */
  word(at: number): number {
    return this.#view.getUint32(at, true);
  }

  /** As the CPU would, in the address space that it is in. */
  #walk(high: number, low: number, bytes: number): number {
    let table = this.#machine.pageTables;
    for (let level = 3; level >= 0; level--) {
      const at = this.#machine.ramOffset(table + indexOf(high, low, level) * 8, 8);
      if (at < 0) return -1;
      const entry = this.#view.getUint32(at, true);
      if ((entry & PRESENT) === 0) return -1;
      const frame = (this.#view.getUint32(at + 4, true) & FRAME_HIGH) * WORD + ((entry & FRAME_LOW) >>> 0);
      const isPage = level === 0 || ((entry & LARGE) !== 0 && level < 3);
      if (isPage) {
        const span = 2 ** (12 + 9 * level);
        const physical = frame - (frame % span) + (low & (Math.min(span, 2 ** 30) - 1));
        return this.#machine.ramOffset(physical, bytes);
      }
      table = frame;
    }
    return -1;
  }
}

/** Of an address's entry in the tables of a level, 0 being the last. */
function indexOf(high: number, low: number, level: number): number {
  switch (level) {
    case 3:
      return (high >>> 7) & 511;
    case 2:
      return ((high << 2) | (low >>> 30)) & 511;
    case 1:
      return (low >>> 21) & 511;
    default:
      return (low >>> 12) & 511;
  }
}

/** Where a kernel has its map of all memory. */
export function directMapOf(kernel: LinuxKernel): bigint {
  if (!kernel.has('page_offset_base')) return DIRECT_MAP;
  return kernel.memory.u64(kernel.symbol('page_offset_base'));
}
