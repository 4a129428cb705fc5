/** Random floating-point operands that favour the awkward: special values, boundaries, long runs of bits. */

/** A small, fast generator (xorshift32 by Marsaglia) so that a seed names a run. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0 || 1;
  }

  /** 0 … 2^32 - 1 */
  u32(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }

  /** 0 … n - 1 */
  below(n: number): number {
    return this.u32() % n;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)] as T;
  }
}

/** Random bits of the given width: dense, sparse, or runs of ones and zeros. */
function pattern(random: Random, width: number): bigint {
  const mask = (1n << BigInt(width)) - 1n;
  const bits = random.u64();
  switch (random.below(5)) {
    case 0:
      return 0n;
    case 1:
      return (1n << BigInt(random.below(width))) & mask;
    case 2: {
      const run = mask >> BigInt(random.below(width));
      return random.below(2) ? run : ~run & mask;
    }
    case 3:
      return ((mask << BigInt(random.below(width))) & mask) ^ BigInt(random.below(4));
    default:
      return bits & mask;
  }
}

/** Description of an IEEE binary interchange format of up to 64 bits. */
interface Format {
  readonly fraction: number;
  readonly exponent: number;
}

function ieee(random: Random, { fraction, exponent }: Format, near: number): bigint {
  const max = (1 << exponent) - 1;
  const bias = max >> 1;
  const sign = BigInt(random.below(2)) << BigInt(fraction + exponent);
  const field = exponentField(random, max, bias, near);
  return sign | (BigInt(field) << BigInt(fraction)) | pattern(random, fraction);
}

/** A biased exponent: special, near the ends, near 1.0, near `near`, or anything. */
function exponentField(random: Random, max: number, bias: number, near: number): number {
  const clamp = (value: number): number => Math.min(Math.max(value, 0), max);
  switch (random.below(8)) {
    case 0:
      return 0;
    case 1:
      return random.below(3) ? clamp(max - random.below(4)) : max;
    case 2:
      return clamp(1 + random.below(70));
    case 3:
      return clamp(bias - 4 + random.below(8));
    case 4:
      return clamp(bias - 2 + random.below(70));
    case 5:
      return random.below(max + 1);
    default:
      return clamp(bias + near - 3 + random.below(7));
  }
}

/** A binary64 bit pattern; `near` is an unbiased exponent to stay close to now and then. */
export function randomF64(random: Random, near = 0): bigint {
  return ieee(random, { fraction: 52, exponent: 11 }, near);
}

/** A binary32 bit pattern. */
export function randomF32(random: Random, near = 0): number {
  return Number(ieee(random, { fraction: 23, exponent: 8 }, near));
}

/** Writes an 80-bit number to `view` at `at`, one in ten of them an encoding that the x87 does not produce. */
export function putRandomF80(random: Random, view: DataView, at: number, near = 0): void {
  const field = exponentField(random, 0x7fff, 0x3fff, near);
  let significand = pattern(random, 63);
  const odd = random.below(12) === 0;
  if ((field !== 0) !== odd) significand |= 1n << 63n;
  view.setBigUint64(at, significand, true);
  view.setUint16(at + 8, field | (random.below(2) << 15), true);
}

/** The 80-bit number at `at` as text for messages. */
export function textF80(view: DataView, at: number): string {
  const exponent = view
    .getUint16(at + 8, true)
    .toString(16)
    .padStart(4, '0');
  return `${exponent}:${view.getBigUint64(at, true).toString(16).padStart(16, '0')}`;
}
