/** MSI-X (PCI Local Bus 3.0, 6.8.2): vector table, pending bits, and the function's capability. */
import type { IoRegion } from '../../machine/bus.ts';
import type { PciFunction } from './function.ts';

export const MSIX_CAPABILITY_ID = 0x11;
const ENTRY_WORDS = 4;
const CONTROL = { ENABLE: 0x8000, MASK_ALL: 0x4000 } as const;
const VECTOR_MASKED = 1;
/** Where the pending bit array starts in the BAR. */
const PBA_OFFSET = 0x800;
export const MSIX_BAR_BYTES = 0x1000;
/** As many vectors as fit before the pending bits. */
export const MSIX_VECTORS_MAX = PBA_OFFSET / (ENTRY_WORDS * 4);

export class Msix {
  readonly vectors: number;
  /** Answers in the BAR that holds the table and the pending bits. */
  readonly region: IoRegion;
  readonly #table: Uint32Array;
  readonly #pending: Uint32Array;
  readonly #send: (address: number, data: number) => void;
  #function: PciFunction | undefined;
  #controlOffset = 0;

  /** @param send delivers a message; called only for unmasked vectors */
  constructor(vectors: number, send: (address: number, data: number) => void) {
    if (vectors > MSIX_VECTORS_MAX) throw new RangeError(`more than ${MSIX_VECTORS_MAX} MSI-X vectors`);
    this.vectors = vectors;
    this.#table = new Uint32Array(vectors * ENTRY_WORDS);
    this.#pending = new Uint32Array(Math.ceil(vectors / 32));
    this.#send = send;
    this.region = {
      name: 'msix',
      read: (offset, size) => this.#read(offset, size),
      write: (offset, size, value) => this.#write(offset, size, value),
    };
    this.reset();
  }

  /** Adds the capability to `pciFunction`; the region answers in BAR `barIndex`. */
  addTo(pciFunction: PciFunction, barIndex: number): void {
    const body = new Uint8Array(10);
    const view = new DataView(body.buffer);
    view.setUint16(0, this.vectors - 1, true);
    view.setUint32(2, barIndex, true);
    view.setUint32(6, PBA_OFFSET | barIndex, true);
    this.#function = pciFunction;
    this.#controlOffset = pciFunction.addCapability(MSIX_CAPABILITY_ID, body) + 2;
    pciFunction.allowWrites(this.#controlOffset, 2, CONTROL.ENABLE | CONTROL.MASK_ALL);
  }

  /** To be called after a write to configuration space: a mask may have gone. */
  configWritten(offset: number, size: number): void {
    if (offset < this.#controlOffset + 2 && offset + size > this.#controlOffset) this.#deliverPending();
  }

  get enabled(): boolean {
    return (this.#control() & CONTROL.ENABLE) !== 0;
  }

  /** Sends a vector's message, or makes it pending while it is masked. */
  fire(vector: number): void {
    if (vector >= this.vectors) return;
    if (this.#masked(vector)) {
      this.#pending[vector >> 5] |= 1 << (vector & 31);
      return;
    }
    const entry = vector * ENTRY_WORDS;
    this.#send(this.#table[entry], this.#table[entry + 2]);
  }

  reset(): void {
    this.#table.fill(0);
    this.#pending.fill(0);
    for (let vector = 0; vector < this.vectors; vector++) {
      this.#table[vector * ENTRY_WORDS + 3] = VECTOR_MASKED;
    }
  }

  #control(): number {
    return this.#function?.get(this.#controlOffset, 2) ?? 0;
  }

  #masked(vector: number): boolean {
    if ((this.#control() & CONTROL.MASK_ALL) !== 0) return true;
    return (this.#table[vector * ENTRY_WORDS + 3] & VECTOR_MASKED) !== 0;
  }

  #deliverPending(): void {
    if (!this.enabled) return;
    for (let vector = 0; vector < this.vectors; vector++) {
      const bit = 1 << (vector & 31);
      if ((this.#pending[vector >> 5] & bit) === 0 || this.#masked(vector)) continue;
      this.#pending[vector >> 5] &= ~bit;
      this.fire(vector);
    }
  }

  #read(offset: number, size: number): number {
    const word = offset >> 2;
    const value = offset >= PBA_OFFSET ? this.#pending[word - PBA_OFFSET / 4] : this.#table[word];
    const shifted = (value ?? 0) >>> ((offset & 3) * 8);
    return size === 4 ? shifted : shifted & (size === 2 ? 0xffff : 0xff);
  }

  /** Only aligned dwords are written (6.8.2: other sizes are undefined); the pending bits are read-only. */
  #write(offset: number, size: number, value: number): void {
    const word = offset >> 2;
    if (size !== 4 || (offset & 3) !== 0 || word >= this.#table.length) return;
    this.#table[word] = value;
    if (word % ENTRY_WORDS === 3) this.#deliverPending();
  }
}
