/**
 * Virtio over PCI, non-transitional (virtio 1.2, 4.1). BAR 0 has the configuration structures, one page
 * each; BAR 1 has the MSI-X table. Interrupts go by MSI-X if the driver enabled it, otherwise by pin.
 */
import type { Board, IoRegion } from '../../machine/bus.ts';
import { CONFIG, MSIX_BAR_BYTES, Msix, type PciDevice, PciFunction } from '../pci/index.ts';
import {
  CFG_TYPE,
  COMMON,
  FEATURE,
  ISR,
  NO_VECTOR,
  NOTIFY_MULTIPLIER,
  PAGE,
  PAGE_BYTES,
  STATUS,
} from './common-config.ts';
import { ConfigWindow } from './config-window.ts';
import type { VirtioCounters, VirtioDefinition, VirtioHost, VirtioModel } from './device.ts';
import { Negotiation, type NegotiationOwner } from './negotiation.ts';
import { type QueueOwner, Virtqueue } from './queue.ts';

const VENDOR_VIRTIO = 0x1af4;
const DEVICE_ID_BASE = 0x1040;
const VENDOR_CAPABILITY = 0x09;
const STRUCTURES_BAR = 0;
const MSIX_BAR = 1;
const STRUCTURES_BYTES = 4 * PAGE_BYTES;
const MSI_PAGES = 0xfee;

export class VirtioPci implements PciDevice, VirtioHost, QueueOwner, NegotiationOwner {
  readonly name: string;
  readonly board: Board;
  readonly pci: PciFunction;
  readonly counters: VirtioCounters = { faults: 0, interrupts: 0 };
  /** What the driver last did wrong; undefined if nothing. */
  lastFault: string | undefined;
  readonly #model: VirtioModel;
  readonly #negotiation: Negotiation;
  readonly #msix: Msix;
  #isr = 0;
  #window: ConfigWindow | undefined;

  /** @param create makes the device's model, which keeps the host that it is given */
  constructor(
    board: Board,
    definition: Pick<VirtioDefinition<never, unknown>, 'kind' | 'virtioId' | 'classCode'>,
    create: (host: VirtioHost) => VirtioModel,
  ) {
    this.name = definition.kind;
    this.board = board;
    this.#model = create(this);
    const queues = this.#model.queueSizes.map((size, i) => new Virtqueue(i, size, board.memory, this));
    this.#msix = new Msix(queues.length + 1, (address, data) => this.#sendMessage(address, data));
    const { features, indirect = true } = this.#model;
    const offered = indirect ? [FEATURE.INDIRECT_DESC, ...features] : features;
    this.#negotiation = new Negotiation(offered, queues, this.#msix.vectors, this);
    const structures: IoRegion = {
      name: definition.kind,
      read: (offset, size) => this.#read(offset, size),
      write: (offset, size, value) => this.#write(offset, size, value),
    };
    this.pci = new PciFunction(
      {
        vendorId: VENDOR_VIRTIO,
        deviceId: DEVICE_ID_BASE + definition.virtioId,
        revision: 1,
        classCode: definition.classCode,
        subsystemVendorId: VENDOR_VIRTIO,
        subsystemId: 0x1100,
        interruptPin: 1,
      },
      [
        { index: STRUCTURES_BAR, bytes: STRUCTURES_BYTES, region: structures },
        { index: MSIX_BAR, bytes: MSIX_BAR_BYTES, region: this.#msix.region },
      ],
    );
    this.#addCapabilities();
  }

  queue(index: number): Virtqueue {
    const queue = this.#negotiation.queues[index];
    if (queue === undefined) throw new RangeError(`${this.name} has no queue ${index}`);
    return queue;
  }

  has(feature: number): boolean {
    return this.#negotiation.has(feature);
  }

  get live(): boolean {
    const status = this.#negotiation.status & (STATUS.DRIVER_OK | STATUS.NEEDS_RESET);
    return status === STATUS.DRIVER_OK && this.pci.busMaster;
  }

  configChanged(): void {
    const negotiation = this.#negotiation;
    negotiation.generation++;
    if ((negotiation.status & STATUS.DRIVER_OK) !== 0) this.#interrupt(negotiation.configVector, ISR.CONFIG);
  }

  fail(reason: string): void {
    if ((this.#negotiation.status & STATUS.NEEDS_RESET) !== 0) return;
    this.counters.faults++;
    this.lastFault = reason;
    this.#negotiation.needsReset();
    this.configChanged();
  }

  interrupt(queue: Virtqueue): void {
    this.#interrupt(queue.vector, ISR.QUEUE);
  }

  driverOk(): void {
    this.#guarded(() => this.#model.activate?.());
    this.#notifyAll();
  }

  deviceReset(): undefined | Promise<void> {
    this.#isr = 0;
    this.pci.setIntx(false);
    return this.#model.reset();
  }

  reset(): void {
    this.#negotiation.reset();
    this.#msix.reset();
  }

  /** Resolves when requests that were under way at a reset no longer touch guest memory. */
  settled(): Promise<void> {
    return this.#negotiation.settled();
  }

  close(): void {
    this.#negotiation.reset();
    this.#model.close?.();
  }

  /** Whatever goes wrong in a device while it follows the guest's data ends in the device, not beyond. */
  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.fail(error instanceof Error ? error.message : String(error));
    }
  }

  #notify(index: number): void {
    if (!this.live || this.#negotiation.queues[index]?.enabled !== true) return;
    this.#guarded(() => this.#model.notify(index));
  }

  #notifyAll(): void {
    for (const queue of this.#negotiation.queues) this.#notify(queue.index);
  }

  #interrupt(vector: number, cause: number): void {
    if (this.#msix.enabled) {
      if (vector === NO_VECTOR) return;
      this.counters.interrupts++;
      this.#msix.fire(vector);
      return;
    }
    this.counters.interrupts++;
    this.#isr |= cause;
    this.pci.setIntx(true);
  }

  #sendMessage(address: number, data: number): void {
    if (this.pci.busMaster && address >>> 20 === MSI_PAGES) this.board.msi(address, data);
  }

  #read(offset: number, size: number): number {
    const within = offset % PAGE_BYTES;
    switch (Math.floor(offset / PAGE_BYTES)) {
      case PAGE.COMMON:
        return this.#negotiation.read(within);
      case PAGE.ISR:
        return within === 0 ? this.#takeIsr() : 0;
      case PAGE.DEVICE:
        return littleEndian(this.#model.config, within, size);
      default:
        return 0;
    }
  }

  #write(offset: number, size: number, value: number): void {
    const within = offset % PAGE_BYTES;
    switch (Math.floor(offset / PAGE_BYTES)) {
      case PAGE.COMMON:
        this.#negotiation.write(within, value);
        break;
      case PAGE.DEVICE:
        this.#guarded(() => this.#model.writeConfig?.(within, size, value));
        break;
      case PAGE.NOTIFY:
        this.#notify(Math.floor(within / NOTIFY_MULTIPLIER));
        break;
    }
  }

  /** Reading the ISR status clears it and releases the pin. */
  #takeIsr(): number {
    const isr = this.#isr;
    this.#isr = 0;
    this.pci.setIntx(false);
    return isr;
  }

  #addCapabilities(): void {
    const queues = this.#model.queueSizes.length;
    const { config } = this.#model;
    this.#msix.addTo(this.pci, MSIX_BAR);
    this.#addStructure(CFG_TYPE.COMMON, PAGE.COMMON, COMMON.BYTES);
    this.#addStructure(CFG_TYPE.ISR, PAGE.ISR, 1);
    if (config.length > 0) this.#addStructure(CFG_TYPE.DEVICE, PAGE.DEVICE, config.length);
    this.#addStructure(CFG_TYPE.NOTIFY, PAGE.NOTIFY, queues * NOTIFY_MULTIPLIER, [
      NOTIFY_MULTIPLIER,
      0,
      0,
      0,
    ]);
    this.#window = new ConfigWindow(this.pci, this.#addStructure(CFG_TYPE.PCI, 0, 0, [0, 0, 0, 0]));
    this.pci.hook({
      beforeRead: (offset) => this.#window?.beforeRead(offset),
      afterWrite: (offset, size) => this.#configWritten(offset, size),
    });
  }

  /** Adds a vendor-specific capability that says where a structure is; `rest` follows its fixed fields. */
  #addStructure(type: number, page: number, bytes: number, rest: readonly number[] = []): number {
    const body = new Uint8Array(14 + rest.length);
    const view = new DataView(body.buffer);
    view.setUint8(0, body.length + 2);
    view.setUint8(1, type);
    view.setUint8(2, STRUCTURES_BAR);
    view.setUint32(6, page * PAGE_BYTES, true);
    view.setUint32(10, bytes, true);
    body.set(rest, 14);
    return this.pci.addCapability(VENDOR_CAPABILITY, body);
  }

  #configWritten(offset: number, size: number): void {
    this.#msix.configWritten(offset, size);
    this.#window?.afterWrite(offset);
    // Bus mastering may have come on: look at what the driver has queued in the meantime.
    if (offset === CONFIG.COMMAND) this.#notifyAll();
  }
}

/** Reads a field of 1, 2 or 4 bytes; what lies beyond the array is 0. */
function littleEndian(bytes: Uint8Array, offset: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = ((value << 8) | (bytes[offset + i] ?? 0)) >>> 0;
  return value;
}
