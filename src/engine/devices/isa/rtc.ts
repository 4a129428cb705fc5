/** MC146818 real-time clock and CMOS memory: Motorola datasheet; PC usage of the memory as in SeaBIOS. */
import type { Board, Device, IrqLine, TimerHandle } from '../../machine/bus.ts';
import { byteRegion } from '../../machine/io-space.ts';
import { LOW_RAM_MAX } from '../../layout.ts';

const REG = {
  SECONDS: 0,
  SECONDS_ALARM: 1,
  MINUTES: 2,
  MINUTES_ALARM: 3,
  HOURS: 4,
  HOURS_ALARM: 5,
  WEEKDAY: 6,
  DAY: 7,
  MONTH: 8,
  YEAR: 9,
  A: 10,
  B: 11,
  C: 12,
  D: 13,
  CENTURY: 0x32,
} as const;
const TIME_REGISTERS: readonly number[] = [0, 2, 4, 6, 7, 8, 9, REG.CENTURY];
const A_UPDATING = 0x80;
/** Divider: 32.768 kHz crystal; rate: 1.024 kHz. */
const A_DEFAULT = 0x26;
const B = { SET: 0x80, PERIODIC: 0x40, ALARM: 0x20, UPDATE: 0x10, BINARY: 4, HOURS_24: 2 } as const;
const C = { REQUEST: 0x80, PERIODIC: 0x40, ALARM: 0x20, UPDATE: 0x10 } as const;
const D_VALID = 0x80;
const ALARM_ANY = 0xc0;
/** The update takes place within this time before the second. */
const UPDATE_MS = 0.244;
const IRQ = 8;

const MIB = 0x10_0000;

export class Rtc implements Device {
  readonly name = 'mc146818';
  readonly #board: Board;
  readonly #irq: IrqLine;
  readonly #ramBytes: number;
  readonly #memory = new Uint8Array(128);
  #index = 0;
  /** The guest's clock minus the host's, ms. */
  #offsetMs = 0;
  /** The guest's clock while register B's SET bit holds it. */
  #heldMs: number | undefined;
  #flags = 0;
  /** The second up to which updates have been reported. */
  #seenSecond = 0;
  #secondTimer: TimerHandle | undefined;
  #periodicTimer: TimerHandle | undefined;

  constructor(board: Board, ramBytes: number) {
    this.#board = board;
    this.#irq = board.irq(IRQ);
    this.#ramBytes = ramBytes;
    board.ports.map(
      0x70,
      2,
      byteRegion(
        'RTC',
        (offset) => (offset === 0 ? 0xff : this.#read(this.#index)),
        (offset, value) => {
          if (offset === 0) this.#index = value & 0x7f;
          else this.#write(this.#index, value);
        },
      ),
    );
    this.reset();
  }

  /** The time goes on, as it is kept by a battery. */
  reset(): void {
    this.#memory.fill(0);
    this.#memory[REG.A] = A_DEFAULT;
    this.#memory[REG.B] = B.HOURS_24;
    this.#writeSizes();
    this.#index = this.#flags = 0;
    this.#heldMs = undefined;
    this.#seenSecond = this.#second;
    this.#secondTimer?.cancel();
    this.#periodicTimer?.cancel();
    this.#secondTimer = this.#periodicTimer = undefined;
    this.#irq.set(false);
  }

  #writeSizes(): void {
    const memory = this.#memory;
    const put16 = (at: number, value: number): void => {
      memory[at] = value & 0xff;
      memory[at + 1] = value >>> 8;
    };
    const low = Math.min(this.#ramBytes, LOW_RAM_MAX);
    // Equipment: a mathematics coprocessor.
    memory[0x14] = 0x02;
    put16(0x15, 640);
    const extendedKib = Math.min(0xffff, Math.floor((low - MIB) / 1024));
    put16(0x17, extendedKib);
    put16(0x30, extendedKib);
    put16(0x34, Math.min(0xffff, Math.max(0, Math.floor((low - 16 * MIB) / 0x1_0000))));
    const highUnits = Math.floor(Math.max(0, this.#ramBytes - low) / 0x1_0000);
    for (let i = 0; i < 3; i++) memory[0x5b + i] = (highUnits >>> (8 * i)) & 0xff;
  }

  get #nowMs(): number {
    return this.#heldMs ?? this.#board.clock.wallMs() + this.#offsetMs;
  }
  get #second(): number {
    return Math.floor(this.#nowMs / 1000);
  }

  #encode(value: number): number {
    return (this.#memory[REG.B]! & B.BINARY) !== 0 ? value : (Math.floor(value / 10) << 4) | (value % 10);
  }
  #decode(value: number): number {
    return (this.#memory[REG.B]! & B.BINARY) !== 0 ? value : (value >>> 4) * 10 + (value & 15);
  }

  #encodeHour(hour: number): number {
    if ((this.#memory[REG.B]! & B.HOURS_24) !== 0) return this.#encode(hour);
    return this.#encode(hour % 12 === 0 ? 12 : hour % 12) | (hour >= 12 ? 0x80 : 0);
  }
  #decodeHour(value: number): number {
    if ((this.#memory[REG.B]! & B.HOURS_24) !== 0) return this.#decode(value);
    return (this.#decode(value & 0x7f) % 12) + ((value & 0x80) !== 0 ? 12 : 0);
  }

  #timeRegister(index: number): number {
    const date = new Date(this.#nowMs);
    switch (index) {
      case REG.SECONDS:
        return this.#encode(date.getUTCSeconds());
      case REG.MINUTES:
        return this.#encode(date.getUTCMinutes());
      case REG.HOURS:
        return this.#encodeHour(date.getUTCHours());
      case REG.WEEKDAY:
        return this.#encode(date.getUTCDay() + 1);
      case REG.DAY:
        return this.#encode(date.getUTCDate());
      case REG.MONTH:
        return this.#encode(date.getUTCMonth() + 1);
      case REG.YEAR:
        return this.#encode(date.getUTCFullYear() % 100);
      default:
        return this.#encode(Math.floor(date.getUTCFullYear() / 100));
    }
  }

  #read(index: number): number {
    if (TIME_REGISTERS.includes(index)) return this.#timeRegister(index);
    switch (index) {
      case REG.A:
        return this.#memory[REG.A]! | (this.#isUpdating ? A_UPDATING : 0);
      case REG.C:
        return this.#readFlags();
      case REG.D:
        return D_VALID;
      default:
        return this.#memory[index]!;
    }
  }

  get #isUpdating(): boolean {
    return this.#heldMs === undefined && 1000 - (this.#nowMs % 1000) < UPDATE_MS;
  }

  #readFlags(): number {
    this.#secondPassed();
    const flags = this.#flags;
    this.#flags = 0;
    this.#update();
    return flags;
  }

  #write(index: number, value: number): void {
    if (TIME_REGISTERS.includes(index)) {
      this.#setTime(index, value);
      return;
    }
    switch (index) {
      case REG.A:
        this.#memory[REG.A] = value & 0x7f;
        this.#startPeriodic();
        return;
      case REG.B:
        this.#writeB(value);
        return;
      case REG.C:
      case REG.D:
        return;
      default:
        this.#memory[index] = value;
    }
  }

  #setTime(index: number, value: number): void {
    const old = this.#nowMs;
    const date = new Date(old);
    const number = this.#decode(value);
    const year = date.getUTCFullYear();
    if (index === REG.SECONDS) date.setUTCSeconds(number);
    else if (index === REG.MINUTES) date.setUTCMinutes(number);
    else if (index === REG.HOURS) date.setUTCHours(this.#decodeHour(value));
    else if (index === REG.DAY) date.setUTCDate(number);
    else if (index === REG.MONTH) date.setUTCMonth(number - 1);
    else if (index === REG.YEAR) date.setUTCFullYear(Math.floor(year / 100) * 100 + number);
    else if (index === REG.CENTURY) date.setUTCFullYear(number * 100 + (year % 100));
    if (this.#heldMs !== undefined) this.#heldMs = date.getTime();
    else this.#offsetMs += date.getTime() - old;
  }

  #writeB(value: number): void {
    const holds = (value & B.SET) !== 0;
    this.#secondPassed();
    if (holds) {
      this.#heldMs = this.#nowMs;
    } else if (this.#heldMs !== undefined) {
      this.#offsetMs = this.#heldMs - this.#board.clock.wallMs();
      this.#heldMs = undefined;
      this.#seenSecond = this.#second;
    }
    // Setting SET clears the update interrupt's enable.
    this.#memory[REG.B] = holds ? value & ~B.UPDATE : value;
    this.#startPeriodic();
    this.#startSeconds();
    this.#update();
  }

  /** Reports updates and alarms since it was last called. */
  #secondPassed(): void {
    const now = this.#second;
    if (this.#heldMs !== undefined || now === this.#seenSecond) return;
    // After a long pause, the last day's seconds cover every alarm.
    for (let second = Math.max(this.#seenSecond + 1, now - 86_400); second <= now; second++) {
      if (this.#isAlarm(second)) this.#flags |= C.ALARM;
    }
    this.#seenSecond = now;
    this.#flags |= C.UPDATE;
    this.#update();
  }

  #isAlarm(second: number): boolean {
    const matches = (register: number, actual: number, isHour = false): boolean => {
      const wanted = this.#memory[register]!;
      if ((wanted & ALARM_ANY) === ALARM_ANY) return true;
      return (isHour ? this.#decodeHour(wanted) : this.#decode(wanted)) === actual;
    };
    const ofDay = ((second % 86_400) + 86_400) % 86_400;
    return (
      matches(REG.SECONDS_ALARM, ofDay % 60) &&
      matches(REG.MINUTES_ALARM, Math.floor(ofDay / 60) % 60) &&
      matches(REG.HOURS_ALARM, Math.floor(ofDay / 3600), true)
    );
  }

  /** Once a second, but only while somebody waits for an update or an alarm. */
  #startSeconds(): void {
    this.#secondTimer?.cancel();
    this.#secondTimer = undefined;
    if ((this.#memory[REG.B]! & (B.UPDATE | B.ALARM)) === 0 || this.#heldMs !== undefined) return;
    const waitMs = 1000 - (this.#nowMs % 1000);
    this.#secondTimer = this.#board.clock.at(this.#board.clock.nowNs() + Math.ceil(waitMs * 1e6), () => {
      this.#secondPassed();
      this.#startSeconds();
    });
  }

  #startPeriodic(): void {
    this.#periodicTimer?.cancel();
    this.#periodicTimer = undefined;
    const rate = this.#memory[REG.A]! & 15;
    if (rate === 0 || (this.#memory[REG.B]! & B.PERIODIC) === 0) return;
    // Rates 1 and 2 are those of 8 and 9.
    const periodNs = (2 ** ((rate <= 2 ? rate + 7 : rate) - 1) * 1e9) / 32_768;
    const arm = (dueNs: number): void => {
      this.#periodicTimer = this.#board.clock.at(dueNs, () => {
        const now = this.#board.clock.nowNs();
        arm(dueNs + (Math.floor(Math.max(0, now - dueNs) / periodNs) + 1) * periodNs);
        this.#flags |= C.PERIODIC;
        this.#update();
      });
    };
    arm(this.#board.clock.nowNs() + periodNs);
  }

  #update(): void {
    const enabled = this.#memory[REG.B]! & (B.PERIODIC | B.ALARM | B.UPDATE);
    if ((this.#flags & enabled) !== 0) this.#flags |= C.REQUEST;
    this.#irq.set((this.#flags & C.REQUEST) !== 0);
  }
}
