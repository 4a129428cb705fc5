/** A guest's memory by linear addresses, walked as the CPU walks (Intel SDM volume 3, 4.5: 4-level paging). */
import type { MachineInspection } from '../engine/inspection.ts';
import { InspectError } from './errors.ts';

const PAGE = 4096;
const PRESENT = 1n;
const LARGE = 0x80n;
const FRAME = 0x000f_ffff_ffff_f000n;
/** Levels from the top: the shift of the index, and the bytes that an entry covers. */
const SHIFTS = [39n, 30n, 21n, 12n] as const;
const STRING_BYTES_MAX = 64 * 1024;
/** Pages whose places are kept: a power of two. */
const KNOWN_PAGES = 512;
/** Of a string at a time: a divisor of a page. */
const PIECE_BYTES = 256;

/** Where pages are, each in the one place that its number gives it. */
class KnownPages {
  readonly #pages = new Float64Array(KNOWN_PAGES).fill(-1);
  readonly #offsets = new Uint32Array(KNOWN_PAGES);

  /** RAM offset of a page; -1 where it is not known. */
  at(page: number): number {
    const slot = page & (KNOWN_PAGES - 1);
    return this.#pages[slot] === page ? this.#offsets[slot]! : -1;
  }

  note(page: number, ramOffset: number): void {
    const slot = page & (KNOWN_PAGES - 1);
    this.#pages[slot] = page;
    this.#offsets[slot] = ramOffset;
  }
}

export class LinearMemory {
  readonly #ram: Buffer;
  readonly #machine: MachineInspection;
  /** Physical address of the top-level table. */
  readonly #top: number;
  /** Of pages that large pages map: the kernel's image and its map of all memory, which stay. */
  #known: KnownPages | undefined;

  /** @param cr3 of the address space */
  constructor(machine: MachineInspection, cr3: bigint) {
    this.#machine = machine;
    const { ram } = machine;
    this.#ram = Buffer.from(ram.buffer, ram.byteOffset, ram.byteLength);
    this.#top = Number(cr3 & FRAME);
  }

  /** Guest physical address; undefined where nothing is mapped. */
  physical(linear: bigint): number | undefined {
    return this.#walk(linear)?.physical;
  }

  #walk(linear: bigint): { readonly physical: number; readonly isLarge: boolean } | undefined {
    let table = this.#top;
    for (const shift of SHIFTS) {
      const at = this.#machine.ramOffset(table + Number((linear >> shift) & 511n) * 8, 8);
      if (at < 0) return undefined;
      const entry = this.#ram.readBigUInt64LE(at);
      if ((entry & PRESENT) === 0n) return undefined;
      const isPage = shift === 12n || ((entry & LARGE) !== 0n && shift < 39n);
      if (isPage) {
        const within = (1n << shift) - 1n;
        const physical = Number((entry & FRAME & ~within) | (linear & within));
        return { physical, isLarge: shift > 12n };
      }
      table = Number(entry & FRAME);
    }
    return undefined;
  }

  /** Where bytes that are in one page are in RAM; -1 where nothing is mapped, or no RAM. */
  #ramOffset(linear: bigint, length: number): number {
    const address = BigInt.asUintN(64, linear);
    const page = Number(address >> 12n);
    const within = Number(address & 4095n);
    const known = this.#known?.at(page) ?? -1;
    if (known >= 0) return known + within;
    const found = this.#walk(address);
    if (found === undefined) return -1;
    const { physical, isLarge } = found;
    if (!isLarge) return this.#machine.ramOffset(physical, length);
    const start = this.#machine.ramOffset(physical - within, PAGE);
    if (start < 0) return this.#machine.ramOffset(physical, length);
    this.#known ??= new KnownPages();
    this.#known.note(page, start);
    return start + within;
  }

  /** Up to `length` bytes, copied: fewer when the rest is not mapped. */
  readSome(linear: bigint, length: number): Buffer {
    const out = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const at = linear + BigInt(done);
      const bytes = Math.min(length - done, PAGE - Number(at & 4095n));
      const offset = this.#ramOffset(at, bytes);
      if (offset < 0) break;
      this.#ram.copy(out, done, offset, offset + bytes);
      done += bytes;
    }
    return out.subarray(0, done);
  }

  /** Throws InspectError where nothing is mapped. */
  read(linear: bigint, length: number): Buffer {
    const bytes = this.readSome(linear, length);
    if (bytes.length < length) throw new InspectError(`nothing is mapped at 0x${linear.toString(16)}`);
    return bytes;
  }

  u32(linear: bigint): number {
    return this.#ram.readUInt32LE(this.#place(linear, 4));
  }
  i32(linear: bigint): number {
    return this.#ram.readInt32LE(this.#place(linear, 4));
  }
  u64(linear: bigint): bigint {
    return this.#ram.readBigUInt64LE(this.#place(linear, 8));
  }

  /** RAM offset of a field, which is aligned and so in one page. */
  #place(linear: bigint, length: number): number {
    const offset = Number(linear & 4095n) + length > PAGE ? -1 : this.#ramOffset(linear, length);
    if (offset < 0) throw new InspectError(`nothing is mapped at 0x${linear.toString(16)}`);
    return offset;
  }

  /** Bytes up to a NUL, or to what is not mapped. */
  bytesToNul(linear: bigint, bytesMax = STRING_BYTES_MAX): Buffer {
    const pieces: Buffer[] = [];
    for (let done = 0; done < bytesMax; ) {
      const at = linear + BigInt(done);
      const piece = this.readSome(
        at,
        Math.min(bytesMax - done, PIECE_BYTES - (Number(at & 4095n) % PIECE_BYTES)),
      );
      const end = piece.indexOf(0);
      pieces.push(end < 0 ? piece : piece.subarray(0, end));
      if (end >= 0 || piece.length === 0) break;
      done += piece.length;
    }
    return Buffer.concat(pieces);
  }

  text(linear: bigint, bytesMax = STRING_BYTES_MAX, encoding: 'utf8' | 'latin1' = 'utf8'): string {
    // As most are, in one page.
    const offset = this.#ramOffset(linear, 1);
    const end = offset < 0 ? -1 : offset + Math.min(bytesMax, PAGE - Number(linear & 4095n));
    for (let at = offset; at < end; at++) {
      if (this.#ram[at] === 0) return this.#ram.toString(encoding, offset, at);
    }
    return this.bytesToNul(linear, bytesMax).toString(encoding);
  }
}
