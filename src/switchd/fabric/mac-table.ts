/**
 * Which port a station was last seen on (IEEE 802.1D §7.8, 7.9). Bounded: a set-associative table in typed
 * arrays whose hash is seeded, so that a guest can neither fill memory nor aim at another station's set.
 * A full set keeps its live entries: a flood of made-up addresses goes unlearned and dislodges nobody.
 */
const WAYS = 8;
const SETS = 1024;
const ENTRIES = WAYS * SETS;
const EMPTY = -1;

/** Most stations that a network remembers. */
export const MAC_TABLE_MAX = ENTRIES;
/** Seconds after which a silent station is forgotten, as in uml_switch. */
export const MAC_AGEING_SECONDS = 100;
/** `slot` of a station that was not found. */
export const UNKNOWN = -1;

/** What `learn` says: recorded, or not for want of room; */
export const LEARNED = 0;
/** the address belongs to another port; */
export const FORGED = 1;
/** the port has as many stations as it may. */
export const TOO_MANY = 2;
export type Learned = typeof LEARNED | typeof FORGED | typeof TOO_MANY;

/** A port that is at its limit has its silent stations forgotten at most this often. */
const SWEEP_SECONDS = 1;

/**
 * A MAC address as 16 + 32 bits, in the order in which little-endian words of a frame hold them. The upper half of
 * `high` is the VLAN: the same address is another station in another one.
 */
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
  /** By slot. */
  readonly #counts: number[] = [];
  readonly #limits: number[] = [];
  readonly #swept: number[] = [];
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

  /** Most stations of a port at a time; Infinity for no limit. */
  setLimit(slot: number, stations: number): void {
    this.#limits[slot] = stations;
  }

  /**
   * Records that a station sent from `slot`. FORGED when the address belongs to a fixed entry of another slot.
   * Not recorded when its set is full of live entries.
   */
  learn(high: number, low: number, slot: number, nowSeconds: number): Learned {
    const known = this.#find(high, low);
    if (known >= 0) {
      const old = this.#slot[known]!;
      if (this.#seen[known] === Number.POSITIVE_INFINITY) return old === slot ? LEARNED : FORGED;
      if (old !== slot) {
        if (!this.#mayHaveMore(slot, nowSeconds)) return TOO_MANY;
        this.#put(known, high, low, slot, nowSeconds);
        this.onChange?.(high, low, slot, old);
      }
      this.#seen[known] = nowSeconds;
      return LEARNED;
    }
    if (!this.#mayHaveMore(slot, nowSeconds)) return TOO_MANY;
    const free = this.#free(high, low, nowSeconds);
    if (free >= 0) {
      this.#put(free, high, low, slot, nowSeconds);
      this.onChange?.(high, low, slot, UNKNOWN);
    }
    return LEARNED;
  }

  /**
   * Adds a station that never ages nor moves, in place of one that does if need be. Not added when its set is full of
   * others of its kind: it is then found by flooding.
   */
  fix(high: number, low: number, slot: number): void {
    const first = this.#set(high, low);
    let index = this.#find(high, low);
    if (index < 0) index = this.#free(high, low, Number.NEGATIVE_INFINITY);
    for (let i = first; i < first + WAYS && index < 0; i++) {
      if (this.#seen[i] !== Number.POSITIVE_INFINITY) index = i;
    }
    if (index >= 0) this.#put(index, high, low, slot, Number.POSITIVE_INFINITY);
  }

  /** Forgets every station of a port. */
  forget(slot: number): void {
    for (let i = 0; i < ENTRIES; i++) if (this.#slot[i] === slot) this.#slot[i] = EMPTY;
    this.#counts[slot] = 0;
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

  #mayHaveMore(slot: number, nowSeconds: number): boolean {
    const limit = this.#limits[slot] ?? Number.POSITIVE_INFINITY;
    if ((this.#counts[slot] ?? 0) < limit) return true;
    if (nowSeconds - (this.#swept[slot] ?? Number.NEGATIVE_INFINITY) < SWEEP_SECONDS) return false;
    this.#swept[slot] = nowSeconds;
    for (let i = 0; i < ENTRIES; i++) {
      if (this.#slot[i] !== slot || nowSeconds - this.#seen[i]! <= MAC_AGEING_SECONDS) continue;
      this.#slot[i] = EMPTY;
      this.#counts[slot]!--;
    }
    return this.#counts[slot]! < limit;
  }

  #put(index: number, high: number, low: number, slot: number, seen: number): void {
    const old = this.#slot[index]!;
    if (old !== EMPTY) this.#counts[old]!--;
    this.#counts[slot] = (this.#counts[slot] ?? 0) + 1;
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
