/** Guest physical memory as devices see it: bounds-checked, and coherent with translated code. */
import { HIGH_RAM, LOW_RAM_MAX, type MemoryMap } from '../layout.ts';

/** Up to this many bytes a loop is faster than making views. */
const SHORT_BYTES = 32;

/** A guest gave a device an address that is not RAM. */
export class GuestAddressError extends Error {
  constructor(gpa: number, length: number) {
    super(`guest address 0x${gpa.toString(16)}+${length} is not RAM`);
  }
}

export class GuestMemory {
  readonly ramBytes: number;
  readonly #memory: WebAssembly.Memory;
  readonly #map: MemoryMap;
  readonly #codeBitmap: Uint32Array;
  readonly #invalidate: (ramOffset: number, length: number) => void;
  #bytes: Uint8Array;
  #view: DataView;

  /**
   * @param invalidate drops translated code that overlaps a range of RAM offsets
   */
  constructor(
    memory: WebAssembly.Memory,
    map: MemoryMap,
    invalidate: (ramOffset: number, length: number) => void,
  ) {
    this.#memory = memory;
    this.#map = map;
    this.ramBytes = map.ramBytes;
    this.#invalidate = invalidate;
    this.#codeBitmap = new Uint32Array(memory.buffer, map.codeBitmap, (map.ramBytes / 4096) * 2);
    this.#bytes = new Uint8Array(memory.buffer, map.ram, map.ramBytes);
    this.#view = new DataView(memory.buffer, map.ram, map.ramBytes);
  }

  /** Offset in RAM of a guest physical range, -1 if any byte of it is not RAM. */
  ramOffset(gpa: number, length: number): number {
    const low = Math.min(this.ramBytes, LOW_RAM_MAX);
    if (gpa >= 0 && gpa + length <= low) return gpa;
    if (gpa >= HIGH_RAM && gpa - HIGH_RAM + low + length <= this.ramBytes) return gpa - HIGH_RAM + low;
    return -1;
  }

  #offset(gpa: number, length: number): number {
    const offset = this.ramOffset(gpa, length);
    if (offset < 0) throw new GuestAddressError(gpa, length);
    return offset;
  }

  /** A view for reading (device reads from guest RAM). Throws GuestAddressError. */
  readable(gpa: number, length: number): Uint8Array {
    const offset = this.#offset(gpa, length);
    return this.#bytes.subarray(offset, offset + length);
  }

  /** A view for writing; call `written` when the data is there. Throws GuestAddressError. */
  writable(gpa: number, length: number): Uint8Array {
    return this.readable(gpa, length);
  }

  /** Tells the engine that a device wrote the range, so that stale translated code is dropped. */
  written(gpa: number, length: number): void {
    if (length <= 0) return;
    const offset = this.#offset(gpa, length);
    const lastPage = (offset + length - 1) >>> 12;
    for (let page = offset >>> 12; page <= lastPage; page++) {
      if ((this.#codeBitmap[page * 2] | this.#codeBitmap[page * 2 + 1]) === 0) continue;
      const start = Math.max(offset, page * 4096);
      this.#invalidate(start, Math.min(offset + length, (page + 1) * 4096) - start);
    }
  }

  /** Copies RAM to `into`, or to `length` bytes of it from `at` on. Throws GuestAddressError. */
  read(gpa: number, into: Uint8Array, at = 0, length = into.length - at): void {
    const offset = this.#offset(gpa, length);
    if (length > SHORT_BYTES) into.set(this.#bytes.subarray(offset, offset + length), at);
    else for (let i = 0; i < length; i++) into[at + i] = this.#bytes[offset + i]!;
  }

  /** Copies `from`, or `length` bytes of it from `at` on, into RAM. Throws GuestAddressError. */
  write(gpa: number, from: Uint8Array, at = 0, length = from.length - at): void {
    const offset = this.#offset(gpa, length);
    if (length > SHORT_BYTES) this.#bytes.set(from.subarray(at, at + length), offset);
    else for (let i = 0; i < length; i++) this.#bytes[offset + i] = from[at + i]!;
    this.written(gpa, length);
  }

  readU16(gpa: number): number {
    return this.#view.getUint16(this.#offset(gpa, 2), true);
  }
  readU32(gpa: number): number {
    return this.#view.getUint32(this.#offset(gpa, 4), true);
  }
  /** A u64 as a double; guest addresses and lengths are below 2^53 or not RAM. */
  readU64(gpa: number): number {
    const offset = this.#offset(gpa, 8);
    return this.#view.getUint32(offset, true) + this.#view.getUint32(offset + 4, true) * 0x1_0000_0000;
  }
  writeU16(gpa: number, value: number): void {
    this.#view.setUint16(this.#offset(gpa, 2), value, true);
    this.written(gpa, 2);
  }
  writeU32(gpa: number, value: number): void {
    this.#view.setUint32(this.#offset(gpa, 4), value, true);
    this.written(gpa, 4);
  }

  /** The memory itself: what two vCPUs or a worker share. */
  get shared(): WebAssembly.Memory {
    return this.#memory;
  }
  /** Address of guest physical 0 in the linear memory. */
  get base(): number {
    return this.#map.ram;
  }
}
