// FPATAN, correctly rounded (real processors promise an error below 1 ulp).

import {
  FP_INF,
  FP_ZERO,
  aClass,
  aExp,
  aSig,
  aSign,
  bClass,
  bExp,
  bSig,
  bSign,
  fpCheckDenormal,
  fpMul64,
  fpNanAB,
  fpNormalize,
  fpSetR,
  fpSetZero,
  fpSwap,
  rExp,
  rExtra,
  rSig,
  wideHi,
  wideLo,
} from './softfloat';
import {
  fpSetProduct,
  seriesAtan,
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
import { x87Finish, x87LoadA, x87LoadB, x87Underflow, x87Used } from './x87-state';

const PI_HI: u64 = 0xc90fdaa22168c234;
const PI_LO: u64 = 0xc4c6628b80dc1cd1;
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
      fpSetProduct(sign, hi, lo, exp);
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
