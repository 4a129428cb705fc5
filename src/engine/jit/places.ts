/** A set of places of code, by offset in RAM and mode: a bit for each byte of a page that has any. */

const PAGE_BYTES = 4096;
/** Modes have fewer than 16 bits. */
const keyOf = (ramOffset: number, mode: number): number => (ramOffset >>> 12) * 65536 + mode;

export class Places {
  readonly #pages = new Map<number, Uint8Array>();

  add(ramOffset: number, mode: number): void {
    const key = keyOf(ramOffset, mode);
    let bits = this.#pages.get(key);
    if (bits === undefined) {
      bits = new Uint8Array(PAGE_BYTES / 8);
      this.#pages.set(key, bits);
    }
    bits[(ramOffset & (PAGE_BYTES - 1)) >> 3]! |= 1 << (ramOffset & 7);
  }

  /** Returns whether it was there. */
  delete(ramOffset: number, mode: number): boolean {
    const bits = this.#pages.get(keyOf(ramOffset, mode));
    const at = (ramOffset & (PAGE_BYTES - 1)) >> 3;
    const bit = 1 << (ramOffset & 7);
    if (bits === undefined || (bits[at]! & bit) === 0) return false;
    bits[at]! &= ~bit;
    return true;
  }

  clear(): void {
    this.#pages.clear();
  }
}
