/** How the four legacy interrupt pins of each PCI slot reach the interrupt controllers. */
import type { Board } from '../../machine/bus.ts';

export const PCI_SLOTS = 32;
/** The first of the four IOAPIC inputs that PCI pins share. */
export const PCI_GSI_BASE = 16;

/** The global system interrupt of a slot's pin; `pin` is 0 for INTA# … 3 for INTD#, as in ACPI's _PRT. */
export function intxGsi(slot: number, pin: number): number {
  return PCI_GSI_BASE + ((slot + pin) & 3);
}

export interface IntxRoute {
  readonly slot: number;
  /** 0 = INTA# … 3 = INTD#. */
  readonly pin: number;
  readonly gsi: number;
}

/** Every slot and pin: what the DSDT's _PRT has to list. */
export const INTX_ROUTES: readonly IntxRoute[] = Array.from({ length: PCI_SLOTS * 4 }, (_, i) => {
  const slot = i >> 2;
  const pin = i & 3;
  return { slot, pin, gsi: intxGsi(slot, pin) };
});

/** The wired-OR of the pins: a line is low while any slot that shares it asserts it. */
export class IntxLines {
  readonly #board: Board;
  /** For each of the four lines, bit n = slot n asserts it. */
  readonly #asserted = new Uint32Array(4);

  constructor(board: Board) {
    this.#board = board;
  }

  /** Sets a slot's own level on a pin (0 = INTA#). */
  set(slot: number, pin: number, level: boolean): void {
    const gsi = intxGsi(slot, pin);
    const line = gsi - PCI_GSI_BASE;
    const before = this.#asserted[line];
    const after = level ? before | (1 << slot) : before & ~(1 << slot);
    this.#asserted[line] = after;
    if ((before !== 0) !== (after !== 0)) this.#board.irq(gsi).set(after !== 0);
  }
}
