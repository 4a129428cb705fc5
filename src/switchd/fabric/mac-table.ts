/**
 * Which port a station was last seen on (IEEE 802.1D §7.8, 7.9). Bounded: a set-associative table in typed
 * arrays whose hash is seeded, so that a guest can neither fill memory nor aim at another station's set.
 * A full set keeps its live entries: a flood of made-up addresses goes unlearned and dislodges nobody.
 */
const WAYS = 8;
const SETS = 512;
const ENTRIES = WAYS * SETS;
const EMPTY = -1;

/** Most stations that a network remembers. */
export const MAC_TABLE_MAX = ENTRIES;
/** Seconds after which a silent station is forgotten, as in uml_switch. */
export const MAC_AGEING_SECONDS = 100;
/** `slot` of a station that was not found. */
export const UNKNOWN = -1;

/** A MAC address as 16 + 32 bits, in the order in which little-endian words of a frame hold them. */
export interface MacEntry {
  readonly high: number;
  readonly low: number;
  readonly slot: number;
  readonly ageSeconds: number;
  readonly fixed: boolean;
}

export class MacTable {
  readonly #low = new Int32Array(ENTRIES);
  readonly #high = new Int32Array(ENTRIES);
  readonly #slot = new Int32Array(ENTRIES).fill(EMPTY);
  /** Second of the last frame; Infinity never ages. */
  readonly #seen = new Float64Array(ENTRIES);
  readonly #seed: number;
  /** Called when a station is new (`old` is UNKNOWN) or has moved. */
  onChange: ((high: number, low: number, slot: number, old: number) => void) | undefined;

  constructor(seed = (Math.random() * 0x1_0000_0000) | 0) {
    this.#seed = seed;
  }

  /** The port slot of a station, or UNKNOWN. `nowSeconds` is any monotonic clock. */
  lookup(high: number, low: number, nowSeconds: number): number {
    const index = this.#find(high, low);
    if (index < 0 || nowSeconds - this.#seen[index]! > MAC_AGEING_SECONDS) return UNKNOWN;
    return this.#slot[index]!;
  }

  /**
   * Records that a station sent from `slot`. False when the address belongs to a fixed entry of another
   * slot: the frame is forged. Not recorded when its set is full of live entries.
   */
  learn(high: number, low: number, slot: number, nowSeconds: number): boolean {
    const known = this.#find(high, low);
    if (known >= 0) {
      if (this.#seen[known] === Number.POSITIVE_INFINITY) return this.#slot[known] === slot;
      const old = this.#slot[known]!;
      this.#slot[known] = slot;
      this.#seen[known] = nowSeconds;
      if (old !== slot) this.onChange?.(high, low, slot, old);
      return true;
    }
    const free = this.#free(high, low, nowSeconds);
    if (free >= 0) {
      this.#put(free, high, low, slot, nowSeconds);
      this.onChange?.(high, low, slot, UNKNOWN);
    }
    return true;
  }

  /** Adds a station that never ages nor moves. */
  fix(high: number, low: number, slot: number): void {
    const known = this.#find(high, low);
    const first = this.#set(high, low);
    const index = known >= 0 ? known : Math.max(first, this.#free(high, low, 0));
    this.#put(index, high, low, slot, Number.POSITIVE_INFINITY);
  }

  /** Forgets every station of a port. */
  forget(slot: number): void {
    for (let i = 0; i < ENTRIES; i++) if (this.#slot[i] === slot) this.#slot[i] = EMPTY;
  }

  /** All live entries. */
  entries(nowSeconds: number): MacEntry[] {
    const entries: MacEntry[] = [];
    for (let i = 0; i < ENTRIES; i++) {
      const seen = this.#seen[i]!;
      if (this.#slot[i] === EMPTY || nowSeconds - seen > MAC_AGEING_SECONDS) continue;
      const fixed = seen === Number.POSITIVE_INFINITY;
      entries.push({
        high: this.#high[i]!,
        low: this.#low[i]!,
        slot: this.#slot[i]!,
        ageSeconds: fixed ? 0 : Math.max(0, nowSeconds - seen),
        fixed,
      });
    }
    return entries;
  }

  #put(index: number, high: number, low: number, slot: number, seen: number): void {
    this.#high[index] = high;
    this.#low[index] = low | 0;
    this.#slot[index] = slot;
    this.#seen[index] = seen;
  }

  #set(high: number, low: number): number {
    let hash = Math.imul((low | 0) ^ this.#seed, 0x9e37_79b1);
    hash = Math.imul((hash ^ (hash >>> 15)) + high, 0x85eb_ca77);
    return ((hash ^ (hash >>> 13)) & (SETS - 1)) * WAYS;
  }

  #find(high: number, low: number): number {
    const first = this.#set(high, low);
    const low32 = low | 0;
    for (let i = first; i < first + WAYS; i++) {
      if (this.#low[i] === low32 && this.#high[i] === high && this.#slot[i] !== EMPTY) return i;
    }
    return -1;
  }

  #free(high: number, low: number, nowSeconds: number): number {
    const first = this.#set(high, low);
    for (let i = first; i < first + WAYS; i++) {
      if (this.#slot[i] === EMPTY || nowSeconds - this.#seen[i]! > MAC_AGEING_SECONDS) return i;
    }
    return -1;
  }
}
