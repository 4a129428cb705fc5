/** Reproducible random numbers, and values that instructions find interesting. */

export class Random {
  #state: number;

  /** @param seed a number and a name: every instruction form has a sequence of its own */
  constructor(seed: number, name: string) {
    let hash = (seed ^ 0x811c_9dc5) >>> 0;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x0100_0193) >>> 0;
    this.#state = hash === 0 ? 1 : hash;
    for (let i = 0; i < 8; i++) this.u32();
  }

  /** Xorshift (Marsaglia 2003). */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return (Math.imul(this.#state, 0x9e37_79b1) ^ (this.#state >>> 15)) >>> 0;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** 0 … n-1 */
  below(n: number): number {
    return this.u32() % n;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)];
  }

  /** True in `percent` of all cases. */
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  /** A 64-bit integer: random, small, or next to a border of some operand width. */
  integer(): bigint {
    const kind = this.below(8);
    if (kind < 4) return this.u64();
    if (kind === 4) return BigInt.asUintN(64, BigInt(this.below(16)) - 8n);
    const border = 1n << BigInt(this.pick([7, 8, 15, 16, 31, 32, 63, 64]));
    const near = BigInt.asUintN(64, border + BigInt(this.below(3)) - 1n);
    return kind === 5 ? near : BigInt.asUintN(64, near ^ (this.u64() & ~0xffff_ffffn));
  }

  /** Bits of a single-precision number. */
  float32(): number {
    if (this.chance(40)) return (this.u32() & 0x80ff_ffff) | ((100 + this.below(60)) << 23);
    if (this.chance(30)) return float32Bits(this.below(2000) / this.pick([1, 2, 8]) - 100);
    return this.chance(50) ? this.pick(FLOAT32) : this.u32();
  }

  /** Bits of a double-precision number. */
  float64(): bigint {
    if (this.chance(40)) return (this.u64() & 0x800f_ffff_ffff_ffffn) | (BigInt(990 + this.below(70)) << 52n);
    if (this.chance(30)) return float64Bits(this.below(2000) / this.pick([1, 2, 8]) - 100);
    return this.chance(50) ? this.pick(FLOAT64) : this.u64();
  }

  /** Significand, and sign with exponent, of an 80-bit number, encodings that do not exist included. */
  float80(): { readonly significand: bigint; readonly exponent: number } {
    const sign = this.below(2) << 15;
    if (this.chance(50)) {
      return { significand: this.u64() | INTEGER_BIT, exponent: sign | (16383 - 40 + this.below(90)) };
    }
    if (this.chance(40)) {
      const shift = BigInt(this.below(64));
      return { significand: INTEGER_BIT >> (shift % 3n), exponent: sign | (16383 + Number(shift)) };
    }
    const [significand, exponent] = this.pick(FLOAT80);
    return { significand, exponent: sign | exponent };
  }
}

const scratch = new DataView(new ArrayBuffer(8));
function float32Bits(value: number): number {
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}
function float64Bits(value: number): bigint {
  scratch.setFloat64(0, value);
  return scratch.getBigUint64(0);
}

const INTEGER_BIT = 1n << 63n;

/** Zeros, infinities, NaNs of both kinds, denormals, and borders of the integer types. */
const FLOAT32 = [
  0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0xffc0_1234, 0x7f80_0001, 0xffa0_0000, 1,
  0x8000_0001, 0x007f_ffff, 0x0080_0000, 0x7f7f_ffff, 0xff7f_ffff, 0x4f00_0000, 0xcf00_0000, 0x4eff_ffff,
  0x5f00_0000, 0xdf00_0000, 0x3f80_0000, 0xbf80_0000, 0x3f00_0000, 0x3f7f_ffff, 0x3380_0000,
];
const FLOAT64 = [
  0n,
  0x8000_0000_0000_0000n,
  0x7ff0_0000_0000_0000n,
  0xfff0_0000_0000_0000n,
  0x7ff8_0000_0000_0000n,
  0xfff8_0000_0000_1234n,
  0x7ff0_0000_0000_0001n,
  0xfff4_0000_0000_0000n,
  1n,
  0x8000_0000_0000_0001n,
  0x000f_ffff_ffff_ffffn,
  0x0010_0000_0000_0000n,
  0x7fef_ffff_ffff_ffffn,
  0xffef_ffff_ffff_ffffn,
  0x41e0_0000_0000_0000n,
  0xc1e0_0000_0020_0000n,
  0x41df_ffff_ffe0_0000n,
  0x43e0_0000_0000_0000n,
  0xc3e0_0000_0000_0000n,
  0x3ff0_0000_0000_0000n,
  0xbff0_0000_0000_0000n,
  0x3fe0_0000_0000_0000n,
  0x36a0_0000_0000_0000n,
  0x47ef_ffff_f000_0000n,
  0x3810_0000_0000_0000n,
];
/** As above, and pseudo-denormal, unnormal, pseudo-NaN and pseudo-infinity. */
const FLOAT80: readonly (readonly [bigint, number])[] = [
  [0n, 0],
  [INTEGER_BIT, 0x7fff],
  [0xc000_0000_0000_0000n, 0x7fff],
  [0xc000_0000_0000_1234n, 0x7fff],
  [0x8000_0000_0000_0001n, 0x7fff],
  [0xa000_0000_0000_0000n, 0x7fff],
  [1n, 0],
  [0x7fff_ffff_ffff_ffffn, 0],
  [INTEGER_BIT, 0],
  [INTEGER_BIT, 1],
  [0xffff_ffff_ffff_ffffn, 0x7ffe],
  [0x4000_0000_0000_0000n, 0x3fff],
  [0n, 0x3fff],
  [0x4000_0000_0000_0000n, 0x7fff],
  [0n, 0x7fff],
  [INTEGER_BIT, 0x3fff],
  [INTEGER_BIT, 0x401e],
  [INTEGER_BIT, 0x403e],
  [INTEGER_BIT, 0x400e],
  [INTEGER_BIT, 0x3fff - 70],
  [INTEGER_BIT, 0x3fff + 70],
];
