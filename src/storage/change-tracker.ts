/**
 * Which chunks of a disk have changed since a backup of it: a bit per chunk, for each store that it is backed up to. A bit is set
 * before the change is made, so a chunk without one is as it was in that backup.
 */

/** Of the store's chunks, which tracking has to fit. */
export const TRACKED_BYTES = 64 * 1024;
/** Stores beyond that push out the one whose backup is the oldest. */
const BASES_MAX = 8;

export interface TrackedBase {
  /** The backup that the bits count from. */
  readonly backupId: string;
  readonly bits: Uint8Array;
}

export interface TrackingAttempt {
  /** The backup is there: what changed since it began is what the next one needs. */
  succeed(): void;
  /** It is not: what had changed before still counts. */
  fail(): void;
}

export class ChangeTracker {
  #chunks: number;
  #bytes: number;
  /** By store, oldest first. */
  readonly #bases: Map<string, TrackedBase>;
  /** Bits of backups that are being made. */
  readonly #attempts = new Set<Uint8Array>();

  constructor(sizeBytes: number, bases: ReadonlyMap<string, TrackedBase> = new Map()) {
    this.#chunks = Math.ceil(sizeBytes / TRACKED_BYTES);
    this.#bytes = Math.ceil(this.#chunks / 8);
    this.#bases = new Map([...bases].filter(([, { bits }]) => bits.length === this.#bytes));
  }

  /** The disk has another size: the next backup to each store reads all of it. */
  resized(sizeBytes: number): void {
    this.#chunks = Math.ceil(sizeBytes / TRACKED_BYTES);
    this.#bytes = Math.ceil(this.#chunks / 8);
    this.#bases.clear();
    this.#attempts.clear();
  }

  get bases(): ReadonlyMap<string, TrackedBase> {
    return this.#bases;
  }

  /** The range is about to change. */
  mark(offset: number, length: number): void {
    if (length === 0 || (this.#bases.size === 0 && this.#attempts.size === 0)) return;
    const first = Math.floor(offset / TRACKED_BYTES);
    const end = Math.min(Math.ceil((offset + length) / TRACKED_BYTES), this.#chunks);
    for (const { bits } of this.#bases.values()) setBits(bits, first, end);
    for (const bits of this.#attempts) setBits(bits, first, end);
  }

  /** What has changed since that backup; undefined when it is not known. */
  changedSince(store: string, backupId: string): Uint8Array | undefined {
    const base = this.#bases.get(store);
    return base?.backupId === backupId ? base.bits : undefined;
  }

  /** The moment of a backup: counting for it begins, within this call. */
  begin(store: string, backupId: string): TrackingAttempt {
    const bits = new Uint8Array(this.#bytes);
    this.#attempts.add(bits);
    return {
      succeed: () => {
        if (!this.#attempts.delete(bits)) return;
        this.#bases.delete(store);
        this.#bases.set(store, { backupId, bits });
        const oldest = this.#bases.keys().next().value;
        if (this.#bases.size > BASES_MAX && oldest !== undefined) this.#bases.delete(oldest);
      },
      fail: () => void this.#attempts.delete(bits),
    };
  }
}

function setBits(bits: Uint8Array, first: number, end: number): void {
  let at = first;
  while (at < end) {
    if ((at & 7) === 0 && end - at >= 8) {
      const whole = at + ((end - at) & ~7);
      bits.fill(0xff, at >> 3, whole >> 3);
      at = whole;
    } else {
      bits[at >> 3]! |= 1 << (at & 7);
      at++;
    }
  }
}
