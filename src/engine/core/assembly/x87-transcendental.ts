// The x87's transcendental instructions, correctly rounded (real processors promise an error below 1 ulp).
// Trigonometric arguments are reduced by a pi of 66 bits, as the hardware does.

import {
  FP_FINITE,
  FP_INF,
  FP_PE,
  FP_TOP,
  FP_UE,
  FP_ZE,
  FP_ZERO,
  aClass,
  aExp,
  aSig,
  aSign,
  bClass,
  bExp,
  bSig,
  bSign,
  fpAdd,
  fpB80,
  fpCheckDenormal,
  fpCopyA,
  fpInvalid,
  fpMoveRToA,
  fpMoveRToB,
  fpMul64,
  fpNanA,
  fpNanAB,
  fpNormalize,
  fpRaise,
  fpRound80,
  fpSetInf,
  fpSetR,
  fpSetZero,
  fpStore80,
  fpSwap,
  rExp,
  rExtra,
  rSig,
  rSign,
  wideHi,
  wideLo,
} from './softfloat';
import {
  seriesAtan,
  seriesCosine,
  seriesExp,
  seriesSine,
  wExp,
  wHi,
  wLo,
  wideDivide,
  wideMul,
  wideNormalize,
  wideSet,
  wideShift,
  wideSquare,
} from './softfloat-wide';
import {
  X87_C2,
  x87Commit,
  x87Finish,
  x87LoadA,
  x87LoadB,
  x87PushR,
  x87PushRaw,
  x87SetCodes,
  x87St,
  x87Underflow,
  x87Used,
} from './x87-state';
import { x87PairFault } from './x87-remainder';

const LN2_HI: u64 = 0xb17217f7d1cf79ab;
const LN2_LO: u64 = 0xc9e3b39803f2f6af;
const LOG2E_HI: u64 = 0xb8aa3b295c17f0bb;
const LOG2E_LO: u64 = 0xbe87fed0691d3e89;
const PI_HI: u64 = 0xc90fdaa22168c234;
const PI_LO: u64 = 0xc4c6628b80dc1cd1;
/** The 66 bits of pi that argument reduction uses; pi / 2 in units of 2^-65. */
const PI66_HI: u64 = 3;
const PI66_LO: u64 = 0x243f6a8885a308d3;
const SQRT2: u64 = 0xb504f333f9de6484;

/** atan(i / 16) as factors, i = 0…16. */
const ATAN_TABLE: usize = memory.data<u64>([
  0, 0, 0x07fd56edcb3f7a71, 0xb6593c96e071706b, 0x0feadd4d5617b6e3, 0x2c897989f3e888ef, 0x17b97b4bce5b0226,
  0x8f6169f103938e91, 0x1f5b75f92c80dd62, 0xadb8f3debef442fd, 0x26c4ee6e0fd7979a, 0x716aed26349ebcca,
  0x2dec3283c9bde11c, 0xe2a8c848b73f9121, 0x34c9dd879847f96d, 0x909f257a40079c4e, 0x3b58ce0ac3769ed1,
  0x5bf9117b2f0ea341, 0x4195fa536cc33f15, 0x25b504e5b0d28ae0, 0x47802eaf7bfacfcd, 0xae41af0b32e21ba4,
  0x4d17c07338deed10, 0x21137c711027f9de, 0x525e3e8c9a7b8492, 0x0cd43f9522bed64f, 0x5756261c5a6c6040,
  0x0a392f179f290385, 0x5c029f15e118cf39, 0xe596d2a90852221f, 0x606742dc56293320, 0x44eeb16237497d12,
  0x6487ed5110b4611a, 0x62633145c06e0e69,
]);

/** R = hi:lo * factor w, inexact; hi:lo is a wide float. */
function setProduct(sign: u32, hi: u64, lo: u64, exp: i32): void {
  wideMul(hi, lo, wHi, wLo);
  fpNormalize(sign, exp + 1, wHi, wLo);
  fpSetR(sign, rExp, rSig, rExtra | 1);
}

// ---- FSIN, FCOS, FSINCOS, FPTAN

/** The reduced argument, |x| <= pi/4, as a wide float; its sign; and the quadrant it was taken from. */
let xHi: u64 = 0;
let xLo: u64 = 0;
let xExp: i32 = 0;
let xSign: u32 = 0;
let quadrant: u32 = 0;

/** Reduces finite A, whose exponent is below 63. */
function reduce(): void {
  xSign = aSign;
  quadrant = 0;
  xHi = aSig;
  xLo = 0;
  xExp = aExp;
  if (aExp < -1) return;
  let hi: u64 = 0;
  let lo = aSig;
  for (let i = aExp + 2; i > 0; i--) {
    hi = (hi << 1) | (lo >> 63);
    lo <<= 1;
    quadrant <<= 1;
    if (hi > PI66_HI || (hi == PI66_HI && lo >= PI66_LO)) {
      hi = hi - PI66_HI - u64(lo < PI66_LO);
      lo -= PI66_LO;
      quadrant |= 1;
    }
  }
  const otherLo = PI66_LO - lo;
  const otherHi = PI66_HI - hi - u64(PI66_LO < lo);
  if (otherHi < hi || (otherHi == hi && otherLo < lo)) {
    hi = otherHi;
    lo = otherLo;
    xSign ^= 1;
    quadrant++;
  }
  if (aSign) quadrant = 0 - quadrant;
  wideNormalize(hi, lo, 127 - 65);
  xHi = wHi;
  xLo = wLo;
  xExp = wExp;
}

/** R = sine (shift 0) or cosine (shift 1) of the argument that was reduced. */
function sineOfReduced(shift: u32): void {
  const q = quadrant + shift;
  const flip = (q >> 1) & 1;
  wideSquare(xHi, xLo, xExp);
  if (q & 1) {
    seriesCosine(wHi, wLo);
    fpNormalize(flip, 0, wHi, wLo);
    fpSetR(flip, rExp, rSig, rExtra | 1);
  } else {
    seriesSine(wHi, wLo);
    setProduct(xSign ^ flip, xHi, xLo, xExp);
  }
}

/** R = tangent of the argument that was reduced. */
function tangentOfReduced(): void {
  wideSquare(xHi, xLo, xExp);
  const zh = wHi;
  const zl = wLo;
  if (zh == 0 && !(quadrant & 1)) {
    // The quotient of two factors so close to 1 would not show that tan x > x: x * (1 + x^2 / 3).
    wideSet(FP_TOP, (zl / 6) | 1);
    setProduct(xSign, xHi, xLo, xExp);
    return;
  }
  seriesCosine(zh, zl);
  wideNormalize(wHi, wLo, 0);
  const ch = wHi;
  const cl = wLo;
  const ce = wExp;
  seriesSine(zh, zl);
  wideMul(xHi, xLo, wHi, wLo);
  wideNormalize(wHi, wLo, xExp + 1);
  if (quadrant & 1) wideDivide(ch, cl, ce, wHi, wLo, wExp);
  else wideDivide(wHi, wLo, wExp, ch, cl, ce);
  fpSetR(xSign ^ (quadrant & 1), wExp, wHi, wLo | 1);
}

/** R = the sine (shift 0) or cosine (shift 1) of A, which is no NaN nor infinity. */
function sineOrCosine(shift: u32): void {
  if (aClass == FP_ZERO) {
    if (shift) fpSetR(0, 0, FP_TOP, 0);
    else fpSetZero(aSign);
    return;
  }
  reduce();
  sineOfReduced(shift);
}

/** Loads A = ST(0) for a trigonometric instruction; false if it is out of range, with C2 set. */
function loadAngle(): bool {
  x87LoadA(0);
  const outside = aClass == FP_FINITE && aExp >= 63;
  x87SetCodes(outside ? X87_C2 : 0);
  return !outside;
}

/** R = NaN for NaN and infinite A; false for others. */
function angleSpecial(): bool {
  if (fpNanA()) return true;
  if (aClass == FP_INF) {
    fpInvalid();
    return true;
  }
  fpCheckDenormal();
  return false;
}

/** FSIN (rm 6), FCOS (rm 7), FSINCOS (rm 3). */
export function x87SineCosine(rm: i32): void {
  const pair = rm == 3;
  if (!x87Used(0) || (pair && x87Used(7))) {
    if (pair) x87PairFault();
    else x87Underflow(0, 0);
    return;
  }
  if (!loadAngle()) return;
  const special = angleSpecial();
  if (!special) sineOrCosine(u32(rm == 7));
  fpRound80(64);
  if (!pair) {
    if (x87Commit()) fpStore80(x87St(0));
    return;
  }
  const sineSig = x87St(0);
  if (!x87Commit()) return;
  fpStore80(sineSig);
  if (!special) {
    sineOrCosine(1);
    fpRound80(64);
    x87Commit();
  }
  x87PushR();
}

/** FPTAN: ST(0) becomes its tangent, then 1.0 is pushed. */
export function x87Tangent(): void {
  if (!x87Used(0) || x87Used(7)) {
    x87PairFault();
    return;
  }
  if (!loadAngle()) return;
  const special = angleSpecial();
  if (!special) {
    if (aClass == FP_ZERO) fpSetZero(aSign);
    else {
      reduce();
      tangentOfReduced();
    }
  }
  fpRound80(64);
  if (!x87Commit()) return;
  fpStore80(x87St(0));
  if (special) x87PushR();
  else x87PushRaw(FP_TOP, 0x3fff);
}

// ---- F2XM1

/** F2XM1: ST(0) = 2^ST(0) - 1 for |ST(0)| <= 1; larger arguments are left as they are. */
export function x87ExpMinus1(): void {
  if (!x87Used(0)) {
    x87Underflow(0, 0);
    return;
  }
  x87LoadA(0);
  if (!fpNanA()) {
    fpCheckDenormal();
    if (aClass == FP_INF && aSign) fpSetR(1, 0, FP_TOP, 0);
    else if (aClass != FP_FINITE || aExp >= 0) expAtEdge();
    else expMinus1();
  }
  x87Finish(0, 64, false);
}

function expAtEdge(): void {
  fpCopyA();
  if (aClass == FP_FINITE && aExp == 0 && aSig == FP_TOP && aSign) fpSetR(1, -1, FP_TOP, 0);
}

function expMinus1(): void {
  wideMul(aSig, 0, LN2_HI, LN2_LO);
  wideNormalize(wHi, wLo, aExp);
  const hi = wHi;
  const lo = wLo;
  const exp = wExp;
  wideShift(hi, lo, -1 - exp);
  seriesExp(wHi, wLo, aSign != 0);
  setProduct(aSign, hi, lo, exp);
}

// ---- FYL2X, FYL2XP1

/** FYL2X: ST(1) = ST(1) * log2 ST(0), then pop. */
export function x87LogProduct(): void {
  if (!x87Used(0) || !x87Used(1)) {
    x87Underflow(1, 1);
    return;
  }
  x87LoadA(0);
  x87LoadB(1);
  if (!fpNanAB()) logProduct();
  x87Finish(1, 64, true);
}

/** R = B * log2 A, neither of them a NaN. */
function logProduct(): void {
  if (aSign && aClass != FP_ZERO) {
    fpInvalid();
    return;
  }
  const isOne = aClass == FP_FINITE && aExp == 0 && aSig == FP_TOP;
  const below = aClass == FP_ZERO || (aClass == FP_FINITE && aExp < 0);
  const sign = bSign ^ u32(below);
  if (aClass == FP_ZERO || aClass == FP_INF || bClass == FP_INF) {
    if (bClass == FP_ZERO || isOne) {
      fpInvalid();
      return;
    }
    fpCheckDenormal();
    if (aClass == FP_ZERO && bClass == FP_FINITE) fpRaise(FP_ZE);
    fpSetInf(sign);
    return;
  }
  fpCheckDenormal();
  if (bClass == FP_ZERO || isOne) fpSetZero(sign);
  else logFinite();
}

/** w, wExp = 2 / ln 2 * atanh(n / d) for wide floats, which is log2((d + n) / (d - n)). */
function logOfRatio(nh: u64, nl: u64, nExp: i32, dh: u64, dl: u64, dExp: i32): void {
  wideDivide(nh, nl, nExp, dh, dl, dExp);
  const hi = wHi;
  const lo = wLo;
  const exp = wExp;
  wideSquare(hi, lo, exp);
  seriesAtan(wHi, wLo, true);
  wideMul(wHi, wLo, LOG2E_HI, LOG2E_LO);
  wideMul(hi, lo, (wHi << 1) | (wLo >> 63), wLo << 1);
  wideNormalize(wHi, wLo, exp + 2);
}

/** R = B * log2 A for finite, positive A that is not 1. */
function logFinite(): void {
  let k = aExp;
  let sign: u32 = 0;
  // A = 2^k * m, log2 m = 2 / ln 2 * atanh((m - 1) / (m + 1)) with m between the roots of 1/2 and 2.
  let num = aSig - FP_TOP;
  let dHi: u64 = FP_TOP | (num >> 1);
  let dLo = num << 63;
  if (aSig > SQRT2) {
    k++;
    sign = 1;
    num = 0 - aSig;
    dHi = FP_TOP | (aSig >> 1);
    dLo = aSig << 63;
  }
  if (num == 0) {
    wideNormalize(u64(k < 0 ? -k : k) << 48, 0, 15);
    multiplyB(u32(k < 0), true);
    return;
  }
  wideNormalize(num, 0, 63);
  logOfRatio(wHi, wLo, wExp, dHi, dLo, 64);
  multiplyB(k == 0 ? sign : addExponent(k, sign), false);
}

/** w, wExp = |k + (sign) w|; returns the sign of the sum. */
function addExponent(k: i32, sign: u32): u32 {
  const kSign = u32(k < 0);
  const whole = u64(k < 0 ? -k : k) << 48;
  wideShift(wHi, wLo, 15 - wExp);
  if (kSign == sign) wideNormalize(whole + wHi, wLo, 15);
  else wideNormalize(whole - wHi - u64(wLo != 0), 0 - wLo, 15);
  return kSign;
}

/** R = B * w, where w has sign `sign`. */
function multiplyB(sign: u32, exact: bool): void {
  const exp = wExp + bExp + 1;
  wideMul(wHi, wLo, bSig, 0);
  fpNormalize(sign ^ bSign, exp, wHi, wLo);
  // Processors report PE for powers of two as well, though nothing is lost.
  if (exact) fpRaise(rExp < -16382 ? FP_UE | FP_PE : FP_PE);
  else fpSetR(rSign, rExp, rSig, rExtra | 1);
}

/** FYL2XP1: ST(1) = ST(1) * log2(ST(0) + 1), then pop. */
export function x87LogPlus1Product(): void {
  if (!x87Used(0) || !x87Used(1)) {
    x87Underflow(1, 1);
    return;
  }
  x87LoadA(0);
  x87LoadB(1);
  if (!fpNanAB()) logPlus1Product();
  x87Finish(1, 64, true);
}

function logPlus1Product(): void {
  const sign = aSign ^ bSign;
  const oneOrLess = aSign && (aClass == FP_INF || (aClass == FP_FINITE && aExp >= 0));
  if (oneOrLess) {
    fpInvalid();
    return;
  }
  if (aClass == FP_INF || bClass == FP_INF) {
    if (aClass == FP_ZERO || bClass == FP_ZERO) {
      fpInvalid();
      return;
    }
    fpCheckDenormal();
    fpSetInf(sign);
    return;
  }
  fpCheckDenormal();
  if (aClass == FP_ZERO || bClass == FP_ZERO) {
    fpSetZero(sign);
    return;
  }
  if (aExp >= -1) {
    addOneToA();
    if (aExp == 0 && aSig == FP_TOP) fpSetZero(sign);
    else logFinite();
    return;
  }
  // log2(1 + x) = 2 / ln 2 * atanh(x / (2 + x))
  wideShift(aSig, 0, 1 - aExp);
  if (aSign) wideNormalize(FP_TOP - wHi - u64(wLo != 0), 0 - wLo, 1);
  else wideNormalize(FP_TOP + wHi, wLo, 1);
  logOfRatio(aSig, 0, aExp, wHi, wLo, wExp);
  multiplyB(aSign, false);
}

/** A = A + 1; B is kept. For arguments beyond the range of FYL2XP1, where precision is not promised. */
function addOneToA(): void {
  const sign = bSign;
  const exp = bExp;
  const sig = bSig;
  fpB80(FP_TOP, 0x3fff);
  fpAdd(0);
  fpRound80(64);
  fpMoveRToA();
  fpSetR(sign, exp, sig, 0);
  fpMoveRToB();
}

// ---- FPATAN

/** FPATAN: ST(1) = arc tangent of ST(1) / ST(0) in the right quadrant, then pop. */
export function x87ArcTangent(): void {
  if (!x87Used(0) || !x87Used(1)) {
    x87Underflow(1, 1);
    return;
  }
  x87LoadA(1);
  x87LoadB(0);
  if (!fpNanAB()) {
    fpCheckDenormal();
    arcTangent();
  }
  x87Finish(1, 64, true);
}

/** R = atan2(A, B), neither of them a NaN. */
function arcTangent(): void {
  const sign = aSign;
  const left = bSign;
  if (aClass == FP_ZERO || (bClass == FP_INF && aClass != FP_INF)) {
    if (left) fpSetR(sign, 1, PI_HI, PI_LO);
    else fpSetZero(sign);
    return;
  }
  if (bClass == FP_ZERO || (aClass == FP_INF && bClass != FP_INF)) {
    fpSetR(sign, 0, PI_HI, PI_LO);
    return;
  }
  if (aClass == FP_INF) {
    if (left) setThreeQuarters(sign);
    else fpSetR(sign, -1, PI_HI, PI_LO);
    return;
  }
  arcTangentFinite(sign, left);
}

/** R = three quarters of pi. */
function setThreeQuarters(sign: u32): void {
  wideShift(PI_HI, PI_LO, 2);
  fpSetR(sign, 1, PI_HI - wHi - u64(PI_LO < wLo), PI_LO - wLo);
}

function arcTangentFinite(sign: u32, left: u32): void {
  const steep = aExp > bExp || (aExp == bExp && aSig > bSig);
  if (steep) fpSwap();
  if (bExp - aExp > 5) {
    wideDivide(aSig, 0, aExp, bSig, 0, bExp);
    const hi = wHi;
    const lo = wLo;
    const exp = wExp;
    wideSquare(hi, lo, exp);
    seriesAtan(wHi, wLo, false);
    if (!steep && !left) {
      setProduct(sign, hi, lo, exp);
      return;
    }
    productFactor(hi, lo, exp);
  } else angleByTable();
  if (steep) {
    wideSet(PI_HI - wHi - u64(PI_LO < wLo), PI_LO - wLo);
  }
  let exp = 0;
  if (left) {
    wideShift(wHi, wLo, 1);
    wideSet(PI_HI - wHi - u64(PI_LO < wLo), PI_LO - wLo);
    exp = 1;
  }
  fpNormalize(sign, exp, wHi, wLo);
  fpSetR(sign, rExp, rSig, rExtra | 1);
}

/** w = the wide float hi:lo * factor w, as a factor. */
function productFactor(hi: u64, lo: u64, exp: i32): void {
  wideMul(hi, lo, wHi, wLo);
  wideShift(wHi, wLo, -exp - 1);
}

/** w = atan(|A| / |B|) as a factor, for ratios from 1/64 to 1. */
function angleByTable(): void {
  const d = u32(bExp - aExp);
  // atan t = atan c + atan((t - c) / (1 + t c)) with c = i / 16, all of it in exact integers.
  const yHi = aSig >> 60;
  const yLo = aSig << 4;
  const xHigh = d ? bSig >> (64 - d) : 0;
  const xLow = bSig << d;
  const i = u64(Math.round(((f64(aSig) / f64(bSig)) * 16.0) / f64(1 << d)));
  fpMul64(xLow, i);
  const ixHi = wideHi + xHigh * i;
  let nLo = yLo - wideLo;
  let nHi = yHi - ixHi - u64(yLo < wideLo);
  const negative = i64(nHi) < 0;
  if (negative) {
    nHi = 0 - nHi - u64(nLo != 0);
    nLo = 0 - nLo;
  }
  const entry = ATAN_TABLE + (usize(i) << 4);
  const baseHi = load<u64>(entry);
  const baseLo = load<u64>(entry, 8);
  if ((nHi | nLo) == 0) {
    wideSet(baseHi, baseLo);
    return;
  }
  fpMul64(aSig, i);
  const denLo = wideLo + (xLow << 4);
  const denHi = wideHi + ((xHigh << 4) | (xLow >> 60)) + u64(denLo < wideLo);
  wideNormalize(denHi, denLo, 127);
  const dHi = wHi;
  const dLo = wLo;
  const dExp = wExp;
  wideNormalize(nHi, nLo, 127);
  wideDivide(wHi, wLo, wExp, dHi, dLo, dExp);
  const hi = wHi;
  const lo = wLo;
  const exp = wExp;
  wideSquare(hi, lo, exp);
  seriesAtan(wHi, wLo, false);
  productFactor(hi, lo, exp);
  if (negative) wideSet(baseHi - wHi - u64(baseLo < wLo), baseLo - wLo);
  else {
    const sum = baseLo + wLo;
    wideSet(baseHi + wHi + u64(sum < baseLo), sum);
  }
}
