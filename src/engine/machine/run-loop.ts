/**
 * Runs a vCPU in slices of about a millisecond and turns the event loop between them, so that disks,
 * network and consoles are served. A halted CPU sleeps until an interrupt or the next timer.
 */
import type { Cpu } from '../cpu.ts';
import { EXIT } from '../layout.ts';
import type { MachineClock } from './clock.ts';
import type { Interrupts } from './interrupts.ts';

const SLICE_NS = 1_000_000;
/** How much at least is run before timers are looked at again. */
const RUN_MIN_NS = 10_000;
const RUN_MIN_INSTRUCTIONS = 1000;
/** Speed assumed before there is a measurement; instructions per ns. */
const FIRST_SPEED = 0.05;
/** Weight of the newest measurement. */
const SPEED_WEIGHT = 0.2;
const SPEED_SAMPLE_MIN_NS = 20_000;
/** Timers nearer than this are waited for exactly; setTimeout counts whole milliseconds. */
const EXACT_SLEEP_NS = 1_500_000;
/** The event loop is turned at least this often while waiting exactly. */
const EXACT_STEP_MS = 0.25;
const SLEEP_MAX_MS = 0x3fff_ffff;

export interface RunLoopHooks {
  /** After each slice and before a sleep: outputs are passed on. */
  sliceEnded(): void;
  /** The CPU has shut down: triple fault. */
  shutdown(): void;
  /** Something in the CPU or a device threw. */
  failed(error: unknown): void;
}

type State = 'idle' | 'running' | 'queued' | 'asleep';

export class RunLoop {
  readonly #cpu: Cpu;
  readonly #clock: MachineClock;
  readonly #interrupts: Interrupts;
  readonly #hooks: RunLoopHooks;
  readonly #sleepCell = new Int32Array(new SharedArrayBuffer(4));
  #state: State = 'idle';
  #shouldRun = false;
  #speed = FIRST_SPEED;
  #timeout: NodeJS.Timeout | undefined;
  #immediate: NodeJS.Immediate | undefined;

  constructor(cpu: Cpu, clock: MachineClock, interrupts: Interrupts, hooks: RunLoopHooks) {
    this.#cpu = cpu;
    this.#clock = clock;
    this.#interrupts = interrupts;
    this.#hooks = hooks;
    // The guest set a timer: the slice was cut for the deadline before it.
    clock.onNearer = () => {
      if (this.#state === 'running') cpu.interruptRun();
    };
  }

  start(): void {
    this.#shouldRun = true;
    if (this.#state === 'idle') this.#queue();
  }

  /** No guest instruction runs after this; from within a slice, after the present block. */
  stop(): void {
    this.#shouldRun = false;
    if (this.#state === 'running') this.#cpu.interruptRun();
    else this.#cancel();
  }

  /** Looks at interrupts and timers again: something happened outside a slice. */
  wake(): void {
    if (this.#state !== 'asleep') return;
    clearTimeout(this.#timeout);
    this.#queue();
  }

  #cancel(): void {
    clearTimeout(this.#timeout);
    clearImmediate(this.#immediate);
    this.#state = 'idle';
  }

  #queue(): void {
    this.#state = 'queued';
    this.#immediate = setImmediate(() => this.#slice());
  }

  #slice(): void {
    this.#state = 'running';
    try {
      this.#run();
    } catch (error) {
      this.#shouldRun = false;
      this.#state = 'idle';
      this.#hooks.failed(error);
      return;
    }
    this.#state = 'idle';
    this.#hooks.sliceEnded();
    if (!this.#shouldRun) return;
    if (this.#isAsleep) this.#sleep();
    else this.#queue();
  }

  /** Halted, and nothing there that would end it. */
  get #isAsleep(): boolean {
    return this.#cpu.halted && !(this.#interrupts.pending && this.#cpu.interruptible);
  }

  #run(): void {
    const end = this.#clock.nowNs() + SLICE_NS;
    while (this.#shouldRun) {
      this.#clock.fireDue();
      if (this.#interrupts.pending && this.#cpu.interruptible) {
        this.#cpu.interrupt(this.#interrupts.acknowledge());
        this.#cpu.setInterruptPending(this.#interrupts.pending);
      }
      if (!this.#shouldRun || this.#isAsleep) return;
      const now = this.#clock.nowNs();
      if (now >= end) return;
      const wanted = Math.max(RUN_MIN_NS, Math.min(end, this.#clock.nextDeadlineNs) - now);
      if (!this.#runFor(wanted, now)) return;
    }
  }

  /** Runs for about `ns`; false after a shutdown. */
  #runFor(ns: number, now: number): boolean {
    const before = this.#cpu.instructions;
    const reason = this.#cpu.run(Math.max(RUN_MIN_INSTRUCTIONS, Math.floor(ns * this.#speed)));
    const elapsed = this.#clock.nowNs() - now;
    if (elapsed >= SPEED_SAMPLE_MIN_NS) {
      const measured = (this.#cpu.instructions - before) / elapsed;
      this.#speed += (measured - this.#speed) * SPEED_WEIGHT;
    }
    if (reason !== EXIT.SHUTDOWN) return true;
    this.#shouldRun = false;
    this.#hooks.shutdown();
    return false;
  }

  #sleep(): void {
    const waitNs = this.#clock.nextDeadlineNs - this.#clock.nowNs();
    if (waitNs > EXACT_SLEEP_NS) {
      this.#state = 'asleep';
      const waitMs = Math.min(SLEEP_MAX_MS, Math.max(1, Math.floor(waitNs / 1e6)));
      this.#timeout = setTimeout(() => this.#queue(), waitMs);
      return;
    }
    if (waitNs > 0) Atomics.wait(this.#sleepCell, 0, 0, Math.min(EXACT_STEP_MS, waitNs / 1e6));
    this.#queue();
  }
}
