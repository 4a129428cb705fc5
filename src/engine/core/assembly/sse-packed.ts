// Packed SSE floating point. Every function works on 16-byte vectors by address, writes its result only if no
// element raised an unmasked exception, and returns 0, or 2 when STATE_FAULT_VECTOR has been set. Sources and
// destination may be the same.

import { fpFromInt, fpPack32, fpPack64 } from './softfloat';
import {
  SSE_ADD,
  SSE_SUB,
  compareElementF32,
  compareElementF64,
  elementF32,
  elementF64,
  narrowElement,
  roundElementF32,
  roundElementF64,
  sseReciprocalF32,
  sseReciprocalSqrtF32,
  toIntElementF32,
  toIntElementF64,
  widenElement,
} from './sse';
import { sseBegin, sseEnd } from './sse-state';

const SSE_MUL: i32 = 2;

/** Where results are put together. */
const staging = memory.data(16, 16);

/** Ends a packed operation and moves `bytes` of the staged result to `dst`. */
function finish(dst: usize, bytes: usize): i32 {
  if (sseEnd()) return 2;
  memory.copy(dst, staging, bytes);
  return 0;
}

/** ADDPD, SUBPD, MULPD, DIVPD, MINPD, MAXPD (op 0…5) of a and b; SQRTPD (op 6) of b. */
export function ssePackedF64(op: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 8) {
    store<u64>(staging + i, elementF64(op, load<u64>(a + i), load<u64>(b + i)));
  }
  return finish(dst, 16);
}

/** ADDPS, SUBPS, MULPS, DIVPS, MINPS, MAXPS (op 0…5) of a and b; SQRTPS (op 6) of b. */
export function ssePackedF32(op: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 4) {
    store<u32>(staging + i, elementF32(op, load<u32>(a + i), load<u32>(b + i)));
  }
  return finish(dst, 16);
}

/** CMPccPD, predicate 0…7. */
export function sseComparePackedF64(predicate: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 8) {
    store<i64>(staging + i, compareElementF64(predicate, load<u64>(a + i), load<u64>(b + i)) ? -1 : 0);
  }
  return finish(dst, 16);
}

/** CMPccPS, predicate 0…7. */
export function sseComparePackedF32(predicate: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 4) {
    store<i32>(staging + i, compareElementF32(predicate, load<u32>(a + i), load<u32>(b + i)) ? -1 : 0);
  }
  return finish(dst, 16);
}

/** HADDPD (op 0) and HSUBPD (op 1). */
export function sseHorizontalF64(op: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  store<u64>(staging, elementF64(op, load<u64>(a), load<u64>(a, 8)));
  store<u64>(staging, elementF64(op, load<u64>(b), load<u64>(b, 8)), 8);
  return finish(dst, 16);
}

/** HADDPS (op 0) and HSUBPS (op 1). */
export function sseHorizontalF32(op: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 8; i += 4) {
    store<u32>(staging + i, elementF32(op, load<u32>(a + 2 * i), load<u32>(a + 2 * i, 4)));
    store<u32>(staging + i, elementF32(op, load<u32>(b + 2 * i), load<u32>(b + 2 * i, 4)), 8);
  }
  return finish(dst, 16);
}

/** ADDSUBPD: subtracts in element 0, adds in element 1. */
export function sseAddSubF64(dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  store<u64>(staging, elementF64(SSE_SUB, load<u64>(a), load<u64>(b)));
  store<u64>(staging, elementF64(SSE_ADD, load<u64>(a, 8), load<u64>(b, 8)), 8);
  return finish(dst, 16);
}

/** ADDSUBPS: subtracts in even elements, adds in odd ones. */
export function sseAddSubF32(dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 4) {
    store<u32>(staging + i, elementF32(i & 4 ? SSE_ADD : SSE_SUB, load<u32>(a + i), load<u32>(b + i)));
  }
  return finish(dst, 16);
}

/** Between the steps of a dot product: an unmasked exception ends it there. */
function endStage(): i32 {
  if (sseEnd()) return 2;
  sseBegin();
  return 0;
}

function productF32(imm: i32, i: i32, a: usize, b: usize): u32 {
  if (!((imm >> (4 + i)) & 1)) return 0;
  return elementF32(SSE_MUL, load<u32>(a + 4 * i), load<u32>(b + 4 * i));
}

/** DPPS: the sums of neighbours are added, as the SDM's DP_primitive does. */
export function sseDotF32(imm: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  const p0 = productF32(imm, 0, a, b);
  const p1 = productF32(imm, 1, a, b);
  const p2 = productF32(imm, 2, a, b);
  const p3 = productF32(imm, 3, a, b);
  if (endStage()) return 2;
  const low = elementF32(SSE_ADD, p0, p1);
  const high = elementF32(SSE_ADD, p2, p3);
  if (endStage()) return 2;
  const sum = elementF32(SSE_ADD, low, high);
  for (let i = 0; i < 4; i++) store<u32>(staging + 4 * i, (imm >> i) & 1 ? sum : 0);
  return finish(dst, 16);
}

/** DPPD. */
export function sseDotF64(imm: i32, dst: usize, a: usize, b: usize): i32 {
  sseBegin();
  const p0 = imm & 0x10 ? elementF64(SSE_MUL, load<u64>(a), load<u64>(b)) : 0;
  const p1 = imm & 0x20 ? elementF64(SSE_MUL, load<u64>(a, 8), load<u64>(b, 8)) : 0;
  if (endStage()) return 2;
  const sum = elementF64(SSE_ADD, p0, p1);
  store<u64>(staging, imm & 1 ? sum : 0);
  store<u64>(staging, imm & 2 ? sum : 0, 8);
  return finish(dst, 16);
}

/** ROUNDPD. */
export function sseRoundPackedF64(imm: i32, dst: usize, src: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 8) store<u64>(staging + i, roundElementF64(imm, load<u64>(src + i)));
  return finish(dst, 16);
}

/** ROUNDPS. */
export function sseRoundPackedF32(imm: i32, dst: usize, src: usize): i32 {
  sseBegin();
  for (let i: usize = 0; i < 16; i += 4) store<u32>(staging + i, roundElementF32(imm, load<u32>(src + i)));
  return finish(dst, 16);
}

/** RCPPS (kind 0) and RSQRTPS (kind 1). */
export function ssePackedReciprocal(kind: i32, dst: usize, src: usize): i32 {
  for (let i: usize = 0; i < 16; i += 4) {
    const a = load<i32>(src + i);
    store<i32>(dst + i, kind ? sseReciprocalSqrtF32(a) : sseReciprocalF32(a));
  }
  return 0;
}

const CVTDQ2PD: i32 = 0;
const CVTDQ2PS: i32 = 1;
const CVTPD2DQ: i32 = 2;
const CVTTPD2DQ: i32 = 3;
const CVTPS2DQ: i32 = 4;
const CVTTPS2DQ: i32 = 5;
const CVTPS2PD: i32 = 6;
const CVTPD2PS: i32 = 7;
const CVTPI2PS: i32 = 8;
const CVTPS2PI: i32 = 9;
const CVTTPS2PI: i32 = 10;
const CVTPD2PI: i32 = 11;
const CVTTPD2PI: i32 = 12;

/**
 * Packed conversions: 0 CVTDQ2PD (and CVTPI2PD), 1 CVTDQ2PS, 2 CVTPD2DQ, 3 CVTTPD2DQ, 4 CVTPS2DQ, 5 CVTTPS2DQ,
 * 6 CVTPS2PD, 7 CVTPD2PS, 8 CVTPI2PS, 9 CVTPS2PI, 10 CVTTPS2PI, 11 CVTPD2PI, 12 CVTTPD2PI.
 * 0, 6 and 8…10 read 8 bytes; 8…12 write 8 bytes, the others 16 (2, 3 and 7 with zeros in the upper half).
 */
export function ssePackedConvert(kind: i32, dst: usize, src: usize): i32 {
  sseBegin();
  store<u64>(staging, 0, 8);
  if (kind == CVTDQ2PD || kind == CVTPS2PD) {
    for (let i: usize = 0; i < 2; i++) {
      const element = load<u32>(src + 4 * i);
      store<u64>(staging + 8 * i, kind == CVTPS2PD ? widenElement(element) : intToF64(i32(element)));
    }
  } else if (kind == CVTPD2PS) {
    for (let i: usize = 0; i < 2; i++) store<u32>(staging + 4 * i, narrowElement(load<u64>(src + 8 * i)));
  } else if (kind == CVTPD2DQ || kind == CVTTPD2DQ || kind == CVTPD2PI || kind == CVTTPD2PI) {
    const truncate = kind == CVTTPD2DQ || kind == CVTTPD2PI;
    for (let i: usize = 0; i < 2; i++) {
      store<i32>(staging + 4 * i, i32(toIntElementF64(truncate, 32, load<u64>(src + 8 * i))));
    }
  } else if (kind == CVTDQ2PS || kind == CVTPI2PS) {
    const elements: usize = kind == CVTPI2PS ? 2 : 4;
    for (let i: usize = 0; i < elements; i++) {
      fpFromInt(load<i32>(src + 4 * i));
      store<u32>(staging + 4 * i, fpPack32());
    }
  } else {
    const truncate = kind == CVTTPS2DQ || kind == CVTTPS2PI;
    const elements: usize = kind == CVTPS2DQ || kind == CVTTPS2DQ ? 4 : 2;
    for (let i: usize = 0; i < elements; i++) {
      store<i32>(staging + 4 * i, i32(toIntElementF32(truncate, 32, load<u32>(src + 4 * i))));
    }
  }
  return finish(dst, kind >= CVTPI2PS ? 8 : 16);
}

function intToF64(value: i64): u64 {
  fpFromInt(value);
  return fpPack64();
}
