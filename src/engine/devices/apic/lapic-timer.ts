/** The local APIC's timer: one-shot, periodic and TSC-deadline (Intel SDM volume 3, "APIC Timer"). */
import type { Clock, TimerHandle } from '../../machine/bus.ts';
import type { CpuRegisters } from './lapic.ts';

const MODE_PERIODIC = 1;
const MODE_DEADLINE = 2;
/** A periodic timer faster than this would leave the guest no time to run. */
const PERIOD_MIN_NS = 20_000;

export class LapicTimer {
  readonly #clock: Clock;
  readonly #cpu: Pick<CpuRegisters, 'tscOffset'>;
  readonly #expired: () => void;
  #mode = 0;
  #divide = 0;
  #initialCount = 0;
  /** When the current count began, ns. */
  #start = 0;
  #deadline = 0n;
  #timer: TimerHandle | undefined;

  constructor(clock: Clock, cpu: Pick<CpuRegisters, 'tscOffset'>, expired: () => void) {
    this.#clock = clock;
    this.#cpu = cpu;
    this.#expired = expired;
  }

  reset(): void {
    this.#disarm();
    this.#mode = this.#divide = this.#initialCount = this.#start = 0;
    this.#deadline = 0n;
  }

  get initialCount(): number {
    return this.#initialCount;
  }
  get divide(): number {
    return this.#divide;
  }

  get currentCount(): number {
    if (this.#initialCount === 0 || this.#mode === MODE_DEADLINE) return 0;
    const ticks = Math.floor((this.#clock.nowNs() - this.#start) / this.#tickNs);
    if (this.#mode === MODE_PERIODIC) return this.#initialCount - (ticks % this.#initialCount);
    return Math.max(0, this.#initialCount - ticks);
  }

  /** 0 one-shot, 1 periodic, 2 TSC-deadline: bits 17 and 18 of the LVT entry. */
  setMode(mode: number): void {
    if (mode === this.#mode) return;
    const hadCount = this.#mode !== MODE_DEADLINE;
    this.#mode = mode;
    this.#disarm();
    this.#deadline = 0n;
    // Between one-shot and periodic the count goes on; to and from the deadline mode it is disarmed.
    if (hadCount && mode !== MODE_DEADLINE) this.#arm(this.#start);
    else this.#initialCount = 0;
  }

  setInitialCount(count: number): void {
    if (this.#mode === MODE_DEADLINE) return;
    this.#initialCount = count;
    this.#arm(this.#clock.nowNs());
  }

  setDivide(value: number): void {
    const count = this.currentCount;
    this.#divide = value & 0xb;
    if (this.#mode === MODE_DEADLINE || count === 0) return;
    // The rest of the count goes on at the new rate.
    this.#arm(this.#clock.nowNs() - (this.#initialCount - count) * this.#tickNs);
  }

  /** The armed TSC deadline, 0 when there is none. */
  get deadline(): bigint {
    return this.#deadline;
  }

  /** IA32_TSC_DEADLINE; ignored in the other modes. */
  setDeadline(tsc: bigint): void {
    if (this.#mode !== MODE_DEADLINE) return;
    this.#disarm();
    this.#deadline = tsc;
    if (tsc === 0n) return;
    this.#timer = this.#clock.at(Number(tsc - this.#cpu.tscOffset), () => {
      this.#timer = undefined;
      this.#deadline = 0n;
      this.#expired();
    });
  }

  /** Length of one tick: the divide configuration 0…7 is 2, 4, … 128, 1. */
  get #tickNs(): number {
    const code = (this.#divide & 3) | ((this.#divide >>> 1) & 4);
    return code === 7 ? 1 : 2 << code;
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(startNs: number): void {
    this.#disarm();
    this.#start = startNs;
    if (this.#initialCount !== 0) this.#at(startNs + this.#initialCount * this.#tickNs);
  }

  #at(dueNs: number): void {
    this.#timer = this.#clock.at(dueNs, () => {
      this.#timer = undefined;
      if (this.#mode === MODE_PERIODIC) this.#nextPeriod(dueNs);
      this.#expired();
    });
  }

  /** Ticks that the host slept through are lost, as a real machine loses them to SMM. */
  #nextPeriod(dueNs: number): void {
    const period = Math.max(this.#initialCount * this.#tickNs, PERIOD_MIN_NS);
    this.#start = dueNs + Math.floor(Math.max(0, this.#clock.nowNs() - dueNs) / period) * period;
    this.#at(this.#start + period);
  }
}
