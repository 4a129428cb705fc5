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

export class LinearMemory {
  readonly #ram: Buffer;
  readonly #machine: MachineInspection;
  /** Physical address of the top-level table. */
  readonly #top: number;

  /** @param cr3 of the address space */
  constructor(machine: MachineInspection, cr3: bigint) {
    this.#machine = machine;
    const { ram } = machine;
    this.#ram = Buffer.from(ram.buffer, ram.byteOffset, ram.byteLength);
    this.#top = Number(cr3 & FRAME);
  }

  /** Guest physical address; undefined where nothing is mapped. */
  physical(linear: bigint): number | undefined {
    let table = this.#top;
    for (const shift of SHIFTS) {
      const at = this.#machine.ramOffset(table + Number((linear >> shift) & 511n) * 8, 8);
      if (at < 0) return undefined;
      const entry = this.#ram.readBigUInt64LE(at);
      if ((entry & PRESENT) === 0n) return undefined;
      const isPage = shift === 12n || ((entry & LARGE) !== 0n && shift < 39n);
      if (isPage) {
        const within = (1n << shift) - 1n;
        return Number((entry & FRAME & ~within) | (linear & within));
      }
      table = Number(entry & FRAME);
    }
    return undefined;
  }

  /** Up to `length` bytes, copied: fewer when the rest is not mapped. */
  readSome(linear: bigint, length: number): Buffer {
    const out = Buffer.alloc(length);
    let done = 0;
    while (done < length) {
      const at = linear + BigInt(done);
      const bytes = Math.min(length - done, PAGE - Number(at & 4095n));
      const physical = this.physical(BigInt.asUintN(64, at));
      const offset = physical === undefined ? -1 : this.#machine.ramOffset(physical, bytes);
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

  u8(linear: bigint): number {
    return this.read(linear, 1).readUInt8(0);
  }
  u16(linear: bigint): number {
    return this.read(linear, 2).readUInt16LE(0);
  }
  u32(linear: bigint): number {
    return this.read(linear, 4).readUInt32LE(0);
  }
  i32(linear: bigint): number {
    return this.read(linear, 4).readInt32LE(0);
  }
  u64(linear: bigint): bigint {
    return this.read(linear, 8).readBigUInt64LE(0);
  }

  /** Bytes up to a NUL, or to what is not mapped. */
  bytesToNul(linear: bigint, bytesMax = STRING_BYTES_MAX): Buffer {
    const pieces: Buffer[] = [];
    for (let done = 0; done < bytesMax; ) {
      const at = linear + BigInt(done);
      const piece = this.readSome(at, Math.min(bytesMax - done, PAGE - Number(at & 4095n)));
      const end = piece.indexOf(0);
      pieces.push(end < 0 ? piece : piece.subarray(0, end));
      if (end >= 0 || piece.length === 0) break;
      done += piece.length;
    }
    return Buffer.concat(pieces);
  }

  text(linear: bigint, bytesMax?: number): string {
    return this.bytesToNul(linear, bytesMax).toString('utf8');
  }
}
