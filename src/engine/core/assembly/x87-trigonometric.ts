// FSIN, FCOS, FSINCOS and FPTAN. Correctly rounded (real processors promise an error below 1 ulp) for arguments
// reduced by a pi of 66 bits, as the hardware does.

import {
  FP_FINITE,
  FP_INF,
  FP_TOP,
  FP_ZERO,
  aClass,
  aExp,
  aSig,
  aSign,
  fpCheckDenormal,
  fpInvalid,
  fpNanA,
  fpNormalize,
  fpRound80,
  fpSetR,
  fpSetZero,
  fpStore80,
  rExp,
  rExtra,
  rSig,
} from './softfloat';
import {
  fpSetProduct,
  seriesCosine,
  seriesSine,
  wExp,
  wHi,
  wLo,
  wideDivide,
  wideMul,
  wideNormalize,
  wideSet,
  wideSquare,
} from './softfloat-wide';
import { x87PairFault } from './x87-remainder';
import {
  X87_C2,
  x87Commit,
  x87LoadA,
  x87PushR,
  x87PushRaw,
  x87SetCodes,
  x87St,
  x87Underflow,
  x87Used,
} from './x87-state';

/** The 66 bits of pi that argument reduction uses; pi / 2 in units of 2^-65. */
const PI66_HI: u64 = 3;
const PI66_LO: u64 = 0x243f6a8885a308d3;

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
    fpSetProduct(xSign ^ flip, xHi, xLo, xExp);
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
    fpSetProduct(xSign, xHi, xLo, xExp);
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
