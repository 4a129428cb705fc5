// SSE floating point on single elements, exact in every mode: what generated code calls when a native operation
// would not do. A function that can fault sets STATE_FAULT_VECTOR; its caller then leaves the destination alone.

import {
  FP_CHOP,
  FP_IE,
  FP_QNAN,
  FP_ZERO,
  aClass,
  bClass,
  fpA32,
  fpA64,
  fpAdd,
  fpB32,
  fpB64,
  fpCheckDenormal,
  fpCompare,
  fpCopyA,
  fpDiv,
  fpFromInt,
  fpMul,
  fpNanA,
  fpNext,
  fpOrder,
  fpPack32,
  fpPack64,
  fpRaise,
  fpRc,
  fpSetRc,
  fpSqrt,
  fpToInt,
  fpToIntegral,
} from './softfloat';
import { sseBegin, sseEnd } from './sse-state';
import { setOrderFlags } from './x87-state';

export {
  sseAddSubF32,
  sseAddSubF64,
  sseComparePackedF32,
  sseComparePackedF64,
  sseDotF32,
  sseDotF64,
  sseHorizontalF32,
  sseHorizontalF64,
  ssePackedConvert,
  ssePackedF32,
  ssePackedF64,
  ssePackedReciprocal,
  sseRoundPackedF32,
  sseRoundPackedF64,
} from './sse-packed';

/** Operation numbers of `sseF64` and its kin. */
export const SSE_ADD: i32 = 0;
export const SSE_SUB: i32 = 1;
const SSE_MUL: i32 = 2;
const SSE_DIV: i32 = 3;
const SSE_MIN: i32 = 4;
const SSE_MAX: i32 = 5;
const SSE_SQRT: i32 = 6;

const SIGN64: u64 = 0x8000000000000000;
const SIGN32: u32 = 0x80000000;

// ---- elements: between sseBegin and sseEnd

/** R = A op B for add, sub, mul, div; the square root of A for sqrt. */
function arithmetic(op: i32): void {
  if (op == SSE_ADD) fpAdd(0);
  else if (op == SSE_SUB) fpAdd(1);
  else if (op == SSE_MUL) fpMul();
  else if (op == SSE_DIV) fpDiv();
  else fpSqrt();
}

/** MIN and MAX: whether A is the result. NaNs and equal zeros give B. */
function picksA(op: i32): bool {
  if (aClass >= FP_QNAN || bClass >= FP_QNAN) {
    fpRaise(FP_IE);
    return false;
  }
  fpCheckDenormal();
  const order = fpOrder();
  return op == SSE_MIN ? order < 0 : order > 0;
}

export function elementF64(op: i32, a: u64, b: u64): u64 {
  fpNext();
  if (op == SSE_SQRT) fpA64(b);
  else {
    fpA64(a);
    fpB64(b);
  }
  if (op == SSE_MIN || op == SSE_MAX) {
    // A denormal that DAZ made a zero is a zero in the result as well.
    if (picksA(op)) return aClass == FP_ZERO ? a & SIGN64 : a;
    return bClass == FP_ZERO ? b & SIGN64 : b;
  }
  arithmetic(op);
  return fpPack64();
}

export function elementF32(op: i32, a: u32, b: u32): u32 {
  fpNext();
  if (op == SSE_SQRT) fpA32(b);
  else {
    fpA32(a);
    fpB32(b);
  }
  if (op == SSE_MIN || op == SSE_MAX) {
    if (picksA(op)) return aClass == FP_ZERO ? a & SIGN32 : a;
    return bClass == FP_ZERO ? b & SIGN32 : b;
  }
  arithmetic(op);
  return fpPack32();
}

/** CMPccXX predicate 0…7 on A and B: eq, lt, le, unord, neq, nlt, nle, ord. */
function compares(predicate: i32): bool {
  const kind = predicate & 3;
  const order = fpCompare(kind == 1 || kind == 2);
  let met = false;
  if (kind == 0) met = order == 0;
  else if (kind == 1) met = order == -1;
  else if (kind == 2) met = order == -1 || order == 0;
  else met = order == 2;
  return met != ((predicate & 4) != 0);
}

export function compareElementF64(predicate: i32, a: u64, b: u64): bool {
  fpNext();
  fpA64(a);
  fpB64(b);
  return compares(predicate);
}

export function compareElementF32(predicate: i32, a: u32, b: u32): bool {
  fpNext();
  fpA32(a);
  fpB32(b);
  return compares(predicate);
}

/** R = A rounded to an integer as the immediate byte of ROUNDSD says. */
function roundA(imm: i32): void {
  // ROUNDxx does not report denormal operands.
  fpNext();
  const rc = fpRc;
  if (!(imm & 4)) fpSetRc(imm & 3);
  fpToIntegral((imm & 8) != 0);
  fpSetRc(rc);
}

export function roundElementF64(imm: i32, a: u64): u64 {
  fpA64(a);
  roundA(imm);
  return fpPack64();
}

export function roundElementF32(imm: i32, a: u32): u32 {
  fpA32(a);
  roundA(imm);
  return fpPack32();
}

export function toIntElementF64(truncate: bool, bits: i32, a: u64): i64 {
  const rc = fpRc;
  if (truncate) fpSetRc(FP_CHOP);
  fpA64(a);
  const value = fpToInt(bits);
  fpSetRc(rc);
  return value;
}

export function toIntElementF32(truncate: bool, bits: i32, a: u32): i64 {
  const rc = fpRc;
  if (truncate) fpSetRc(FP_CHOP);
  fpA32(a);
  const value = fpToInt(bits);
  fpSetRc(rc);
  return value;
}

/** R = A, to be packed in another format. */
function convertA(): void {
  if (fpNanA()) return;
  fpCheckDenormal();
  fpCopyA();
}

export function narrowElement(a: u64): u32 {
  fpNext();
  fpA64(a);
  convertA();
  return fpPack32();
}

export function widenElement(a: u32): u64 {
  fpNext();
  fpA32(a);
  convertA();
  return fpPack64();
}

// ---- instructions

/** ADDSD, SUBSD, MULSD, DIVSD, MINSD, MAXSD (op 0…5) of a and b; SQRTSD (op 6) of b. */
export function sseF64(op: i32, a: i64, b: i64): i64 {
  sseBegin();
  const result = elementF64(op, a, b);
  sseEnd();
  return result;
}

/** ADDSS, SUBSS, MULSS, DIVSS, MINSS, MAXSS (op 0…5) of a and b; SQRTSS (op 6) of b. */
export function sseF32(op: i32, a: i32, b: i32): i32 {
  sseBegin();
  const result = elementF32(op, a, b);
  sseEnd();
  return result;
}

/** CMPccSD, predicate 0…7: all ones or zero. */
export function sseCompareF64(predicate: i32, a: i64, b: i64): i64 {
  sseBegin();
  const met = compareElementF64(predicate, a, b);
  sseEnd();
  return met ? -1 : 0;
}

/** CMPccSS, predicate 0…7: all ones or zero. */
export function sseCompareF32(predicate: i32, a: i32, b: i32): i32 {
  sseBegin();
  const met = compareElementF32(predicate, a, b);
  sseEnd();
  return met ? -1 : 0;
}

/** COMISD (`signalling` not 0) and UCOMISD: sets EFLAGS; 0, or 2 with EFLAGS unchanged. */
export function comiF64(a: i64, b: i64, signalling: i32): i32 {
  sseBegin();
  fpA64(a);
  fpB64(b);
  return commitOrder(fpCompare(signalling != 0));
}

/** COMISS (`signalling` not 0) and UCOMISS: sets EFLAGS; 0, or 2 with EFLAGS unchanged. */
export function comiF32(a: i32, b: i32, signalling: i32): i32 {
  sseBegin();
  fpA32(a);
  fpB32(b);
  return commitOrder(fpCompare(signalling != 0));
}

function commitOrder(order: i32): i32 {
  if (sseEnd()) return 2;
  setOrderFlags(order);
  return 0;
}

/** CVTSD2SS: binary64 to binary32. */
export function sseF64ToF32(a: i64): i32 {
  sseBegin();
  const result = narrowElement(a);
  sseEnd();
  return result;
}

/** CVTSS2SD: binary32 to binary64. */
export function sseF32ToF64(a: i32): i64 {
  sseBegin();
  const result = widenElement(a);
  sseEnd();
  return result;
}

/** CVTSI2SD; a 32-bit source is passed sign-extended. */
export function sseIntToF64(value: i64): i64 {
  sseBegin();
  fpFromInt(value);
  const result = fpPack64();
  sseEnd();
  return result;
}

/** CVTSI2SS and an element of CVTDQ2PS; a 32-bit source is passed sign-extended. */
export function sseIntToF32(value: i64): i32 {
  sseBegin();
  fpFromInt(value);
  const result = fpPack32();
  sseEnd();
  return result;
}

/** CVTSD2SI, CVTTSD2SI (`truncate` not 0) to `bits` = 32 or 64; 32-bit results are sign-extended. */
export function sseF64ToInt(a: i64, bits: i32, truncate: i32): i64 {
  sseBegin();
  const result = toIntElementF64(truncate != 0, bits, a);
  sseEnd();
  return result;
}

/** CVTSS2SI, CVTTSS2SI (`truncate` not 0) to `bits` = 32 or 64; 32-bit results are sign-extended. */
export function sseF32ToInt(a: i32, bits: i32, truncate: i32): i64 {
  sseBegin();
  const result = toIntElementF32(truncate != 0, bits, a);
  sseEnd();
  return result;
}

/** ROUNDSD with its immediate byte. */
export function sseRoundF64(imm: i32, a: i64): i64 {
  sseBegin();
  const result = roundElementF64(imm, a);
  sseEnd();
  return result;
}

/** ROUNDSS with its immediate byte. */
export function sseRoundF32(imm: i32, a: i32): i32 {
  sseBegin();
  const result = roundElementF32(imm, a);
  sseEnd();
  return result;
}

/** Keeps 12 bits of a positive double that is normal as a binary32, rounded to nearest. */
function approximate(value: f64): u32 {
  const bits = reinterpret<u64>(value) + 0x0000008000000000;
  const e = i32(bits >> 52) - 1023;
  if (e < -126) return 0;
  return (u32(e + 127) << 23) | (u32(bits >> 29) & 0x7ff800);
}

/** RCPSS: 1 / a rounded to 12 bits (relative error below 2^-12; processors differ). Raises nothing. */
export function sseReciprocalF32(a: i32): i32 {
  const sign = u32(a) & SIGN32;
  const magnitude = u32(a) & ~SIGN32;
  if (magnitude > 0x7f800000) return a | 0x00400000;
  if (magnitude < 0x00800000) return sign | 0x7f800000;
  if (magnitude == 0x7f800000) return sign;
  return sign | approximate(1.0 / f64(reinterpret<f32>(magnitude)));
}

/** RSQRTSS: 1 / sqrt(a) rounded to 12 bits (relative error below 2^-12; processors differ). Raises nothing. */
export function sseReciprocalSqrtF32(a: i32): i32 {
  const sign = u32(a) & SIGN32;
  const magnitude = u32(a) & ~SIGN32;
  if (magnitude > 0x7f800000) return a | 0x00400000;
  if (magnitude < 0x00800000) return sign | 0x7f800000;
  if (sign) return 0xffc00000;
  if (magnitude == 0x7f800000) return 0;
  return approximate(1.0 / Math.sqrt(f64(reinterpret<f32>(magnitude))));
}
