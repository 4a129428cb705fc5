/**
 * The PCI root bus: an Intel 440FX-like host bridge at 00:00.0, configuration mechanism #1
 * (PCI Local Bus 3.0, 3.2.2.3.2), 32 slots with one function each, and BAR decoding.
 */
import type { Board, Device, IoRegion } from '../../machine/bus.ts';
import { PciFunction } from './function.ts';
import { IntxLines, intxGsi, PCI_SLOTS } from './intx.ts';

/** Physical addresses in which BARs are decoded: what the DSDT's _CRS has to list. */
export const PCI_WINDOW = { BASE: 0xc000_0000, END: 0xfec0_0000 } as const;
/** Share of the window in which a slot's BARs are placed at reset. */
const SLOT_WINDOW_BYTES = 0x100_0000;

const CONFIG_ADDRESS_PORT = 0xcf8;
const ADDRESS_ENABLE = 0x8000_0000;

/** A device with one PCI function. */
export interface PciDevice extends Device {
  readonly pci: PciFunction;
}

export interface PciBusCounters {
  /** BARs that the guest put where they cannot be decoded. */
  misplacedBars: number;
}

interface Slot {
  readonly device: PciDevice;
  readonly addresses: readonly number[];
  /** Functions that remove the BARs now decoded. */
  mapped: (() => void)[];
}

/** The root bus; itself a device: resetting it resets everything plugged in. */
export class PciBus implements Device {
  readonly name = 'pci';
  readonly counters: PciBusCounters = { misplacedBars: 0 };
  readonly #board: Board;
  readonly #lines: IntxLines;
  readonly #slots: (Slot | undefined)[] = new Array<undefined>(PCI_SLOTS).fill(undefined);
  readonly #unmapPorts: () => void;
  #address = 0;

  constructor(board: Board) {
    this.#board = board;
    this.#lines = new IntxLines(board);
    const region: IoRegion = {
      name: 'pci-config',
      read: (offset, size) => this.#readPort(offset, size),
      write: (offset, size, value) => this.#writePort(offset, size, value),
    };
    this.#unmapPorts = board.ports.map(CONFIG_ADDRESS_PORT, 8, region);
  }

  /**
   * Plugs a device into `slot` (0…31), the first free one if not given, and resets it. Returns the slot.
   * Throws RangeError if the slot is taken, none is free or the BARs are too large.
   */
  plug(device: PciDevice, slot: number = this.#freeSlot()): number {
    if (slot < 0 || slot >= PCI_SLOTS) throw new RangeError(`no PCI slot ${slot} for ${device.name}`);
    if (this.#slots[slot] !== undefined) throw new RangeError(`PCI slot ${slot} is taken`);
    const entry: Slot = { device, addresses: placeBars(device.pci, slot), mapped: [] };
    this.#slots[slot] = entry;
    device.pci.attach({
      decodeChanged: () => this.#decode(entry),
      intx: (level) => this.#lines.set(slot, device.pci.interruptPin - 1, level),
    });
    this.#resetSlot(entry, slot);
    return slot;
  }

  /** Removes a device from its slot and closes it; does nothing if the slot is empty. */
  unplug(slot: number): void {
    const entry = this.#slots[slot];
    if (entry === undefined) return;
    entry.device.pci.setIntx(false);
    entry.device.pci.attach(undefined);
    for (const unmap of entry.mapped) unmap();
    this.#slots[slot] = undefined;
    entry.device.close?.();
  }

  /** The device in a slot. */
  device(slot: number): PciDevice | undefined {
    return this.#slots[slot]?.device;
  }

  reset(): void {
    this.#address = 0;
    for (const [slot, entry] of this.#slots.entries()) if (entry !== undefined) this.#resetSlot(entry, slot);
  }

  close(): void {
    for (let slot = 0; slot < PCI_SLOTS; slot++) this.unplug(slot);
    this.#unmapPorts();
  }

  #resetSlot(entry: Slot, slot: number): void {
    const { device } = entry;
    device.reset();
    device.pci.reset(entry.addresses, intxGsi(slot, Math.max(device.pci.interruptPin - 1, 0)));
  }

  #freeSlot(): number {
    const slot = this.#slots.indexOf(undefined);
    if (slot < 0) throw new RangeError('all PCI slots are taken');
    return slot;
  }

  /** Maps the BARs as the command register and the BARs now say. */
  #decode(entry: Slot): void {
    for (const unmap of entry.mapped) unmap();
    entry.mapped = [];
    for (const bar of entry.device.pci.bars) {
      const base = entry.device.pci.decodedAddress(bar);
      if (base === undefined) continue;
      const unmap = this.#map(base, bar.bytes, bar.region);
      if (unmap !== undefined) entry.mapped.push(unmap);
    }
  }

  /** The guest chooses addresses: one outside the window, or on top of another BAR, is not decoded. */
  #map(base: number, bytes: number, region: IoRegion): (() => void) | undefined {
    if (base >= PCI_WINDOW.BASE && base + bytes <= PCI_WINDOW.END) {
      try {
        return this.#board.mmio.map(base, bytes, region);
      } catch {
        // An overlap, which the space refuses: counted below like any other misplaced BAR.
      }
    }
    this.counters.misplacedBars++;
    return undefined;
  }

  /** The function that the address register selects; undefined if there is none. */
  #selected(): PciFunction | undefined {
    if ((this.#address & ADDRESS_ENABLE) === 0) return undefined;
    const busAndFunction = (this.#address >>> 8) & 0xff07;
    if (busAndFunction !== 0) return undefined;
    return this.#slots[(this.#address >>> 11) & 0x1f]?.device.pci;
  }

  #readPort(offset: number, size: number): number {
    if (offset >= 4) {
      return this.#selected()?.readConfig((this.#address & 0xfc) + (offset & 3), size) ?? allOnes(size);
    }
    return offset === 0 && size === 4 ? this.#address : allOnes(size);
  }

  #writePort(offset: number, size: number, value: number): void {
    if (offset >= 4) this.#selected()?.writeConfig((this.#address & 0xfc) + (offset & 3), size, value);
    else if (offset === 0 && size === 4) this.#address = (value & ~0x7f00_0003) >>> 0;
  }
}

/** What a read that nothing answers gives. */
function allOnes(size: number): number {
  return size === 4 ? 0xffff_ffff : (1 << (size * 8)) - 1;
}

/** Addresses for a function's BARs in its slot's share of the window, each aligned to its size. */
function placeBars(pci: PciFunction, slot: number): number[] {
  const base = PCI_WINDOW.BASE + slot * SLOT_WINDOW_BYTES;
  let offset = 0;
  return pci.bars.map((bar) => {
    const start = Math.ceil(offset / bar.bytes) * bar.bytes;
    offset = start + bar.bytes;
    if (offset > SLOT_WINDOW_BYTES) throw new RangeError('the BARs of a PCI device take more than 16 MiB');
    return base + start;
  });
}

function hostBridge(): PciDevice {
  const pci = new PciFunction({
    vendorId: 0x8086,
    deviceId: 0x1237,
    revision: 2,
    classCode: 0x060000,
    subsystemVendorId: 0x1af4,
    subsystemId: 0x1100,
    interruptPin: 0,
  });
  return { name: 'i440fx', pci, reset() {} };
}

/** Makes the root bus with its host bridge in slot 0. */
export function createPciBus(board: Board): PciBus {
  const bus = new PciBus(board);
  bus.plug(hostBridge(), 0);
  return bus;
}
