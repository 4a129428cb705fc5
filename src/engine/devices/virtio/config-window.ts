/**
 * The PCI configuration access capability (virtio 1.2, 4.1.4.9): lets firmware reach the BARs through
 * configuration space, before it has mapped them.
 */
import type { PciFunction } from '../pci/index.ts';

/** Offsets of the fields in the capability. */
const FIELD = { BAR: 4, OFFSET: 8, LENGTH: 12, DATA: 16 } as const;

export class ConfigWindow {
  readonly #pci: PciFunction;
  readonly #at: number;

  /** @param at offset of the capability in the function's configuration space */
  constructor(pci: PciFunction, at: number) {
    this.#pci = pci;
    this.#at = at;
    pci.allowWrites(at + FIELD.BAR, 1, 0xff);
    for (const field of [FIELD.OFFSET, FIELD.LENGTH, FIELD.DATA]) pci.allowWrites(at + field, 4, 0xffff_ffff);
  }

  /** Before a read of configuration space: fetches the data that the window shows. */
  beforeRead(offset: number): void {
    const target = this.#target(offset);
    if (target === undefined) return;
    const value = target.region.read(target.offset, target.size);
    this.#pci.set(this.#at + FIELD.DATA, 4, value);
  }

  /** After a write to configuration space: passes on what was written through the window. */
  afterWrite(offset: number): void {
    const target = this.#target(offset);
    if (target === undefined) return;
    const data = this.#pci.get(this.#at + FIELD.DATA, target.size);
    target.region.write(target.offset, target.size, data);
  }

  /** What the window shows; undefined if `offset` is not the data register or the fields make no sense. */
  #target(offset: number) {
    if (offset !== this.#at + FIELD.DATA) return undefined;
    const index = this.#pci.get(this.#at + FIELD.BAR, 1);
    const at = this.#pci.get(this.#at + FIELD.OFFSET, 4);
    const size = this.#pci.get(this.#at + FIELD.LENGTH, 4);
    const bar = this.#pci.bars.find((candidate) => candidate.index === index);
    if (bar === undefined || (size !== 1 && size !== 2 && size !== 4)) return undefined;
    if (at % size !== 0 || at + size > bar.bytes) return undefined;
    return { region: bar.region, offset: at, size };
  }
}
