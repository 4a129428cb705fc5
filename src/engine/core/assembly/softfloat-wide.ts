// 128-bit fixed-point arithmetic and series for the x87's transcendental functions.
//
// A wide float is hi:lo with bit 127 set, worth hi:lo / 2^127 * 2^exp. A fraction is hi:lo / 2^128, and what
// the series yield is hi:lo / 2^127, called a factor here. Errors stay below 2^-115 relative, so results are
// correctly rounded in all but the rarest cases. Every function leaves its result in wHi:wLo.

import {
  FP_TOP,
  fpMul64,
  fpNormalize,
  fpSetR,
  rExp,
  rExtra,
  rSig,
  wideHi as productHi,
  wideLo as productLo,
} from './softfloat';

/** The 128-bit result of the functions here. */
export let wHi: u64 = 0;
export let wLo: u64 = 0;
/** Exponent that goes with it, where the function says so. */
export let wExp: i32 = 0;

export function wideSet(hi: u64, lo: u64): void {
  wHi = hi;
  wLo = lo;
}

/** w = the upper 128 bits of a * b. Exact when the low halves are 0. */
export function wideMul(ah: u64, al: u64, bh: u64, bl: u64): void {
  fpMul64(ah, bl);
  const cross1 = productHi;
  fpMul64(al, bh);
  const cross2 = productHi;
  fpMul64(ah, bh);
  const lo1 = productLo + cross1;
  const lo2 = lo1 + cross2;
  wHi = productHi + u64(lo1 < cross1) + u64(lo2 < cross2);
  wLo = lo2;
}

/** w = hi:lo / n. */
function divideSmall(hi: u64, lo: u64, n: u64): void {
  const qh = hi / n;
  let rem = hi - qh * n;
  const middle = (rem << 32) | (lo >> 32);
  const qm = middle / n;
  rem = middle - qm * n;
  wHi = qh;
  wLo = (qm << 32) | (((rem << 32) | (lo & 0xffffffff)) / n);
}

/** w = hi:lo >> count without rounding. */
export function wideShift(hi: u64, lo: u64, count: u32): void {
  if (count == 0) {
    wHi = hi;
    wLo = lo;
  } else if (count < 64) {
    wHi = hi >> count;
    wLo = (lo >> count) | (hi << (64 - count));
  } else {
    wHi = 0;
    wLo = count < 128 ? hi >> (count - 64) : 0;
  }
}

/** w, wExp = hi:lo shifted up until bit 127 is set, for hi:lo not 0 with bit 127 worth 2^exp. */
export function wideNormalize(hi: u64, lo: u64, exp: i32): void {
  if (hi == 0) {
    hi = lo;
    lo = 0;
    exp -= 64;
  }
  const n = i32(clz(hi));
  wHi = n ? (hi << n) | (lo >> (64 - n)) : hi;
  wLo = lo << n;
  wExp = exp - n;
}

/** w, wExp = n / d for wide floats with the exponents `nExp`, `dExp`. */
export function wideDivide(nh: u64, nl: u64, nExp: i32, dh: u64, dl: u64, dExp: i32): void {
  let hi: u64 = 0;
  let lo: u64 = 0;
  let carry = false;
  for (let i = 0; i < 128; i++) {
    hi = (hi << 1) | (lo >> 63);
    lo <<= 1;
    if (carry || nh > dh || (nh == dh && nl >= dl)) {
      nh = nh - dh - u64(nl < dl);
      nl -= dl;
      lo |= 1;
    }
    carry = i64(nh) < 0;
    nh = (nh << 1) | (nl >> 63);
    nl <<= 1;
  }
  wideNormalize(hi, lo, nExp - dExp);
}

/** w = square of a wide float below 1 as a fraction. */
export function wideSquare(hi: u64, lo: u64, exp: i32): void {
  wideMul(hi, lo, hi, lo);
  wideShift(wHi, wLo, -2 * exp - 2);
}

/** w = 1 - w / n as a factor. */
function oneMinus(n: u64): void {
  divideSmall(wHi, wLo, n);
  const lo = 0 - wLo;
  wHi = FP_TOP - wHi - u64(wLo != 0);
  wLo = lo;
}

/** Moves a factor that came out as exactly 1 by one unit, so that directed rounding sees which side it is on. */
function avoidOne(below: bool): void {
  if (wHi != FP_TOP || wLo != 0) return;
  if (below) {
    wHi = FP_TOP - 1;
    wLo = ~u64(0);
  } else wLo = 1;
}

/** w = sin(x) / x as a factor, z = x^2 as a fraction. */
export function seriesSine(zh: u64, zl: u64): void {
  wHi = FP_TOP;
  wLo = 0;
  for (let n: u64 = 32; n > 0; n -= 2) {
    wideMul(zh, zl, wHi, wLo);
    oneMinus(n * (n + 1));
  }
  avoidOne(true);
}

/** w = cos(x) as a factor, z = x^2 as a fraction. */
export function seriesCosine(zh: u64, zl: u64): void {
  wHi = FP_TOP;
  wLo = 0;
  for (let n: u64 = 32; n > 0; n -= 2) {
    wideMul(zh, zl, wHi, wLo);
    oneMinus(n * (n - 1));
  }
  avoidOne(true);
}

/** w = (e^y - 1) / y as a factor, |y| < 1 as a fraction. */
export function seriesExp(yh: u64, yl: u64, negative: bool): void {
  wHi = FP_TOP;
  wLo = 0;
  for (let n: u64 = 34; n > 1; n--) {
    wideMul(yh, yl, wHi, wLo);
    if (negative) oneMinus(n);
    else {
      divideSmall(wHi, wLo, n);
      wHi += FP_TOP;
    }
  }
  avoidOne(negative);
}

/** w = atan(x) / x as a factor (or atanh(x) / x when `hyperbolic`), z = x^2 < 1/32 as a fraction. */
export function seriesAtan(zh: u64, zl: u64, hyperbolic: bool): void {
  wHi = 0;
  wLo = 0;
  for (let n: i64 = 51; n > 0; n -= 2) {
    wideMul(zh, zl, wHi, wLo);
    const hi = wHi;
    const lo = wLo;
    divideSmall(FP_TOP, 0, u64(n));
    if (hyperbolic) {
      wLo += lo;
      wHi += hi + u64(wLo < lo);
    } else {
      const borrow = u64(wLo < lo);
      wLo -= lo;
      wHi -= hi + borrow;
    }
  }
  avoidOne(!hyperbolic);
}

/** R = hi:lo * factor w, inexact; hi:lo is a wide float. */
export function fpSetProduct(sign: u32, hi: u64, lo: u64, exp: i32): void {
  wideMul(hi, lo, wHi, wLo);
  fpNormalize(sign, exp + 1, wHi, wLo);
  fpSetR(sign, rExp, rSig, rExtra | 1);
}
