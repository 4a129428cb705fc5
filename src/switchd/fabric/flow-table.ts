/**
 * Which conversations a port has: a hash table in typed arrays that grows to its limit. A full neighborhood gives up the entry
 * that would end first, so a flood of conversations that nobody answers does not dislodge those that go on.
 */
import { randomInt } from 'node:crypto';

/** Local and remote address of 4 words each, both ports, protocol. */
export const FLOW_WORDS = 10;
const NEIGHBORHOOD = 8;
const ENTRIES_MIN = 256;
const ENTRIES_MAX = 65_536;
const SEED = randomInt(0x1_0000_0000) | 0;

export class FlowTable {
  #size = ENTRIES_MIN;
  #keys = new Int32Array(ENTRIES_MIN * FLOW_WORDS);
  /** Seconds; 0 for an empty entry. */
  #expires = new Float64Array(ENTRIES_MIN);
  #states = new Uint8Array(ENTRIES_MIN);
  #inserted = 0;

  /** The entry of a flow, or −1 when there is none that is alive. */
  find(key: Int32Array, now: number): number {
    const first = this.#hash(key, this.#size);
    for (let i = 0; i < NEIGHBORHOOD; i++) {
      const entry = (first + i) & (this.#size - 1);
      if (this.#expires[entry]! > now && this.#isAt(entry, key)) return entry;
    }
    return -1;
  }

  state(entry: number): number {
    return this.#states[entry]!;
  }

  set(entry: number, state: number, expires: number): void {
    this.#states[entry] = state;
    this.#expires[entry] = expires;
  }

  /** Adds a flow that is not there. */
  insert(key: Int32Array, state: number, now: number, expires: number): void {
    this.#inserted++;
    while (this.#size < ENTRIES_MAX && (this.#inserted > this.#size / 2 || this.#isCrowded(key, now)))
      this.#grow(now);
    this.#put(key, state, now, expires);
  }

  /** How many are alive. */
  count(now: number): number {
    return this.#expires.reduce((sum, expires) => sum + Number(expires > now), 0);
  }

  #put(key: Int32Array, state: number, now: number, expires: number): void {
    const first = this.#hash(key, this.#size);
    let chosen = first;
    for (let i = 0; i < NEIGHBORHOOD; i++) {
      const entry = (first + i) & (this.#size - 1);
      if (this.#expires[entry]! < this.#expires[chosen]!) chosen = entry;
      if (this.#expires[entry]! <= now) break;
    }
    this.#keys.set(key, chosen * FLOW_WORDS);
    this.set(chosen, state, expires);
  }

  #isCrowded(key: Int32Array, now: number): boolean {
    const first = this.#hash(key, this.#size);
    for (let i = 0; i < NEIGHBORHOOD; i++) {
      if (this.#expires[(first + i) & (this.#size - 1)]! <= now) return false;
    }
    return true;
  }

  #grow(now: number): void {
    const [keys, expires, states] = [this.#keys, this.#expires, this.#states];
    this.#size *= 2;
    this.#keys = new Int32Array(this.#size * FLOW_WORDS);
    this.#expires = new Float64Array(this.#size);
    this.#states = new Uint8Array(this.#size);
    this.#inserted = 1;
    for (let entry = 0; entry < expires.length; entry++) {
      if (expires[entry]! <= now) continue;
      this.#inserted++;
      const key = keys.subarray(entry * FLOW_WORDS, (entry + 1) * FLOW_WORDS);
      this.#put(key, states[entry]!, now, expires[entry]!);
    }
  }

  #isAt(entry: number, key: Int32Array): boolean {
    const at = entry * FLOW_WORDS;
    for (let i = FLOW_WORDS - 1; i >= 0; i--) if (this.#keys[at + i] !== key[i]) return false;
    return true;
  }

  #hash(key: Int32Array, size: number): number {
    let hash = SEED;
    for (let i = 0; i < FLOW_WORDS; i++) {
      hash = Math.imul(hash ^ key[i]!, 0x9e37_79b1);
      hash ^= hash >>> 15;
    }
    return (hash ^ (hash >>> 13)) & (size - 1);
  }
}
