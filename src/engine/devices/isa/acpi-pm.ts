/**
 * ACPI fixed hardware (ACPI specification 6.5, section 4.8): PM1 events and control, PM timer, a block
 * of general-purpose events, and the chipset's reset register 0xcf9 (Intel ICH datasheets).
 */
import type { Board, Device, IrqLine, TimerHandle } from '../../machine/bus.ts';
import { byteRegion } from '../../machine/io-space.ts';

const BASE = 0x600;

/** I/O ports, and the value that resets at RESET. */
export const ACPI_PM = {
  EVENT: BASE,
  CONTROL: BASE + 4,
  TIMER: BASE + 8,
  GPE0: BASE + 0x20,
  /** Status and enable bytes together. */
  GPE0_BYTES: 4,
  RESET: 0xcf9,
  RESET_VALUE: 0x06,
} as const;

/** Status bytes come first, then the enable bytes. */
const GPE_STATUS_BYTES = ACPI_PM.GPE0_BYTES / 2;

/** The system control interrupt, level-triggered. */
export const SCI_IRQ = 9;

const TIMER_HZ = 3_579_545;
const TIMER_BITS = 24;
/** PM1 status and enable bits. */
const TIMER_STATUS = 0x0001;
const GLOBAL_STATUS = 0x0020;
const POWER_BUTTON = 0x0100;
/** Never happens, for nothing wakes the machine; but Linux's RTC driver wants to see its enable bit set. */
const RTC_STATUS = 0x0400;
const EVENTS = TIMER_STATUS | GLOBAL_STATUS | POWER_BUTTON | RTC_STATUS;
/** PM1 control: always in ACPI mode; sleep type in bits 10–12; sleep enable. */
const SCI_ENABLED = 0x0001;
const SLEEP_ENABLE = 0x2000;
/** SLP_TYP of \_S5 in the DSDT. */
const SLEEP_TYPE_OFF = 0;
const RESET_CPU = 0x04;

export class AcpiPm implements Device {
  readonly name = 'acpi-pm';
  readonly #board: Board;
  readonly #sci: IrqLine;
  #status = 0;
  #enable = 0;
  #control = SCI_ENABLED;
  #resetControl = 0;
  #timer: TimerHandle | undefined;
  readonly #gpe = new Uint8Array(ACPI_PM.GPE0_BYTES);

  /** @param mapByte puts a one-byte register over another device's range, for 0xcf9 */
  constructor(board: Board, mapByte: (port: number, region: ReturnType<typeof byteRegion>) => void) {
    this.#board = board;
    this.#sci = board.irq(SCI_IRQ);
    board.ports.map(
      BASE,
      12,
      byteRegion(
        'ACPI PM1',
        (offset) => this.#read(offset),
        (offset, value) => this.#write(offset, value),
      ),
    );
    board.ports.map(
      ACPI_PM.GPE0,
      ACPI_PM.GPE0_BYTES,
      byteRegion(
        'ACPI GPE0',
        (offset) => this.#gpe[offset]!,
        (offset, value) => this.#writeGpe(offset, value),
      ),
    );
    mapByte(
      ACPI_PM.RESET,
      byteRegion(
        'reset control',
        () => this.#resetControl,
        (_offset, value) => this.#writeReset(value),
      ),
    );
  }

  reset(): void {
    this.#status = this.#enable = this.#resetControl = 0;
    this.#control = SCI_ENABLED;
    this.#gpe.fill(0);
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#sci.set(false);
  }

  /** Raises general-purpose event `bit`; the guest's handler is the DSDT's method for it. */
  raiseGpe(bit: number): void {
    this.#gpe[bit >> 3]! |= 1 << (bit & 7);
    this.#update();
  }

  /** A press of the power button, which asks the guest to shut down. */
  pressPowerButton(): void {
    this.#status |= POWER_BUTTON;
    this.#update();
  }

  #ticks(): number {
    return Math.floor((this.#board.clock.nowNs() * TIMER_HZ) / 1e9);
  }

  #read(offset: number): number {
    if (offset < 2) return this.#status >>> (8 * offset);
    if (offset < 4) return this.#enable >>> (8 * (offset - 2));
    if (offset < 6) return this.#control >>> (8 * (offset - 4));
    if (offset >= 8) return Math.floor((this.#ticks() % 2 ** TIMER_BITS) / 2 ** (8 * (offset - 8))) & 0xff;
    return 0;
  }

  #write(offset: number, value: number): void {
    const shift = 8 * (offset & 1);
    if (offset < 2) {
      this.#status &= ~(value << shift);
    } else if (offset < 4) {
      this.#enable = ((this.#enable & ~(0xff << shift)) | (value << shift)) & EVENTS;
      this.#armTimer();
    } else if (offset < 6) {
      this.#control = (this.#control & ~(0xff << shift)) | (value << shift) | SCI_ENABLED;
      if (offset === 5) this.#maybeSleep();
    }
    this.#update();
  }

  #maybeSleep(): void {
    if ((this.#control & SLEEP_ENABLE) === 0) return;
    this.#control &= ~SLEEP_ENABLE;
    if (((this.#control >>> 10) & 7) === SLEEP_TYPE_OFF) this.#board.raise({ kind: 'power-off' });
  }

  #writeGpe(offset: number, value: number): void {
    if (offset >= GPE_STATUS_BYTES) this.#gpe[offset] = value;
    else this.#gpe[offset]! &= ~value;
    this.#update();
  }

  #writeReset(value: number): void {
    this.#resetControl = value & ~RESET_CPU;
    if ((value & RESET_CPU) !== 0) this.#board.raise({ kind: 'reset' });
  }

  /** The timer's carry: its top bit changes every 2.34 s. It runs only while the guest wants to know. */
  #armTimer(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if ((this.#enable & TIMER_STATUS) === 0) return;
    const half = 2 ** (TIMER_BITS - 1);
    const next = (Math.floor(this.#ticks() / half) + 1) * half;
    this.#timer = this.#board.clock.at(Math.ceil((next * 1e9) / TIMER_HZ), () => {
      this.#status |= TIMER_STATUS;
      this.#armTimer();
      this.#update();
    });
  }

  #update(): void {
    const [low, high, lowEnable, highEnable] = this.#gpe;
    const gpe = (low! & lowEnable!) | (high! & highEnable!);
    this.#sci.set((this.#status & this.#enable) !== 0 || gpe !== 0);
  }
}
