/**
 * A watchdog timer, described to the guest by ACPI's WDAT table (Microsoft, Hardware Watchdog Timers Design
 * Specification), which stock kernels drive (wdat_wdt). A guest that has set it running and then does not reset it in time
 * hangs. The machine runs on: what is to be done is for whoever is told.
 */
import type { Board, Device, TimerHandle } from '../../machine/bus.ts';

export const WATCHDOG_PORT = 0x640;
export const WATCHDOG_BYTES = 16;
/** Registers, 32 bits each, as the WDAT table names them. */
export const WATCHDOG = {
  /** 1: running, 0: stopped. */
  STATE: 0x0,
  /** How many periods it counts down from. */
  COUNT: 0x4,
  /** Any write begins anew. */
  RESET: 0x8,
  /** Periods that are left. */
  LEFT: 0xc,
} as const;
/** Of a period. */
export const WATCHDOG_PERIOD_MS = 100;
/** Ten minutes. */
export const WATCHDOG_COUNT_MAX = 6000;
const COUNT_DEFAULT = 600;
const NS_PER_MS = 1e6;

export class Watchdog implements Device {
  readonly name = 'watchdog';
  readonly #board: Board;
  #count = COUNT_DEFAULT;
  #timer: TimerHandle | undefined;
  #endNs = 0;

  constructor(board: Board) {
    this.#board = board;
    board.ports.map(WATCHDOG_PORT, WATCHDOG_BYTES, {
      name: this.name,
      read: (offset) => this.#read(offset),
      write: (offset, _size, value) => this.#write(offset, value),
    });
  }

  reset(): void {
    this.#count = COUNT_DEFAULT;
    this.#stop();
  }

  close(): void {
    this.#stop();
  }

  #read(offset: number): number {
    if (offset === WATCHDOG.STATE) return this.#timer === undefined ? 0 : 1;
    if (offset === WATCHDOG.COUNT) return this.#count;
    if (offset !== WATCHDOG.LEFT || this.#timer === undefined) return 0;
    const left = (this.#endNs - this.#board.clock.nowNs()) / NS_PER_MS / WATCHDOG_PERIOD_MS;
    return Math.max(0, Math.ceil(left));
  }

  #write(offset: number, value: number): void {
    if (offset === WATCHDOG.COUNT) this.#count = Math.min(Math.max(value, 1), WATCHDOG_COUNT_MAX);
    else if (offset === WATCHDOG.STATE && value === 0) this.#stop();
    else if (offset === WATCHDOG.STATE && this.#timer === undefined) this.#begin();
    else if (offset === WATCHDOG.RESET && this.#timer !== undefined) this.#begin();
  }

  #begin(): void {
    this.#timer?.cancel();
    this.#endNs = this.#board.clock.nowNs() + this.#count * WATCHDOG_PERIOD_MS * NS_PER_MS;
    this.#timer = this.#board.clock.at(this.#endNs, () => {
      this.#timer = undefined;
      this.#board.raise({ kind: 'hung' });
    });
  }

  #stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }
}
