/**
 * Limits of a disk: token buckets for requests and for bytes. A bucket fills at the limit's rate, up to the burst. A request
 * goes when there are tokens for it; one of more bytes than the burst goes when the bucket is full and leaves it in debt, so
 * those after it wait the longer. Requests go in the order in which they came.
 */
import type { DiskLimits } from '../contracts/machine.ts';

/** The burst where none is given, in seconds of the limit's rate. */
const BURST_DEFAULT_SECONDS = 0.1;
/** The least burst: timers count whole milliseconds, and in between so much may collect. */
const BURST_MIN_SECONDS = 0.02;

/** Sums of fractions of tokens are off by less. */
const ROUNDING = 1e-6;

/** Milliseconds, monotonic. */
export type Clock = () => number;

class Bucket {
  readonly #perMs: number;
  readonly #burst: number;
  #tokens: number;
  #at: number;

  /** @param rate per second */
  constructor(rate: number, burst: number | undefined, now: number) {
    this.#perMs = rate / 1000;
    this.#burst = Math.max(burst ?? rate * BURST_DEFAULT_SECONDS, rate * BURST_MIN_SECONDS, 1);
    this.#tokens = this.#burst;
    this.#at = now;
  }

  /** Until there are tokens for `amount`; 0 when there are. */
  waitMs(amount: number, now: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs);
    this.#at = now;
    const missing = Math.min(amount, this.#burst) - this.#tokens;
    return missing > ROUNDING ? missing / this.#perMs : 0;
  }

  take(amount: number): void {
    this.#tokens -= amount;
  }
}

interface Waiting {
  readonly bytes: number;
  readonly since: number;
  readonly go: () => void;
}

export class Throttle {
  readonly #now: Clock;
  readonly #queue: Waiting[] = [];
  #requests: Bucket | undefined;
  #bytes: Bucket | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** Requests that had to wait, and for how long all of them together. */
  delayed = 0;
  delayedMs = 0;

  constructor(limits: DiskLimits, now: Clock = () => performance.now()) {
    this.#now = now;
    this.set(limits);
  }

  /** From now on; what waits is looked at again. */
  set({ iops, iopsBurst, bytesPerSecond, bytesBurst }: DiskLimits): void {
    const now = this.#now();
    this.#requests = iops === undefined ? undefined : new Bucket(iops, iopsBurst, now);
    this.#bytes = bytesPerSecond === undefined ? undefined : new Bucket(bytesPerSecond, bytesBurst, now);
    this.#pass();
  }

  /** How many wait now. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Undefined: go on at once. Otherwise resolves when the request may. */
  admit(bytes: number): Promise<void> | undefined {
    if (this.#requests === undefined && this.#bytes === undefined) return undefined;
    if (this.#queue.length === 0 && this.#take(bytes) === 0) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#queue.push({ bytes, since: this.#now(), go: resolve });
    this.#wait();
    return promise;
  }

  /** No limits any more: everything that waits goes. */
  release(): void {
    this.set({});
  }

  /** Milliseconds to wait; when 0, the tokens are taken. */
  #take(bytes: number): number {
    const wait = this.#waitMs(bytes);
    if (wait > 0) return wait;
    this.#requests?.take(1);
    this.#bytes?.take(bytes);
    return 0;
  }

  #waitMs(bytes: number): number {
    const now = this.#now();
    return Math.max(this.#requests?.waitMs(1, now) ?? 0, this.#bytes?.waitMs(bytes, now) ?? 0);
  }

  #pass(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    while (this.#queue.length > 0 && this.#take(this.#queue[0]!.bytes) === 0) {
      const { since, go } = this.#queue.shift()!;
      this.delayed++;
      this.delayedMs += this.#now() - since;
      go();
    }
    if (this.#queue.length > 0) this.#wait();
  }

  #wait(): void {
    this.#timer ??= setTimeout(
      () => this.#pass(),
      Math.max(1, Math.ceil(this.#waitMs(this.#queue[0]!.bytes))),
    );
  }
}
