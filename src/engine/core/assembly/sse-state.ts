// MXCSR: the environment of SSE floating point and what it does about exceptions (Intel SDM volume 1, 10.2.3, 11.5).

import { STATE_CR4, STATE_FAULT_ERROR, STATE_FAULT_VECTOR, STATE_MXCSR, STATE_SSE_FAST } from './layout';
import { fpBegin, fpFlags, fpMasked } from './softfloat';

const VECTOR_UD: i32 = 6;
const VECTOR_GP: i32 = 13;
const VECTOR_XM: i32 = 19;
/** CR4.OSXMMEXCPT: without it an unmasked exception is #UD. */
const OSXMMEXCPT: u32 = 1 << 10;
/** MXCSR with which native operations give the right result and no news: all masked, PE set already. */
const FAST_BITS: u32 = 0xffe0;
const FAST_VALUE: u32 = 0x1fa0;

function fault(vector: i32): i32 {
  store<i32>(STATE_FAULT_VECTOR, vector);
  store<u32>(STATE_FAULT_ERROR, 0);
  return 2;
}

/** Brings STATE_SSE_FAST up to date; to be called after every change of MXCSR. */
export function updateSseFast(): void {
  store<u32>(STATE_SSE_FAST, u32((load<u32>(STATE_MXCSR) & FAST_BITS) == FAST_VALUE));
}

/** LDMXCSR: 0, or 2 for #GP when reserved bits are set. */
export function ldmxcsr(value: u32): i32 {
  if (value & 0xffff0000) return fault(VECTOR_GP);
  store<u32>(STATE_MXCSR, value);
  updateSseFast();
  return 0;
}

/** Starts an operation under MXCSR. */
export function sseBegin(): void {
  const mxcsr = load<u32>(STATE_MXCSR);
  fpBegin((mxcsr >> 13) & 3, (mxcsr >> 7) & 0x3f, (mxcsr & 0x40) != 0, (mxcsr & 0x8000) != 0, false);
}

/** Records the exceptions of the operation: 0, or 2 when one is unmasked and the result must not be written. */
export function sseEnd(): i32 {
  let flags: u32 = fpFlags;
  if (flags == 0) return 0;
  const unmasked = flags & ~fpMasked;
  // Invalid, denormal and zero-divide are found before the computation, which then does not take place.
  if (unmasked & 7) flags &= 7;
  store<u32>(STATE_MXCSR, load<u32>(STATE_MXCSR) | flags);
  updateSseFast();
  if (!unmasked) return 0;
  return fault(load<u32>(STATE_CR4) & OSXMMEXCPT ? VECTOR_XM : VECTOR_UD);
}
