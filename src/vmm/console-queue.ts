/** A console's host side inside a VM's worker: queues input for the guest and hands on its output. */
import type { CharPort } from '../engine/backends.ts';

/** A sender should wait while more than this is unread. */
const HIGH_WATER_BYTES = 64 << 10;
const LOW_WATER_BYTES = 4 << 10;
/** Input beyond this is dropped: the sender does not wait, and the guest does not read. */
export const CONSOLE_INPUT_MAX = 1 << 20;

export class ConsoleQueue implements CharPort {
  readonly #onOutput: (bytes: Uint8Array) => void;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;
  #ready: (() => void) | undefined;
  #drained: (() => void) | undefined;
  #isHeld = false;

  constructor(onOutput: (bytes: Uint8Array) => void) {
    this.#onOutput = onOutput;
  }

  /** Queues input; false when the sender should wait for `onDrained`. */
  push(bytes: Uint8Array): boolean {
    if (bytes.length > 0 && this.#length + bytes.length <= CONSOLE_INPUT_MAX) {
      const wasEmpty = this.#length === 0;
      this.#chunks.push(bytes);
      this.#length += bytes.length;
      if (wasEmpty) this.#ready?.();
    }
    this.#isHeld ||= this.#length > HIGH_WATER_BYTES;
    return !this.#isHeld;
  }

  /** `drained` is called each time that the guest has read on after `push` returned false. */
  onDrained(drained: () => void): void {
    this.#drained = drained;
  }

  /** Bytes that wait for the guest. */
  get length(): number {
    return this.#length;
  }

  output(bytes: Uint8Array): void {
    this.#onOutput(bytes.slice());
  }

  input(max: number): Uint8Array {
    const first = this.#chunks[0];
    if (first === undefined || max <= 0) return new Uint8Array(0);
    const taken = first.subarray(0, max);
    if (taken.length === first.length) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(max);
    this.#length -= taken.length;
    if (this.#isHeld && this.#length < LOW_WATER_BYTES) {
      this.#isHeld = false;
      this.#drained?.();
    }
    return taken;
  }

  onReadable(ready: () => void): void {
    this.#ready = ready;
  }
}
