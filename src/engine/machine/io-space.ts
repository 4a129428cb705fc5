/** An I/O space: which device answers an address. Used for I/O ports and for physical memory outside RAM. */
import type { IoRegion, IoSpace } from './bus.ts';

interface Mapping {
  readonly base: number;
  readonly end: number;
  readonly region: IoRegion;
}

const NOTHING: Mapping = { base: -1, end: -1, region: { name: 'nothing', read: () => 0, write: () => {} } };

/** What an access that no device answers reads: all ones. */
const allOnes = (size: number): number => (size >= 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff);

/** Mappings sorted by address, with the last hit remembered: accesses come in runs. */
export class AddressSpace implements IoSpace {
  readonly #name: string;
  #mappings: Mapping[] = [];
  #last: Mapping = NOTHING;
  readonly #bytePorts = new Map<number, IoRegion>();

  constructor(name: string) {
    this.#name = name;
  }

  /** Throws RangeError where the range overlaps another mapping. */
  map(base: number, length: number, region: IoRegion): () => void {
    const mapping = { base, end: base + length, region };
    const clash = this.#mappings.find((other) => other.base < mapping.end && base < other.end);
    if (clash !== undefined) {
      throw new RangeError(
        `${region.name} at ${this.#name} 0x${base.toString(16)}+${length} overlaps ${clash.region.name}`,
      );
    }
    this.#mappings = [...this.#mappings, mapping].sort((a, b) => a.base - b.base);
    return () => {
      this.#mappings = this.#mappings.filter((other) => other !== mapping);
      this.#last = NOTHING;
    };
  }

  /** Takes one-byte accesses to `address` away from whatever device has it (0xcf9 lies inside PCI's 0xcf8). */
  mapByte(address: number, region: IoRegion): void {
    this.#bytePorts.set(address, region);
  }

  read(address: number, size: number): number {
    if (size === 1) {
      const byte = this.#bytePorts.get(address);
      if (byte !== undefined) return byte.read(0, 1);
    }
    const mapping = this.#find(address);
    if (mapping !== undefined && address + size <= mapping.end && (size === 1 || size === 2 || size === 4)) {
      return mapping.region.read(address - mapping.base, size) >>> 0;
    }
    if (size === 1 || (mapping === undefined && this.#isHole(address, size))) return allOnes(size);
    let value = 0;
    for (let i = 0; i < size; i++) value += this.read(address + i, 1) * 2 ** (8 * i);
    return value;
  }

  write(address: number, size: number, value: number): void {
    if (size === 1) {
      const byte = this.#bytePorts.get(address);
      if (byte !== undefined) {
        byte.write(0, 1, value & 0xff);
        return;
      }
    }
    const mapping = this.#find(address);
    if (mapping !== undefined && address + size <= mapping.end && (size === 1 || size === 2 || size === 4)) {
      const mask = size === 4 ? 0xffff_ffff : size === 2 ? 0xffff : 0xff;
      mapping.region.write(address - mapping.base, size, (value & mask) >>> 0);
      return;
    }
    if (size === 1) return;
    for (let i = 0; i < size; i++) this.write(address + i, 1, Math.floor(value / 2 ** (8 * i)) & 0xff);
  }

  #find(address: number): Mapping | undefined {
    const last = this.#last;
    if (address >= last.base && address < last.end) return last;
    const mappings = this.#mappings;
    let low = 0;
    let high = mappings.length - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const mapping = mappings[middle]!;
      if (address < mapping.base) high = middle - 1;
      else if (address >= mapping.end) low = middle + 1;
      else {
        this.#last = mapping;
        return mapping;
      }
    }
    return undefined;
  }

  #isHole(address: number, size: number): boolean {
    return !this.#mappings.some((mapping) => mapping.base < address + size && address < mapping.end);
  }
}

/** A region of byte-wide registers, as ISA devices have: wider accesses become several of one byte. */
export function byteRegion(
  name: string,
  read: (offset: number) => number,
  write: (offset: number, value: number) => void,
): IoRegion {
  return {
    name,
    read(offset, size) {
      let value = 0;
      for (let i = 0; i < size; i++) value |= (read(offset + i) & 0xff) << (8 * i);
      return value >>> 0;
    },
    write(offset, size, value) {
      for (let i = 0; i < size; i++) write(offset + i, (value >>> (8 * i)) & 0xff);
    },
  };
}
