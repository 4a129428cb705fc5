// F2XM1, FYL2X and FYL2XP1, correctly rounded (real processors promise an error below 1 ulp).

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
  fpNanA,
  fpNanAB,
  fpNormalize,
  fpRaise,
  fpRound80,
  fpSetInf,
  fpSetR,
  fpSetZero,
  rExp,
  rExtra,
  rSig,
  rSign,
} from './softfloat';
import {
  fpSetProduct,
  seriesAtan,
  seriesExp,
  wExp,
  wHi,
  wLo,
  wideDivide,
  wideMul,
  wideNormalize,
  wideShift,
  wideSquare,
} from './softfloat-wide';
import { x87Finish, x87LoadA, x87LoadB, x87Underflow, x87Used } from './x87-state';

const LN2_HI: u64 = 0xb17217f7d1cf79ab;
const LN2_LO: u64 = 0xc9e3b39803f2f6af;
const LOG2E_HI: u64 = 0xb8aa3b295c17f0bb;
const LOG2E_LO: u64 = 0xbe87fed0691d3e89;
const SQRT2: u64 = 0xb504f333f9de6484;

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
  fpSetProduct(aSign, hi, lo, exp);
}

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
