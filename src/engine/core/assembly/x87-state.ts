// The x87 register stack, status word and exceptions (Intel SDM volume 1, chapter 8).

import {
  STATE_FCW,
  STATE_FSW,
  STATE_FTW,
  STATE_ST,
  STATE_FAULT_VECTOR,
  STATE_FAULT_ERROR,
  STATE_FLAG_CARRY,
  STATE_FLAG_RESULT,
} from './layout';
import {
  FP_IE,
  FP_INDEFINITE,
  fpA80,
  fpB80,
  fpBegin,
  fpFlags,
  fpMasked,
  fpRaise,
  fpRound80,
  fpSetUp,
  fpStore80,
  fpUp,
} from './softfloat';

/** Stack fault bit of the status word. */
export const X87_SF: i32 = 0x40;
export const X87_C0: u32 = 0x100;
export const X87_C1: u32 = 0x200;
export const X87_C2: u32 = 0x400;
export const X87_C3: u32 = 0x4000;
const SUMMARY: u32 = 0x8080;
const VECTOR_UD: i32 = 6;
const VECTOR_MF: i32 = 16;

/** Raises an exception in the guest; returns 2 as the core's instructions do. */
function fault(vector: i32): i32 {
  store<i32>(STATE_FAULT_VECTOR, vector);
  store<u32>(STATE_FAULT_ERROR, 0);
  return 2;
}

export function x87Undefined(): i32 {
  return fault(VECTOR_UD);
}

/**
 * FWAIT, and what every waiting instruction does first: #MF if an unmasked exception is pending. With CR0.NE
 * clear it is #MF too: there is no external interrupt 13.
 */
export function x87Wait(): i32 {
  return load<u32>(STATE_FSW) & 0x80 ? fault(VECTOR_MF) : 0;
}

/** Starts an instruction with the control word's rounding mode and masks. */
export function x87Begin(): void {
  const fcw = load<u32>(STATE_FCW);
  fpBegin((fcw >> 10) & 3, fcw & 0x3f, false, false, true);
}

/** Significand bits that precision control asks for. */
export function x87Precision(): i32 {
  const pc = (load<u32>(STATE_FCW) >> 8) & 3;
  return pc == 0 ? 24 : pc == 2 ? 53 : 64;
}

function top(): u32 {
  return (load<u32>(STATE_FSW) >> 11) & 7;
}

/** Address of ST(i). */
export function x87St(i: u32): usize {
  return STATE_ST + (((top() + i) & 7) << 4);
}

/** Not 0: ST(i) is in use. */
export function x87Used(i: u32): u32 {
  return (load<u32>(STATE_FTW) >> ((top() + i) & 7)) & 1;
}

export function x87SetUsed(i: u32, used: u32): void {
  const bit: u32 = 1 << ((top() + i) & 7);
  const ftw = load<u32>(STATE_FTW);
  store<u32>(STATE_FTW, used ? ftw | bit : ftw & ~bit);
}

/** Adds to TOP, modulo 8. */
export function x87Rotate(by: u32): void {
  const fsw = load<u32>(STATE_FSW);
  store<u32>(STATE_FSW, (fsw & ~0x3800) | ((((fsw >> 11) + by) & 7) << 11));
}

export function x87Pop(): void {
  x87SetUsed(0, 0);
  x87Rotate(1);
}

/** A = ST(i). */
export function x87LoadA(i: u32): void {
  const p = x87St(i);
  fpA80(load<u64>(p), load<u16>(p, 8));
}

/** B = ST(i). */
export function x87LoadB(i: u32): void {
  const p = x87St(i);
  fpB80(load<u64>(p), load<u16>(p, 8));
}

/** Sets C0, C2 and C3 to the given bits and clears C1. */
export function x87SetCodes(bits: u32): void {
  store<u32>(STATE_FSW, (load<u32>(STATE_FSW) & ~0x4700) | bits);
}

/** Clears C1. */
export function x87ClearC1(): void {
  store<u32>(STATE_FSW, load<u32>(STATE_FSW) & ~X87_C1);
}

/**
 * Records the exceptions of the instruction in the status word, C1 included.
 * @returns whether its result may be written: no unmasked invalid, denormal or zero-divide exception
 */
export function x87Commit(): bool {
  let flags: u32 = fpFlags;
  const unmasked = flags & ~fpMasked & 0x3f;
  const prevented = (unmasked & 7) != 0;
  if (prevented) flags &= 7 | X87_SF;
  let fsw = (load<u32>(STATE_FSW) & ~X87_C1) | flags;
  if (fpUp && (!prevented || flags & X87_SF)) fsw |= X87_C1;
  if (unmasked) fsw |= SUMMARY;
  store<u32>(STATE_FSW, fsw);
  return !prevented;
}

/** Records a stack fault; `overflow` goes to C1. True if it is masked and the response may be stored. */
export function x87StackFault(overflow: i32): bool {
  fpRaise(FP_IE | X87_SF);
  fpSetUp(overflow);
  return x87Commit();
}

/** Writes the real indefinite to an 80-bit register or memory operand. */
export function x87StoreIndefinite(ptr: usize): void {
  store<u64>(ptr, FP_INDEFINITE);
  store<u16>(ptr, 0xffff, 8);
}

/** Stack underflow of an instruction whose result goes to ST(i) and which pops `pops` times. */
export function x87Underflow(i: u32, pops: u32): void {
  if (!x87StackFault(0)) return;
  x87StoreIndefinite(x87St(i));
  x87SetUsed(i, 1);
  for (; pops; pops--) x87Pop();
}

/** Rounds R to `precision` bits, commits and writes it to ST(i), then pops if asked. False if not written. */
export function x87Finish(i: u32, precision: i32, pop: bool): bool {
  fpRound80(precision);
  if (!x87Commit()) return false;
  fpStore80(x87St(i));
  if (pop) x87Pop();
  return true;
}

/** Makes room for a push; false after an overflow, which is then dealt with completely. */
export function x87CanPush(): bool {
  if (!x87Used(7)) return true;
  if (x87StackFault(1)) {
    x87Rotate(7);
    x87StoreIndefinite(x87St(0));
  }
  return false;
}

/** Pushes raw 80-bit contents; there must be room. */
export function x87PushRaw(sig: u64, signExp: u32): void {
  x87Rotate(7);
  const p = x87St(0);
  store<u64>(p, sig);
  store<u16>(p, u16(signExp), 8);
  x87SetUsed(0, 1);
}

/** Pushes R, rounded; there must be room. */
export function x87PushR(): void {
  x87Rotate(7);
  fpStore80(x87St(0));
  x87SetUsed(0, 1);
}

/** Makes ES and B agree with the flags and the masks, after either changed from outside (FLDCW, FXRSTOR). */
export function x87UpdateSummary(): void {
  const fsw = load<u32>(STATE_FSW);
  const pending = fsw & ~load<u32>(STATE_FCW) & 0x3f;
  store<u32>(STATE_FSW, pending ? fsw | SUMMARY : fsw & ~SUMMARY);
}

/** Sets the lazy flags to the given ZF, PF, CF with OF, SF and AF clear. */
export function setCompareFlags(zf: bool, pf: bool, cf: bool): void {
  // Results 0 and 1 have parity flags 1 and 0; bit 0 of the carry vector inverts that.
  store<i64>(STATE_FLAG_RESULT, zf ? 0 : 1);
  store<u64>(STATE_FLAG_CARRY, (cf ? 0xc000000000000000 : 0) | u64(zf != pf));
}

/** Sets the lazy flags from a comparison (-1, 0, 1, 2 = unordered) as FCOMI and COMISD do. */
export function setOrderFlags(order: i32): void {
  setCompareFlags(order == 0 || order == 2, order == 2, order == -1 || order == 2);
}
