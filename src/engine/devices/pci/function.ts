/**
 * A PCI function's configuration space (PCI Local Bus 3.0, chapter 6, type 0 header): identification,
 * command and status, 32-bit memory BARs, the capability list and the interrupt pin.
 */
import type { IoRegion } from '../../machine/bus.ts';

/** Register offsets of the type 0 header. */
export const CONFIG = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  CLASS: 0x09,
  BAR0: 0x10,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

export const COMMAND = { MEMORY: 0x2, BUS_MASTER: 0x4, INTX_DISABLE: 0x400 } as const;

const COMMAND_WRITABLE = COMMAND.MEMORY | COMMAND.BUS_MASTER | COMMAND.INTX_DISABLE;
const STATUS_INTERRUPT = 0x08;
const STATUS_CAPABILITIES = 0x10;
const CONFIG_BYTES = 256;
const FIRST_CAPABILITY = 0x40;
export const BARS = 6;

export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revision: number;
  /** Base class, subclass and programming interface, 24 bits. */
  readonly classCode: number;
  readonly subsystemVendorId: number;
  readonly subsystemId: number;
  /** 0 = none, 1 = INTA# … 4 = INTD#. */
  readonly interruptPin: number;
}

/** A memory BAR and what answers in it. */
export interface PciBar {
  readonly index: number;
  /** A power of two, at least 16. */
  readonly bytes: number;
  readonly region: IoRegion;
}

/** Where a plugged function's effects go: the bus. */
export interface PciAttachment {
  /** The command register or a BAR changed: map what is now decoded. */
  decodeChanged(): void;
  /** Drives the function's interrupt pin. */
  intx(level: boolean): void;
}

/** What a device wants to know of accesses to its configuration space. */
export interface PciConfigHooks {
  /** Called before a read, so that registers with content of their own can be brought up to date. */
  beforeRead?(offset: number, size: number): void;
  /** Called after a write. */
  afterWrite?(offset: number, size: number): void;
}

export class PciFunction {
  readonly bars: readonly PciBar[];
  readonly interruptPin: number;
  readonly #config = new Uint8Array(CONFIG_BYTES);
  readonly #view = new DataView(this.#config.buffer);
  /** Bits that the guest can write. */
  readonly #writable = new Uint8Array(CONFIG_BYTES);
  /** Content after a reset. */
  #initial = new Uint8Array(CONFIG_BYTES);
  #hooks: PciConfigHooks = {};
  #attachment: PciAttachment | undefined;
  #nextCapability = FIRST_CAPABILITY;
  #lastCapabilityLink: number = CONFIG.CAPABILITIES;
  #intxLevel = false;

  constructor(identity: PciIdentity, bars: readonly PciBar[] = []) {
    const view = this.#view;
    view.setUint16(CONFIG.VENDOR_ID, identity.vendorId, true);
    view.setUint16(CONFIG.DEVICE_ID, identity.deviceId, true);
    view.setUint32(CONFIG.REVISION, (identity.classCode << 8) | identity.revision, true);
    view.setUint16(CONFIG.SUBSYSTEM_VENDOR_ID, identity.subsystemVendorId, true);
    view.setUint16(CONFIG.SUBSYSTEM_ID, identity.subsystemId, true);
    view.setUint8(CONFIG.INTERRUPT_PIN, identity.interruptPin);
    this.interruptPin = identity.interruptPin;
    this.bars = bars;
    this.allowWrites(CONFIG.COMMAND, 2, COMMAND_WRITABLE);
    this.allowWrites(CONFIG.INTERRUPT_LINE, 1, 0xff);
    for (const bar of bars) this.allowWrites(CONFIG.BAR0 + bar.index * 4, 4, ~(bar.bytes - 1) >>> 0);
    this.#initial.set(this.#config);
  }

  /** Sets the device's hooks; called once, when the device is made. */
  hook(hooks: PciConfigHooks): void {
    this.#hooks = hooks;
  }

  /**
   * Appends a capability; `body` is what follows the id and the link byte. Returns its offset.
   * Called while the device is made.
   */
  addCapability(id: number, body: Uint8Array): number {
    const offset = this.#nextCapability;
    const end = offset + 2 + body.length;
    if (end > CONFIG_BYTES) throw new RangeError('capabilities do not fit into PCI configuration space');
    this.#config[this.#lastCapabilityLink] = offset;
    this.#config[offset] = id;
    this.#config.set(body, offset + 2);
    this.#config[CONFIG.STATUS] |= STATUS_CAPABILITIES;
    this.#lastCapabilityLink = offset + 1;
    this.#nextCapability = (end + 3) & ~3;
    this.#initial.set(this.#config);
    return offset;
  }

  /** Lets the guest write the bits of `mask` in a register of 1, 2 or 4 bytes. */
  allowWrites(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) this.#writable[offset + i] = (mask >>> (i * 8)) & 0xff;
  }

  /** Connects the function to a bus, which gives each BAR its address after a reset. */
  attach(attachment: PciAttachment | undefined): void {
    this.#attachment = attachment;
  }

  /** Back to power-on content, with BARs and interrupt line as firmware would leave them. */
  reset(barAddresses: readonly number[], interruptLine: number): void {
    this.#config.set(this.#initial);
    this.#intxLevel = false;
    for (const [i, bar] of this.bars.entries()) {
      this.#view.setUint32(CONFIG.BAR0 + bar.index * 4, barAddresses[i] ?? 0, true);
    }
    if (this.bars.length > 0) this.#view.setUint16(CONFIG.COMMAND, COMMAND.MEMORY, true);
    if (this.interruptPin !== 0) this.#config[CONFIG.INTERRUPT_LINE] = interruptLine;
    this.#attachment?.intx(false);
    this.#attachment?.decodeChanged();
  }

  /** Reads 1, 2 or 4 bytes that do not cross a dword. */
  readConfig(offset: number, size: number): number {
    this.#hooks.beforeRead?.(offset, size);
    return this.get(offset, size);
  }

  /** Writes 1, 2 or 4 bytes that do not cross a dword; read-only bits keep their value. */
  writeConfig(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) {
      const mask = this.#writable[offset + i];
      this.#config[offset + i] = (this.#config[offset + i] & ~mask) | ((value >>> (i * 8)) & mask);
    }
    if (offset < CONFIG.STATUS && offset + size > CONFIG.COMMAND) this.#commandChanged();
    else if (offset >= CONFIG.BAR0 && offset < CONFIG.BAR0 + BARS * 4) this.#attachment?.decodeChanged();
    this.#hooks.afterWrite?.(offset, size);
  }

  /** The device's own access to a register. */
  get(offset: number, size: number): number {
    if (size === 1) return this.#view.getUint8(offset);
    return size === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint32(offset, true);
  }

  /** The device's own access to a register, read-only bits included. */
  set(offset: number, size: number, value: number): void {
    if (size === 1) this.#view.setUint8(offset, value);
    else if (size === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint32(offset, value, true);
  }

  /** Where a BAR is now; undefined while memory decoding is off. */
  decodedAddress(bar: PciBar): number | undefined {
    if ((this.get(CONFIG.COMMAND, 2) & COMMAND.MEMORY) === 0) return undefined;
    return this.get(CONFIG.BAR0 + bar.index * 4, 4);
  }

  /** May the function access memory (and so send message-signalled interrupts)? */
  get busMaster(): boolean {
    return (this.get(CONFIG.COMMAND, 2) & COMMAND.BUS_MASTER) !== 0;
  }

  /** Asserts or releases the interrupt pin, subject to the command register's INTx disable bit. */
  setIntx(level: boolean): void {
    this.#intxLevel = level;
    const status = this.get(CONFIG.STATUS, 2);
    this.set(CONFIG.STATUS, 2, level ? status | STATUS_INTERRUPT : status & ~STATUS_INTERRUPT);
    const disabled = (this.get(CONFIG.COMMAND, 2) & COMMAND.INTX_DISABLE) !== 0;
    if (this.interruptPin !== 0) this.#attachment?.intx(level && !disabled);
  }

  #commandChanged(): void {
    this.#attachment?.decodeChanged();
    this.setIntx(this.#intxLevel);
  }
}
