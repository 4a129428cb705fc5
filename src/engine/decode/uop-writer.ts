/** Writes micro-op records into the arena in linear memory. */
import { UOP } from '../layout.ts';

export class UopWriter {
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #i32: Int32Array;
  /** Address of the first record. */
  #start = 0;
  /** Records since `begin`. */
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
