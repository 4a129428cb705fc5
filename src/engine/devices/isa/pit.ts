/** 8254 interval timer, channels 0–2, and the speaker gate at port 0x61: Intel 8254 datasheet. */
import type { Board, Clock, Device, IrqLine, TimerHandle } from '../../machine/bus.ts';
import { byteRegion } from '../../machine/io-space.ts';

const PIT_HZ = 1_193_182;
const NS_PER_TICK = 1e9 / PIT_HZ;
/** Periods shorter than this would leave the guest no time to run. */
const PERIOD_MIN_NS = 20_000;

const ACCESS = { LATCH: 0, LOW: 1, HIGH: 2, BOTH: 3 } as const;

const fromBcd = (value: number): number =>
  (value & 15) + 10 * ((value >>> 4) & 15) + 100 * ((value >>> 8) & 15) + 1000 * ((value >>> 12) & 15);
const toBcd = (value: number): number =>
  (value % 10) |
  ((Math.floor(value / 10) % 10) << 4) |
  ((Math.floor(value / 100) % 10) << 8) |
  ((Math.floor(value / 1000) % 10) << 12);

/** One counter. Its state is computed from the time that has passed since it was loaded. */
class Channel {
  readonly #clock: Clock;
  readonly #loaded: () => void;
  mode = 0;
  #access: number = ACCESS.BOTH;
  #bcd = false;
  /** Reload value 1…65536. */
  count = 0x1_0000;
  /** When counting began, ns. */
  startNs = 0;
  /** No count was written since the mode was set. */
  isNull = true;
  gate: boolean;
  #writeLow = 0;
  #writesHigh = false;
  #readsHigh = false;
  #latchedCount: number | undefined;
  #latchedStatus: number | undefined;

  /** @param loaded called when the output's future has changed */
  constructor(clock: Clock, gate: boolean, loaded: () => void) {
    this.#clock = clock;
    this.gate = gate;
    this.#loaded = loaded;
  }

  setControl(access: number, mode: number, bcd: boolean): void {
    this.#access = access;
    // Modes 2 and 3 are also encoded as 6 and 7.
    this.mode = mode > 5 ? mode - 4 : mode;
    this.#bcd = bcd;
    this.isNull = true;
    this.#writesHigh = this.#readsHigh = false;
    this.#latchedCount = this.#latchedStatus = undefined;
    this.startNs = this.#clock.nowNs();
    this.#loaded();
  }

  write(value: number): void {
    if (this.#access === ACCESS.LOW) this.#load(value);
    else if (this.#access === ACCESS.HIGH) this.#load(value << 8);
    else if (!this.#writesHigh) {
      this.#writeLow = value;
      this.#writesHigh = true;
    } else {
      this.#writesHigh = false;
      this.#load(this.#writeLow | (value << 8));
    }
  }

  #load(raw: number): void {
    const value = this.#bcd ? fromBcd(raw) : raw;
    this.count = value === 0 ? (this.#bcd ? 10_000 : 0x1_0000) : value;
    this.isNull = false;
    this.startNs = this.#clock.nowNs();
    this.#loaded();
  }

  setGate(level: boolean): void {
    const rises = level && !this.gate;
    this.gate = level;
    // A rising gate triggers modes 1 and 5 and restarts 2 and 3.
    if (rises && this.mode !== 0 && this.mode !== 4) this.startNs = this.#clock.nowNs();
    this.#loaded();
  }

  get #ticks(): number {
    return Math.floor((this.#clock.nowNs() - this.startNs) / NS_PER_TICK);
  }

  get #current(): number {
    const ticks = this.#ticks;
    const modulus = this.#bcd ? 10_000 : 0x1_0000;
    if (this.isNull) return this.count % modulus;
    if (this.mode === 2) return this.count - (ticks % this.count);
    if (this.mode === 3) return (this.count - ((ticks * 2) % this.count)) & ~1;
    return (((this.count - ticks) % modulus) + modulus) % modulus;
  }

  get output(): boolean {
    if (this.isNull) return this.mode !== 0;
    const ticks = this.#ticks;
    switch (this.mode) {
      case 0:
      case 1:
        return ticks >= this.count;
      case 2:
        return ticks % this.count !== this.count - 1;
      case 3:
        return ticks % this.count < Math.ceil(this.count / 2);
      default:
        return ticks !== this.count;
    }
  }

  latchCount(): void {
    this.#latchedCount ??= this.#current;
  }

  latchStatus(): void {
    this.#latchedStatus ??=
      (this.output ? 0x80 : 0) |
      (this.isNull ? 0x40 : 0) |
      (this.#access << 4) |
      (this.mode << 1) |
      (this.#bcd ? 1 : 0);
  }

  read(): number {
    if (this.#latchedStatus !== undefined) {
      const status = this.#latchedStatus;
      this.#latchedStatus = undefined;
      return status;
    }
    const binary = this.#latchedCount ?? this.#current;
    const value = this.#bcd ? toBcd(binary) : binary & 0xffff;
    const high = this.#access === ACCESS.HIGH || (this.#access === ACCESS.BOTH && this.#readsHigh);
    if (this.#access === ACCESS.BOTH) this.#readsHigh = !this.#readsHigh;
    if (this.#access !== ACCESS.BOTH || high) this.#latchedCount = undefined;
    return high ? value >>> 8 : value & 0xff;
  }
}

export class Pit implements Device {
  readonly name = 'i8254';
  readonly #clock: Clock;
  readonly #irq: IrqLine;
  #channels: readonly [Channel, Channel, Channel];
  #timer: TimerHandle | undefined;
  #speaker = false;

  constructor(board: Board) {
    this.#clock = board.clock;
    this.#irq = board.irq(0);
    this.#channels = this.#makeChannels();
    board.ports.map(
      0x40,
      4,
      byteRegion(
        'i8254',
        (offset) => (offset === 3 ? 0xff : this.#channels[offset]!.read()),
        (offset, value) => {
          if (offset === 3) this.#control(value);
          else this.#channels[offset]!.write(value);
        },
      ),
    );
    board.ports.map(
      0x61,
      1,
      byteRegion(
        'port B',
        () => this.#readPortB(),
        (_offset, value) => this.#writePortB(value),
      ),
    );
  }

  reset(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#channels = this.#makeChannels();
    this.#speaker = false;
    this.#irq.set(false);
  }

  #makeChannels(): [Channel, Channel, Channel] {
    const nothing = (): void => {};
    return [
      new Channel(this.#clock, true, () => this.#schedule()),
      new Channel(this.#clock, true, nothing),
      new Channel(this.#clock, false, nothing),
    ];
  }

  #control(value: number): void {
    const select = value >>> 6;
    const access = (value >>> 4) & 3;
    if (select === 3) this.#readBack(value);
    else if (access === ACCESS.LATCH) this.#channels[select]!.latchCount();
    else this.#channels[select]!.setControl(access, (value >>> 1) & 7, (value & 1) !== 0);
  }

  #readBack(value: number): void {
    this.#channels.forEach((channel, index) => {
      if ((value & (2 << index)) === 0) return;
      if ((value & 0x20) === 0) channel.latchCount();
      if ((value & 0x10) === 0) channel.latchStatus();
    });
  }

  /** Port B: bit 0 gates channel 2, bit 1 the speaker, bit 4 toggles with refresh, bit 5 is channel 2's output. */
  #readPortB(): number {
    const refresh = Math.floor(this.#clock.nowNs() / 15_085) & 1;
    const channel = this.#channels[2];
    return (channel.gate ? 1 : 0) | (this.#speaker ? 2 : 0) | (refresh << 4) | (channel.output ? 0x20 : 0);
  }

  #writePortB(value: number): void {
    this.#speaker = (value & 2) !== 0;
    this.#channels[2].setGate((value & 1) !== 0);
  }

  /** Sets the interrupt line to channel 0's output and waits for its next rising edge. */
  #schedule(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    const channel = this.#channels[0];
    this.#irq.set(channel.output);
    if (channel.isNull) return;
    const periodNs = channel.count * NS_PER_TICK;
    if (channel.mode === 2 || channel.mode === 3) {
      this.#periodic(channel.startNs + periodNs, Math.max(periodNs, PERIOD_MIN_NS));
    } else if (channel.mode === 0 || channel.mode === 4) {
      // Mode 4 is low for the one tick after the count has run out.
      const due = channel.startNs + periodNs + (channel.mode === 4 ? NS_PER_TICK : 0);
      this.#timer = this.#clock.at(due, () => this.#rise());
    }
  }

  #periodic(dueNs: number, periodNs: number): void {
    this.#timer = this.#clock.at(dueNs, () => {
      // Ticks that the host slept through are lost: a burst of them would help nobody.
      const missed = Math.floor(Math.max(0, this.#clock.nowNs() - dueNs) / periodNs);
      this.#periodic(dueNs + (missed + 1) * periodNs, periodNs);
      this.#rise();
    });
  }

  #rise(): void {
    this.#irq.set(false);
    this.#irq.set(true);
  }
}
