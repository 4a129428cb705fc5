/** Writes micro-op records into the arena in linear memory. */
import { STATE, UOP } from '../layout.ts';

export class UopWriter {
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  /** Address of the first record. */
  #start = 0;
  /** Records written since `begin`. */
  count = 0;

  constructor(buffer: ArrayBufferLike) {
    this.#u8 = new Uint8Array(buffer);
    this.#u16 = new Uint16Array(buffer);
    this.#i32 = new Int32Array(buffer);
  }

  begin(address: number): void {
    this.#start = address;
    this.count = 0;
  }

  /** Address behind the last record. */
  get end(): number {
    return this.#start + this.count * UOP.SIZE;
  }

  write(
    op: number,
    a: number,
    b: number,
    base: number,
    index: number,
    scale: number,
    disp: number,
    low: number,
    high: number,
  ): void {
    const at = this.#start + this.count * UOP.SIZE;
    const half = at >>> 1;
    const word = at >>> 2;
    this.#u16[half] = op;
    this.#u16[half + 1] = a;
    this.#u16[half + 2] = b;
    this.#u16[half + 3] = base;
    this.#u16[half + 4] = index;
    this.#u8[at + UOP.SCALE] = scale;
    this.#i32[word + 3] = disp;
    this.#i32[word + 4] = low;
    this.#i32[word + 5] = high;
    this.#i32[word + 7] = 0;
    this.count += 1;
  }

  /**
   * Copies the words before PC of a record that is complete. Without what depends on where it is: DONE, and the RIP that
   * an address is relative to.
   */
  extract(record: number, to: Int32Array, at: number): void {
    const word = (this.#start + record * UOP.SIZE) >>> 2;
    for (let n = 0; n < UOP.PC / 4; n++) to[at + n] = this.#i32[word + n]!;
    to[at + 2]! &= 0xff_ffff;
    if (this.#u16[2 * word + UOP.BASE / 2] === STATE.PAGE)
      to[at + 3]! -= this.#u16[2 * word + UOP.NEXT_PC / 2]!;
  }

  /** Appends what `extract` has taken out, for another place. */
  append(from: Int32Array, at: number, done: number, pc: number, nextPc: number): void {
    const word = (this.#start + this.count * UOP.SIZE) >>> 2;
    const second = from[at + 1]!;
    this.#i32[word] = from[at]!;
    this.#i32[word + 1] = second;
    this.#i32[word + 2] = from[at + 2]! | (done << 24);
    this.#i32[word + 3] = second >>> 16 === STATE.PAGE ? from[at + 3]! + nextPc : from[at + 3]!;
    this.#i32[word + 4] = from[at + 4]!;
    this.#i32[word + 5] = from[at + 5]!;
    this.#i32[word + UOP.PC / 4] = pc | (nextPc << 16);
    this.#i32[word + UOP.LINK / 4] = 0;
    this.count += 1;
  }

  /** Sets the sign-extended immediate of the last record. */
  setImmediate(low: number): void {
    const word = (this.end - UOP.SIZE + UOP.IMM) >>> 2;
    this.#i32[word] = low;
    this.#i32[word + 1] = low >> 31;
  }

  /** Drops the records from `first` on. */
  truncate(first: number): void {
    this.count = first;
  }

  /** Sets DONE, PC and NEXT_PC of an instruction's records. */
  finishInstruction(first: number, done: number, pc: number, nextPc: number): void {
    for (let i = first; i < this.count; i++) {
      const at = this.#start + i * UOP.SIZE;
      this.#u8[at + UOP.DONE] = done;
      this.#u16[(at + UOP.PC) >>> 1] = pc;
      this.#u16[(at + UOP.NEXT_PC) >>> 1] = nextPc;
    }
  }

  /** Adds to the displacement of records from `first` on whose base is `base`. */
  addDisplacement(first: number, base: number, amount: number): void {
    for (let i = first; i < this.count; i++) {
      const at = this.#start + i * UOP.SIZE;
      if (this.#u16[(at + UOP.BASE) >>> 1] === base) this.#i32[(at + UOP.DISP) >>> 2] += amount;
    }
  }
}
