/** A console's host side inside a VM's worker: queues input for the guest and hands on its output. */
import type { CharPort } from '../engine/backends.ts';

/** A sender should wait while more than this is unread. */
const HIGH_WATER_BYTES = 64 << 10;
const LOW_WATER_BYTES = 4 << 10;
/** Input beyond this is dropped: the sender does not wait, and the guest does not read. */
export const CONSOLE_INPUT_MAX = 1 << 20;
/** Output that nobody has taken yet: the port is full beyond this … */
export const OUTPUT_HIGH_WATER_BYTES = 256 << 10;
/** … until it is down to this; */
const OUTPUT_LOW_WATER_BYTES = 128 << 10;
/** and what a guest sends that does not wait is dropped beyond this. */
export const CONSOLE_OUTPUT_MAX = 1 << 20;

export interface ConsoleQueueHooks {
  /** The bytes are the receiver's own; it says with `taken` when it is done with them. */
  output(bytes: Uint8Array): void;
  /** Senders of input should wait, or go on. */
  held(isHeld: boolean): void;
}

export class ConsoleQueue implements CharPort {
  readonly #hooks: ConsoleQueueHooks;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  #ready: (() => void) | undefined;
  #isHeld = false;
  #untaken = 0;
  #isFull = false;
  #drained: (() => void) | undefined;
  /** Output that nobody got. */
  droppedBytes = 0;

  constructor(hooks: ConsoleQueueHooks) {
    this.#hooks = hooks;
  }

  /** Queues input; false while the sender should wait. */
  push(bytes: Uint8Array): boolean {
    if (bytes.length > 0 && this.#length + bytes.length <= CONSOLE_INPUT_MAX) {
      const wasEmpty = this.#length === 0;
      this.#chunks.push(bytes);
      this.#length += bytes.length;
      if (wasEmpty) this.#ready?.();
    }
    if (this.#length > HIGH_WATER_BYTES) this.#hold(true);
    return !this.#isHeld;
  }

  /** Bytes that wait for the guest. */
  get length(): number {
    return this.#length;
  }

  output(bytes: Uint8Array): void {
    if (this.#untaken + bytes.length > CONSOLE_OUTPUT_MAX) {
      this.droppedBytes += bytes.length;
      return;
    }
    this.#untaken += bytes.length;
    if (this.#untaken >= OUTPUT_HIGH_WATER_BYTES) this.#isFull = true;
    this.#hooks.output(bytes.slice());
  }

  /** So much of the output is out of the way. */
  taken(bytes: number): void {
    this.#untaken = Math.max(0, this.#untaken - bytes);
    if (!this.#isFull || this.#untaken > OUTPUT_LOW_WATER_BYTES) return;
    this.#isFull = false;
    this.#drained?.();
  }

  isFull(): boolean {
    return this.#isFull;
  }

  onDrained(drained: () => void): void {
    this.#drained = drained;
  }

  input(max: number): Uint8Array {
    const first = this.#chunks[0];
    if (first === undefined || max <= 0) return new Uint8Array(0);
    const taken = first.subarray(0, max);
    if (taken.length === first.length) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(max);
    this.#length -= taken.length;
    if (this.#length < LOW_WATER_BYTES) this.#hold(false);
    return taken;
  }

  onReadable(ready: () => void): void {
    this.#ready = ready;
  }

  #hold(isHeld: boolean): void {
    if (this.#isHeld === isHeld) return;
    this.#isHeld = isHeld;
    this.#hooks.held(isHeld);
  }
}
