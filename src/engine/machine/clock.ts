/** The machine's time: the host's monotonic clock, stopped while the machine is, and the timers on it. */
import type { Clock, TimerHandle } from './bus.ts';

/** Where time comes from; tests inject their own. */
export interface TimeSource {
  /** Monotonic nanoseconds from any origin. */
  monotonicNs(): number;
  /** Milliseconds since 1970, UTC. */
  wallMs(): number;
}

/** Bound, because guests read the time often: the look-up of the global in front of each call costs half as much as the clock. */
const now = performance.now.bind(performance);
const { timeOrigin } = performance;

/** The host's clocks. */
export const hostTime: TimeSource = {
  monotonicNs: () => now() * 1e6,
  wallMs: () => timeOrigin + now(),
};

class Timer implements TimerHandle {
  readonly atNs: number;
  readonly fire: () => void;
  readonly #heap: TimerHeap;
  /** Position in the heap, -1 when it is not in it. */
  index = -1;

  constructor(heap: TimerHeap, atNs: number, fire: () => void) {
    this.#heap = heap;
    this.atNs = atNs;
    this.fire = fire;
  }

  cancel(): void {
    this.#heap.remove(this);
  }
}

/** Binary heap by time; an entry knows its place, so that cancelling leaves nothing behind. */
class TimerHeap {
  readonly #entries: Timer[] = [];

  get first(): Timer | undefined {
    return this.#entries[0];
  }

  add(timer: Timer): void {
    timer.index = this.#entries.length;
    this.#entries.push(timer);
    this.#up(timer.index);
  }

  remove(timer: Timer): void {
    const index = timer.index;
    if (index < 0) return;
    timer.index = -1;
    const last = this.#entries.pop()!;
    if (last === timer) return;
    this.#put(index, last);
    this.#up(index);
    this.#down(last.index);
  }

  #put(index: number, timer: Timer): void {
    this.#entries[index] = timer;
    timer.index = index;
  }

  #up(start: number): void {
    const timer = this.#entries[start]!;
    let index = start;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      const above = this.#entries[parent]!;
      if (above.atNs <= timer.atNs) break;
      this.#put(index, above);
      index = parent;
    }
    this.#put(index, timer);
  }

  #down(start: number): void {
    const timer = this.#entries[start]!;
    const count = this.#entries.length;
    let index = start;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= count) break;
      if (child + 1 < count && this.#entries[child + 1]!.atNs < this.#entries[child]!.atNs) child++;
      const below = this.#entries[child]!;
      if (below.atNs >= timer.atNs) break;
      this.#put(index, below);
      index = child;
    }
    this.#put(index, timer);
  }
}

export class MachineClock implements Clock {
  readonly #source: TimeSource;
  readonly #timers = new TimerHeap();
  /** Called when a timer is set that is due before all others: who waits for the next deadline looks again. */
  onNearer: (() => void) | undefined;
  /** Source time at machine time 0. */
  #origin: number;
  /** Machine time while stopped. */
  #stoppedAt: number | undefined;

  constructor(source: TimeSource = hostTime) {
    this.#source = source;
    this.#origin = source.monotonicNs();
  }

  nowNs(): number {
    return this.#stoppedAt ?? Math.floor(this.#source.monotonicNs() - this.#origin);
  }

  wallMs(): number {
    return this.#source.wallMs();
  }

  at(atNs: number, fire: () => void): TimerHandle {
    const timer = new Timer(this.#timers, Math.ceil(atNs), fire);
    this.#timers.add(timer);
    if (this.#timers.first === timer) this.onNearer?.();
    return timer;
  }

  /** Time stands still until `resume`: a stopped guest finds no time gone. */
  stop(): void {
    this.#stoppedAt ??= this.nowNs();
  }

  resume(): void {
    if (this.#stoppedAt === undefined) return;
    this.#origin = this.#source.monotonicNs() - this.#stoppedAt;
    this.#stoppedAt = undefined;
  }

  /** When the next timer is due, Infinity when there is none. */
  get nextDeadlineNs(): number {
    return this.#timers.first?.atNs ?? Number.POSITIVE_INFINITY;
  }

  /** Fires what is due. */
  fireDue(): void {
    const now = this.nowNs();
    while (this.#timers.first !== undefined && this.#timers.first.atNs <= now) {
      const timer = this.#timers.first;
      this.#timers.remove(timer);
      timer.fire();
    }
  }
}
