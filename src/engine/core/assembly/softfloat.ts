// Binary floating point in software, exact to the bit, for the x87 and the SSE slow paths.
//
// All formats share one unpacked form: value = (-1)^sign * (significand / 2^63) * 2^exponent with bit 63 of
// the significand set. Operands are unpacked into A and B, an operation leaves its unrounded result in R
// (significand plus 64 further bits, the last one sticky), and a `fpRoundXX` rounds R to the format.
// NaNs keep their payload in the layout of the 80-bit format. Reference: IEEE 754-2008 and
// Intel SDM volume 1, chapters 4 and 8 (tininess is detected after rounding).

/** Exception flags, in the bit positions that MXCSR and the x87 status word share. */
export const FP_IE: i32 = 0x01;
export const FP_DE: i32 = 0x02;
export const FP_ZE: i32 = 0x04;
export const FP_OE: i32 = 0x08;
export const FP_UE: i32 = 0x10;
export const FP_PE: i32 = 0x20;

/** Classes of an unpacked number; all from FP_QNAN up need the NaN rules. */
export const FP_ZERO: i32 = 0;
export const FP_FINITE: i32 = 1;
export const FP_INF: i32 = 2;
export const FP_QNAN: i32 = 3;
export const FP_SNAN: i32 = 4;
/** An 80-bit encoding that the x87 does not support (unnormal, pseudo-infinity, pseudo-NaN). */
export const FP_UNSUPPORTED: i32 = 5;

/** Rounding modes as RC encodes them. */
export const FP_NEAREST: i32 = 0;
export const FP_DOWN: i32 = 1;
export const FP_UP: i32 = 2;
export const FP_CHOP: i32 = 3;

export const FP_TOP: u64 = 0x8000000000000000;
const QUIET: u64 = 0x4000000000000000;
export const FP_INDEFINITE: u64 = 0xc000000000000000;

/** Environment of the operation under way. */
export let fpRc: i32 = 0;
/** Exceptions that are masked. */
export let fpMasked: i32 = 0x3f;
let daz: bool = false;
let ftz: bool = false;
let x87Nans: bool = false;

/** Exceptions raised since `fpBegin`. */
export let fpFlags: i32 = 0;
/** Not 0: a denormal operand has been unpacked since `fpBegin` or `fpNext`. */
export let fpDenormal: i32 = 0;
/** 1 when the last rounding increased the magnitude (C1 of the x87). */
export let fpUp: i32 = 0;

export let aClass: i32 = 0;
export let aSign: u32 = 0;
export let aExp: i32 = 0;
export let aSig: u64 = 0;
export let bClass: i32 = 0;
export let bSign: u32 = 0;
export let bExp: i32 = 0;
export let bSig: u64 = 0;
export let rClass: i32 = 0;
export let rSign: u32 = 0;
export let rExp: i32 = 0;
export let rSig: u64 = 0;
export let rExtra: u64 = 0;

/** High half of the last 128-bit product, shift or remainder helper below. */
export let wideHi: u64 = 0;
export let wideLo: u64 = 0;

/** Starts an operation: rounding mode, masked exceptions, DAZ, FTZ and which NaN rules apply. */
export function fpBegin(rc: i32, masked: i32, denormalsAreZero: bool, flushToZero: bool, x87: bool): void {
  fpRc = rc;
  fpMasked = masked;
  daz = denormalsAreZero;
  ftz = flushToZero;
  x87Nans = x87;
  fpFlags = 0;
  fpDenormal = 0;
  fpUp = 0;
}

/** Starts the next element of a packed operation: flags go on accumulating. */
export function fpNext(): void {
  fpDenormal = 0;
}

export function fpRaise(flags: i32): void {
  fpFlags |= flags;
}

export function fpSetRc(rc: i32): void {
  fpRc = rc;
}

export function fpSetUp(up: i32): void {
  fpUp = up;
}

/** Raises DE when an operand was denormal. */
export function fpCheckDenormal(): void {
  if (fpDenormal) fpFlags |= FP_DE;
}

// ---- 128-bit helpers

/** wideHi:wideLo = a * b. */
export function fpMul64(a: u64, b: u64): void {
  const al = a & 0xffffffff;
  const ah = a >> 32;
  const bl = b & 0xffffffff;
  const bh = b >> 32;
  const low = al * bl;
  const mid1 = ah * bl + (low >> 32);
  const mid2 = al * bh + (mid1 & 0xffffffff);
  wideHi = ah * bh + (mid1 >> 32) + (mid2 >> 32);
  wideLo = (mid2 << 32) | (low & 0xffffffff);
}

/** wideHi:wideLo = hi:lo >> count, any count, lost bits jammed into bit 0. */
export function fpShiftJam(hi: u64, lo: u64, count: u32): void {
  if (count == 0) {
    wideHi = hi;
    wideLo = lo;
  } else if (count < 64) {
    wideHi = hi >> count;
    wideLo = (hi << (64 - count)) | (lo >> count) | u64(lo << (64 - count) != 0);
  } else if (count == 64) {
    wideHi = 0;
    wideLo = hi | u64(lo != 0);
  } else if (count < 128) {
    wideHi = 0;
    wideLo = (hi >> (count - 64)) | u64(((hi << (128 - count)) | lo) != 0);
  } else {
    wideHi = 0;
    wideLo = u64((hi | lo) != 0);
  }
}

/** hi:lo / d for d with bit 63 set and hi < d; the remainder is left in wideLo. */
export function fpDiv128(hi: u64, lo: u64, d: u64): u64 {
  const dh = d >> 32;
  const dl = d & 0xffffffff;
  const q1 = divStep(hi, lo >> 32, d, dh, dl);
  const q0 = divStep(wideLo, lo & 0xffffffff, d, dh, dl);
  return (q1 << 32) | q0;
}

/** One 32-bit quotient digit of (rem << 32 | next) / d; the new remainder is left in wideLo. */
function divStep(rem: u64, next: u64, d: u64, dh: u64, dl: u64): u64 {
  let q = rem / dh;
  let r = rem - q * dh;
  while (q >> 32 || q * dl > ((r << 32) | next)) {
    q--;
    r += dh;
    if (r >> 32) break;
  }
  wideLo = ((rem << 32) | next) - q * d;
  return q;
}

// ---- unpacking

/** Unpacks an 80-bit number into A. */
export function fpA80(sig: u64, signExp: u32): void {
  const e: i32 = signExp & 0x7fff;
  aSign = (signExp >> 15) & 1;
  if (u32(e - 1) < 0x7ffe && i64(sig) < 0) {
    aClass = FP_FINITE;
    aExp = e - 16383;
    aSig = sig;
    return;
  }
  special80(e, sig);
  aClass = rClass;
  aExp = rExp;
  aSig = rSig;
}

/** Unpacks an 80-bit number into B. */
export function fpB80(sig: u64, signExp: u32): void {
  const e: i32 = signExp & 0x7fff;
  bSign = (signExp >> 15) & 1;
  if (u32(e - 1) < 0x7ffe && i64(sig) < 0) {
    bClass = FP_FINITE;
    bExp = e - 16383;
    bSig = sig;
    return;
  }
  special80(e, sig);
  bClass = rClass;
  bExp = rExp;
  bSig = rSig;
}

/** Class, exponent and significand (in R) of an 80-bit number that is not normal. */
function special80(e: i32, sig: u64): void {
  rSig = sig;
  if (e == 0) {
    if (sig == 0) rClass = FP_ZERO;
    else {
      const n = i32(clz(sig));
      rClass = FP_FINITE;
      rSig = sig << n;
      rExp = -16382 - n;
      fpDenormal = 1;
    }
  } else if (e != 0x7fff || i64(sig) >= 0) rClass = FP_UNSUPPORTED;
  else if (sig == FP_TOP) rClass = FP_INF;
  else rClass = sig & QUIET ? FP_QNAN : FP_SNAN;
}

/** Unpacks the fields of a binary32 or binary64 number into R; `frac` is left-aligned at bit 62. */
function unpackFields(e: i32, frac: u64, bias: i32): void {
  rSig = frac | FP_TOP;
  if (u32(e - 1) < u32(2 * bias)) {
    rClass = FP_FINITE;
    rExp = e - bias;
  } else if (e != 0) {
    rClass = frac == 0 ? FP_INF : frac & QUIET ? FP_QNAN : FP_SNAN;
  } else if (frac == 0 || daz) {
    rClass = FP_ZERO;
  } else {
    const n = i32(clz(frac));
    rClass = FP_FINITE;
    rSig = frac << n;
    rExp = 1 - bias - n;
    fpDenormal = 1;
  }
}

export function fpA64(bits: u64): void {
  unpackFields(i32(bits >> 52) & 0x7ff, (bits << 11) & ~FP_TOP, 1023);
  aSign = u32(bits >> 63);
  aClass = rClass;
  aExp = rExp;
  aSig = rSig;
}

export function fpB64(bits: u64): void {
  unpackFields(i32(bits >> 52) & 0x7ff, (bits << 11) & ~FP_TOP, 1023);
  bSign = u32(bits >> 63);
  bClass = rClass;
  bExp = rExp;
  bSig = rSig;
}

export function fpA32(bits: u32): void {
  unpackFields(i32(bits >> 23) & 0xff, (u64(bits) << 40) & ~FP_TOP, 127);
  aSign = bits >> 31;
  aClass = rClass;
  aExp = rExp;
  aSig = rSig;
}

export function fpB32(bits: u32): void {
  unpackFields(i32(bits >> 23) & 0xff, (u64(bits) << 40) & ~FP_TOP, 127);
  bSign = bits >> 31;
  bClass = rClass;
  bExp = rExp;
  bSig = rSig;
}

/** Unpacks an integer into B. */
export function fpBInt(value: i64): void {
  fpFromInt(value);
  fpMoveRToB();
}

export function fpSwap(): void {
  const c = aClass;
  const s = aSign;
  const e = aExp;
  const f = aSig;
  aClass = bClass;
  aSign = bSign;
  aExp = bExp;
  aSig = bSig;
  bClass = c;
  bSign = s;
  bExp = e;
  bSig = f;
}

/** A = R. */
export function fpMoveRToA(): void {
  aClass = rClass;
  aSign = rSign;
  aExp = rExp;
  aSig = rSig;
}

/** B = R. */
export function fpMoveRToB(): void {
  bClass = rClass;
  bSign = rSign;
  bExp = rExp;
  bSig = rSig;
}

// ---- results

/** R = a finite number that is still to be rounded. */
export function fpSetR(sign: u32, exp: i32, sig: u64, extra: u64): void {
  rClass = FP_FINITE;
  rSign = sign;
  rExp = exp;
  rSig = sig;
  rExtra = extra;
}

export function fpSetZero(sign: u32): void {
  rClass = FP_ZERO;
  rSign = sign;
}

export function fpSetInf(sign: u32): void {
  rClass = FP_INF;
  rSign = sign;
}

/** R = A, exactly. */
export function fpCopyA(): void {
  rClass = aClass;
  rSign = aSign;
  rExp = aExp;
  rSig = aSig;
  rExtra = 0;
}

/** R = B, exactly. */
export function fpCopyB(): void {
  rClass = bClass;
  rSign = bSign;
  rExp = bExp;
  rSig = bSig;
  rExtra = 0;
}

/** R = the default NaN ("real indefinite"), raising IE. */
export function fpInvalid(): void {
  fpFlags |= FP_IE;
  rClass = FP_QNAN;
  rSign = 1;
  rSig = FP_INDEFINITE;
}

function setNan(sign: u32, sig: u64): void {
  rClass = FP_QNAN;
  rSign = sign;
  rSig = sig | QUIET;
}

/** Handles a NaN or unsupported operand A of a unary operation; false if there is none. */
export function fpNanA(): bool {
  if (aClass < FP_QNAN) return false;
  if (aClass == FP_UNSUPPORTED) fpInvalid();
  else {
    if (aClass == FP_SNAN) fpFlags |= FP_IE;
    setNan(aSign, aSig);
  }
  return true;
}

/** Handles NaN or unsupported operands A, B of a binary operation; false if there are none. */
export function fpNanAB(): bool {
  if (aClass < FP_QNAN && bClass < FP_QNAN) return false;
  if (aClass == FP_UNSUPPORTED || bClass == FP_UNSUPPORTED) {
    fpInvalid();
    return true;
  }
  if (aClass == FP_SNAN || bClass == FP_SNAN) fpFlags |= FP_IE;
  let second = aClass < FP_QNAN;
  if (x87Nans && !second && bClass >= FP_QNAN) {
    // A quiet NaN wins over a signalling one, then the larger significand, then the positive sign.
    if (aClass != bClass) second = aClass == FP_SNAN;
    else if (aSig != bSig) second = bSig > aSig;
    else second = bSign < aSign;
  }
  if (second) setNan(bSign, bSig);
  else setNan(aSign, aSig);
  return true;
}

// ---- rounding

function increments(sign: u32, odd: bool, rest: u64): bool {
  if (fpRc == FP_NEAREST) return rest > FP_TOP || (rest == FP_TOP && odd);
  return fpRc == FP_DOWN ? sign != 0 : fpRc == FP_UP ? sign == 0 : false;
}

/** Rounds R to `precision` bits; true if it was inexact. The exponent is not looked at. */
function roundSignificand(precision: i32): bool {
  const drop = 64 - precision;
  let rest = rExtra;
  let sig = rSig;
  if (drop) {
    rest = (sig << precision) | u64(rest != 0);
    sig = (sig >> drop) << drop;
  }
  fpUp = 0;
  rSig = sig;
  rExtra = 0;
  if (rest == 0) return false;
  const ulp: u64 = u64(1) << drop;
  if (increments(rSign, (sig & ulp) != 0, rest)) {
    fpUp = 1;
    sig += ulp;
    if (sig == 0) {
      sig = FP_TOP;
      rExp++;
    }
    rSig = sig;
  }
  return true;
}

/**
 * Rounds R to a format of `precision` bits and exponents from `min` to `max`. A denormal result keeps
 * exponent `min` with bit 63 clear. Unmasked overflow and underflow wrap the exponent by `wrap` as the x87
 * does for results in registers; where `wrap` is 0 there is no result then.
 */
export function fpRound(precision: i32, min: i32, max: i32, wrap: i32): void {
  if (rClass != FP_FINITE) return;
  if (rExp < min) {
    roundTiny(precision, min, wrap);
    return;
  }
  const inexact = roundSignificand(precision);
  if (rExp > max) overflow(precision, max, wrap, inexact);
  else if (inexact) fpFlags |= FP_PE;
}

function overflow(precision: i32, max: i32, wrap: i32, inexact: bool): void {
  fpFlags |= FP_OE;
  let toInf = fpRc == FP_NEAREST || fpRc == (rSign ? FP_DOWN : FP_UP);
  if (!(fpMasked & FP_OE)) {
    if (wrap == 0) {
      noResult(inexact);
      return;
    }
    rExp -= wrap;
    if (rExp <= max) {
      if (inexact) fpFlags |= FP_PE;
      return;
    }
    // Beyond even the wrapped range, which only FSCALE reaches.
    toInf = true;
  }
  fpFlags |= FP_PE;
  if (toInf) {
    rClass = FP_INF;
    fpUp = 1;
  } else {
    rExp = max;
    rSig = ~u64(0) << (64 - precision);
    fpUp = 0;
  }
}

/** Unmasked overflow or underflow without a result; PE tells about the rounding to unbounded range. */
function noResult(inexact: bool): void {
  if (inexact) fpFlags |= FP_PE;
  fpUp = 0;
  rClass = FP_ZERO;
}

/** A tiny result becomes zero: with FTZ, and beyond the wrapped range. */
function flush(): void {
  fpFlags |= FP_UE | FP_PE;
  fpUp = 0;
  rClass = FP_ZERO;
}

function roundTiny(precision: i32, min: i32, wrap: i32): void {
  const exp = rExp;
  const sig = rSig;
  const extra = rExtra;
  const inexact = roundSignificand(precision);
  if (rExp >= min) {
    fpFlags |= FP_PE;
    return;
  }
  if (!(fpMasked & FP_UE)) {
    fpFlags |= FP_UE;
    if (wrap == 0) {
      noResult(inexact);
      return;
    }
    if (inexact) fpFlags |= FP_PE;
    rExp += wrap;
    if (rExp < min) flush();
    return;
  }
  if (ftz) {
    flush();
    return;
  }
  fpShiftJam(sig, extra, min - exp);
  rExp = min;
  rSig = wideHi;
  rExtra = wideLo;
  if (roundSignificand(precision)) fpFlags |= FP_UE | FP_PE;
  if (rSig == 0) rClass = FP_ZERO;
}

/** Rounds R to binary64 and packs it. */
export function fpPack64(): u64 {
  fpRound(53, -1022, 1023, 0);
  const sign = u64(rSign) << 63;
  if (rClass == FP_FINITE) {
    const e = i64(rSig) < 0 ? u64(rExp + 1023) << 52 : 0;
    return sign | e | ((rSig & ~FP_TOP) >> 11);
  }
  if (rClass == FP_ZERO) return sign;
  const inf = sign | 0x7ff0000000000000;
  return rClass == FP_INF ? inf : inf | ((rSig & ~FP_TOP) >> 11);
}

/** Rounds R to binary32 and packs it. */
export function fpPack32(): u32 {
  fpRound(24, -126, 127, 0);
  const sign = rSign << 31;
  if (rClass == FP_FINITE) {
    const e: u32 = i64(rSig) < 0 ? u32(rExp + 127) << 23 : 0;
    return sign | e | u32((rSig & ~FP_TOP) >> 40);
  }
  if (rClass == FP_ZERO) return sign;
  const inf = sign | 0x7f800000;
  return rClass == FP_INF ? inf : inf | u32((rSig & ~FP_TOP) >> 40);
}

/** Rounds R to `precision` bits with the range of the 80-bit format. */
export function fpRound80(precision: i32): void {
  fpRound(precision, -16382, 16383, 24576);
}

/** Packs R, which must be rounded, as an 80-bit number: significand at `ptr`, sign and exponent at `ptr` + 8. */
export function fpStore80(ptr: usize): void {
  const sign = rSign << 15;
  if (rClass == FP_FINITE) {
    store<u64>(ptr, rSig);
    store<u16>(ptr, u16(i64(rSig) < 0 ? sign | u32(rExp + 16383) : sign), 8);
  } else if (rClass == FP_ZERO) {
    store<u64>(ptr, 0);
    store<u16>(ptr, u16(sign), 8);
  } else {
    store<u64>(ptr, rClass == FP_INF ? FP_TOP : rSig);
    store<u16>(ptr, u16(sign | 0x7fff), 8);
  }
}

// ---- arithmetic: R = A op B

/** R = A + B, or A - B when `negate` is 1. */
export function fpAdd(negate: u32): void {
  const sign = bSign ^ negate;
  if ((aClass ^ FP_FINITE) | (bClass ^ FP_FINITE)) {
    addSpecial(sign);
    return;
  }
  fpCheckDenormal();
  if (aSign == sign) addMagnitudes();
  else subMagnitudes(sign);
}

function addSpecial(sign: u32): void {
  if (fpNanAB()) return;
  fpCheckDenormal();
  if (aClass == FP_INF) {
    if (bClass == FP_INF && aSign != sign) fpInvalid();
    else fpSetInf(aSign);
  } else if (bClass == FP_INF) fpSetInf(sign);
  else if (aClass == FP_FINITE) fpCopyA();
  else if (bClass == FP_FINITE) fpSetR(sign, bExp, bSig, 0);
  else fpSetZero(aSign == sign ? sign : u32(fpRc == FP_DOWN));
}

function addMagnitudes(): void {
  let hi = aSig;
  let other = bSig;
  let exp = aExp;
  let d = aExp - bExp;
  if (d < 0) {
    hi = bSig;
    other = aSig;
    exp = bExp;
    d = -d;
  }
  fpShiftJam(other, 0, d);
  let lo = wideLo;
  const sum = hi + wideHi;
  if (sum < hi) {
    lo = (sum << 63) | (lo >> 1) | (lo & 1);
    fpSetR(aSign, exp + 1, (sum >> 1) | FP_TOP, lo);
  } else fpSetR(aSign, exp, sum, lo);
}

function subMagnitudes(bs: u32): void {
  let hi = aSig;
  let other = bSig;
  let exp = aExp;
  let sign = aSign;
  let d = aExp - bExp;
  if (d < 0 || (d == 0 && bSig > aSig)) {
    hi = bSig;
    other = aSig;
    exp = bExp;
    sign = bs;
    d = -d;
  }
  fpShiftJam(other, 0, d);
  const lo = 0 - wideLo;
  hi = hi - wideHi - u64(wideLo != 0);
  fpNormalize(sign, exp, hi, lo);
}

/** R = hi:lo with the weight of bit 127 being 2^exp; an exact zero gets the sign that RC gives. */
export function fpNormalize(sign: u32, exp: i32, hi: u64, lo: u64): void {
  if (hi == 0) {
    if (lo == 0) {
      fpSetZero(u32(fpRc == FP_DOWN));
      return;
    }
    hi = lo;
    lo = 0;
    exp -= 64;
  }
  const n = i32(clz(hi));
  if (n) {
    hi = (hi << n) | (lo >> (64 - n));
    lo <<= n;
  }
  fpSetR(sign, exp - n, hi, lo);
}

/** R = A * B. */
export function fpMul(): void {
  const sign = aSign ^ bSign;
  if ((aClass ^ FP_FINITE) | (bClass ^ FP_FINITE)) {
    if (fpNanAB()) return;
    if (aClass == FP_INF || bClass == FP_INF) {
      if (aClass == FP_ZERO || bClass == FP_ZERO) {
        fpInvalid();
        return;
      }
      fpSetInf(sign);
    } else fpSetZero(sign);
    fpCheckDenormal();
    return;
  }
  fpCheckDenormal();
  fpMul64(aSig, bSig);
  if (i64(wideHi) < 0) fpSetR(sign, aExp + bExp + 1, wideHi, wideLo);
  else fpSetR(sign, aExp + bExp, (wideHi << 1) | (wideLo >> 63), wideLo << 1);
}

/** R = A / B. */
export function fpDiv(): void {
  const sign = aSign ^ bSign;
  if ((aClass ^ FP_FINITE) | (bClass ^ FP_FINITE)) {
    divSpecial(sign);
    return;
  }
  fpCheckDenormal();
  let exp = aExp - bExp;
  let hi = aSig;
  let lo: u64 = 0;
  if (hi >= bSig) {
    lo = hi << 63;
    hi >>= 1;
  } else exp--;
  const q = fpDiv128(hi, lo, bSig);
  fpSetR(sign, exp, q, restOf(wideLo, bSig));
}

/** The 64 bits below a quotient digit, exact in what rounding looks at: below, at or above one half. */
function restOf(remainder: u64, divisor: u64): u64 {
  if (remainder == 0) return 0;
  const other = divisor - remainder;
  return remainder > other ? FP_INDEFINITE : remainder == other ? FP_TOP : QUIET;
}

function divSpecial(sign: u32): void {
  if (fpNanAB()) return;
  if (aClass == bClass) {
    fpInvalid();
    return;
  }
  if (bClass == FP_ZERO && aClass == FP_FINITE) {
    // A zero divisor goes before a denormal dividend.
    fpFlags |= FP_ZE;
    fpSetInf(sign);
    return;
  }
  fpCheckDenormal();
  if (aClass == FP_INF) fpSetInf(sign);
  else fpSetZero(sign);
}

/** R = square root of A. */
export function fpSqrt(): void {
  if (fpNanA()) return;
  if (aClass == FP_ZERO || (aClass == FP_INF && !aSign)) {
    fpCopyA();
    return;
  }
  if (aSign) {
    fpInvalid();
    return;
  }
  fpCheckDenormal();
  let hi = aSig;
  let lo: u64 = 0;
  if (!(aExp & 1)) {
    lo = hi << 63;
    hi >>= 1;
  }
  const root = fpRoot(hi, lo);
  const rest = wideHi ? FP_INDEFINITE : wideLo == 0 ? 0 : wideLo > root ? FP_INDEFINITE : QUIET;
  fpSetR(0, aExp >> 1, root, rest);
}

/** Integer square root of hi:lo (at least 2^126); the remainder is left in wideHi:wideLo. */
function fpRoot(hi: u64, lo: u64): u64 {
  const guess = Math.sqrt(f64(hi)) * 4294967296.0;
  let root: u64 = guess >= 18446744073709551615.0 ? u64.MAX_VALUE : u64(guess);
  // One Newton step in doubles brings the error of about 2^11 below 1.
  fpMul64(root, root);
  let dlo = lo - wideLo;
  let dhi = hi - wideHi - u64(lo < wideLo);
  const delta = (f64(i64(dhi)) * 18446744073709551616.0 + f64(dlo)) / (2.0 * f64(root));
  const next = root + u64(i64(Math.floor(delta)));
  root = delta > 0.0 && next < root ? u64.MAX_VALUE : next;
  fpMul64(root, root);
  dlo = lo - wideLo;
  dhi = hi - wideHi - u64(lo < wideLo);
  while (i64(dhi) < 0) {
    root--;
    const add = (root << 1) | 1;
    dlo += add;
    dhi += (root >> 63) + u64(dlo < add);
  }
  while (dhi > root >> 63 || (dhi == root >> 63 && dlo > root << 1)) {
    const sub = (root << 1) | 1;
    dhi = dhi - (root >> 63) - u64(dlo < sub);
    dlo -= sub;
    root++;
  }
  wideHi = dhi;
  wideLo = dlo;
  return root;
}

/**
 * Compares A and B: -1 less, 0 equal, 1 greater, 2 unordered. Raises IE for signalling NaNs, and for quiet
 * ones too when `signalling`.
 */
export function fpCompare(signalling: bool): i32 {
  if (aClass >= FP_QNAN || bClass >= FP_QNAN) {
    if (signalling || aClass > FP_QNAN || bClass > FP_QNAN) fpFlags |= FP_IE;
    return 2;
  }
  fpCheckDenormal();
  return fpOrder();
}

/** Orders A and B, neither of them a NaN. */
export function fpOrder(): i32 {
  if (aClass == FP_ZERO && bClass == FP_ZERO) return 0;
  if (aClass == FP_ZERO) return bSign ? 1 : -1;
  if (bClass == FP_ZERO || aSign != bSign) return aSign ? -1 : 1;
  const more = aSign ? -1 : 1;
  if (aClass != bClass) return aClass > bClass ? more : -more;
  if (aClass == FP_INF) return 0;
  if (aExp != bExp) return aExp > bExp ? more : -more;
  return aSig == bSig ? 0 : aSig > bSig ? more : -more;
}

// ---- conversions

/** Integer magnitude of finite A with exponent below 64, rounded by RC; the fraction (64 bits) is left in wideLo. */
function integerOfA(): u64 {
  let whole: u64 = 0;
  let rest: u64 = 0;
  if (aExp >= 0) {
    whole = aSig >> (63 - aExp);
    rest = aExp == 63 ? 0 : aSig << (aExp + 1);
  } else {
    fpShiftJam(aSig, 0, u32(-1 - aExp));
    rest = wideHi | u64(wideLo != 0);
  }
  wideLo = rest;
  fpUp = 0;
  if (rest && increments(aSign, (whole & 1) != 0, rest)) {
    fpUp = 1;
    whole++;
  }
  return whole;
}

/**
 * A as a signed integer of `bits` (16, 32, 64), rounded by RC. NaN, infinity and out of range give the integer
 * indefinite and raise IE; inexact raises PE.
 */
export function fpToInt(bits: i32): i64 {
  const limit: u64 = u64(1) << (bits - 1);
  if (aClass == FP_ZERO) return 0;
  if (aClass == FP_FINITE && aExp < 64) {
    const whole = integerOfA();
    const carried = whole == 0 && aExp == 63;
    if (!carried && (whole < limit || (aSign && whole == limit))) {
      if (wideLo) fpFlags |= FP_PE;
      return aSign ? 0 - i64(whole) : i64(whole);
    }
  }
  fpUp = 0;
  fpFlags |= FP_IE;
  return 0 - i64(limit);
}

/** Takes flags back. */
export function fpLower(flags: i32): void {
  fpFlags &= ~flags;
}

/** Replaces what `fpToInt` raised by IE alone, for targets narrower than its integers. */
export function fpOutOfRange(): void {
  fpUp = 0;
  fpFlags = FP_IE;
}

/** R = A rounded to an integer by RC; `quiet` suppresses PE. */
export function fpToIntegral(quiet: bool): void {
  if (fpNanA()) return;
  fpCheckDenormal();
  fpCopyA();
  if (aClass != FP_FINITE || aExp >= 63) return;
  const whole = integerOfA();
  if (wideLo && !quiet) fpFlags |= FP_PE;
  if (whole == 0) fpSetZero(aSign);
  else {
    const n = i32(clz(whole));
    fpSetR(aSign, 63 - n, whole << n, 0);
  }
}

/** R = a signed integer, exactly. */
export function fpFromInt(value: i64): void {
  rSign = u32(value < 0);
  if (value == 0) {
    rClass = FP_ZERO;
    return;
  }
  const magnitude: u64 = value < 0 ? 0 - u64(value) : u64(value);
  const n = i32(clz(magnitude));
  fpSetR(rSign, 63 - n, magnitude << n, 0);
}
