/**
 * Hot-plug of PCI slots as ACPI firmware does it (ACPI specification 6.5, 5.6.6 and 6.3): a general-purpose event tells
 * the guest that something has changed, the DSDT's methods read from here which slots, and write here when the guest has
 * let go of a device. Every stock kernel has the driver (acpiphp).
 */
import type { Board, Device } from '../../machine/bus.ts';

/** I/O ports: a bit for each slot in each register. */
export const PCI_HOTPLUG = {
  BASE: 0xae00,
  /** Slots with something new in them; reading clears it. */
  ADDED: 0,
  /** Slots whose device is to be let go; reading clears it. */
  WANTED: 4,
  /** Written by _EJ0: the guest has let go. */
  EJECT: 8,
  BYTES: 12,
  /** The general-purpose event that is raised. */
  GPE: 1,
} as const;

export interface PciHotplugHooks {
  /** Tells the guest that a register has changed. */
  raise(): void;
  /** The guest has let go of a slot whose device may be taken out. */
  ejected(slot: number): void;
}

export class PciHotplug implements Device {
  readonly name = 'pci-hotplug';
  readonly #hooks: PciHotplugHooks;
  #added = 0;
  #wanted = 0;
  /** Slots that may be taken out: all that were asked for. A guest cannot throw out anything else. */
  #removable = 0;

  constructor(board: Board, hooks: PciHotplugHooks) {
    this.#hooks = hooks;
    board.ports.map(PCI_HOTPLUG.BASE, PCI_HOTPLUG.BYTES, {
      name: this.name,
      read: (offset, size) => (size === 4 ? this.#read(offset) : 0),
      write: (offset, size, value) => {
        if (offset === PCI_HOTPLUG.EJECT && size === 4) this.#eject(value);
      },
    });
  }

  /** A device was plugged into a slot. */
  added(slot: number): void {
    this.#added |= 1 << slot;
    this.#hooks.raise();
  }

  /** Asks the guest to let go of a slot; `ejected` says when it has. May be asked again. */
  remove(slot: number): void {
    this.#wanted |= 1 << slot;
    this.#removable |= 1 << slot;
    this.#hooks.raise();
  }

  /** A reset ends whatever drivers had: what was to go goes, what is new is found by the boot. */
  reset(): void {
    this.#added = this.#wanted = 0;
    this.#eject(this.#removable);
  }

  #read(offset: number): number {
    let value = 0;
    if (offset === PCI_HOTPLUG.ADDED) {
      value = this.#added;
      this.#added = 0;
    } else if (offset === PCI_HOTPLUG.WANTED) {
      value = this.#wanted;
      this.#wanted = 0;
    }
    return value >>> 0;
  }

  #eject(slots: number): void {
    const going = slots & this.#removable;
    this.#removable &= ~going;
    for (let slot = 0; slot < 32; slot++) if ((going >>> slot) & 1) this.#hooks.ejected(slot);
  }
}
