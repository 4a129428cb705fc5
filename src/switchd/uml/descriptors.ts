/**
 * Which descriptors the threads of a switch have opened by the C library, so that they can be closed when those threads have died:
 * Node knows nothing of them, and a TAP device or another switch's port would be held for ever. A bit for each, in memory that
 * the threads share with the one that outlives them.
 */
const DESCRIPTORS_MAX = 1 << 20;
const WORD_BITS = 32;

export class Descriptors {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;

  constructor(memory = new SharedArrayBuffer(DESCRIPTORS_MAX / 8)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
  }

  opened(fd: number): void {
    if (fd >= 0 && fd < DESCRIPTORS_MAX)
      Atomics.or(this.#words, Math.floor(fd / WORD_BITS), 1 << (fd % WORD_BITS));
  }

  /** Before it is closed, or when something else closes it: its number may be another's at once. */
  released(fd: number): void {
    if (fd < 0 || fd >= DESCRIPTORS_MAX) return;
    Atomics.and(this.#words, Math.floor(fd / WORD_BITS), ~(1 << (fd % WORD_BITS)));
  }

  /** Those that are open, which are none afterwards. */
  take(): number[] {
    const open: number[] = [];
    for (let index = 0; index < this.#words.length; index++) {
      const word = Atomics.exchange(this.#words, index, 0);
      for (let bit = 0; bit < WORD_BITS && word !== 0; bit++)
        if ((word & (1 << bit)) !== 0) open.push(index * WORD_BITS + bit);
    }
    return open;
  }
}

let own: Descriptors | undefined;

/** Of this thread: what it opens is noted there from now on. */
export function noteDescriptors(memory: SharedArrayBuffer | undefined): void {
  own = memory && new Descriptors(memory);
}

/** For a thread that this one starts. */
export function descriptorMemory(): SharedArrayBuffer | undefined {
  return own?.memory;
}

/** The result of a call that opens one. */
export function noteOpened(fd: number): number {
  own?.opened(fd);
  return fd;
}

export function noteReleased(fd: number): void {
  own?.released(fd);
}
