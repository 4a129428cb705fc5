// x87 instructions with a memory operand, and saving and restoring the unit's state.

import {
  STATE_FCW,
  STATE_FSW,
  STATE_FTW,
  STATE_SCRATCH,
  STATE_ST,
  STATE_FOP,
  STATE_FIP,
  STATE_FDP,
  STATE_FCS,
  STATE_FDS,
} from './layout';
import {
  FP_CHOP,
  FP_FINITE,
  FP_OE,
  FP_PE,
  FP_UE,
  aClass,
  fpA32,
  fpA64,
  fpB32,
  fpB64,
  fpBInt,
  fpCheckDenormal,
  fpCopyA,
  fpFlags,
  fpFromInt,
  fpLower,
  fpMasked,
  fpNanA,
  fpPack32,
  fpPack64,
  fpSetRc,
  fpToInt,
} from './softfloat';
import {
  x87Begin,
  x87CanPush,
  x87ClearC1,
  x87Commit,
  x87Finish,
  x87LoadA,
  x87Pop,
  x87Precision,
  x87PushR,
  x87PushRaw,
  x87St,
  x87StackFault,
  x87StoreIndefinite,
  x87Undefined,
  x87Underflow,
  x87UpdateSummary,
  x87Used,
  x87Wait,
} from './x87-state';
import { x87Arithmetic, x87CompareCodes, x87CompareUnderflow, x87Init } from './x87';
import { probeWrite, writeBlock } from './mmu';
import { FAULT } from './state';
import { currentBank } from './tlb';
import { x87LoadDecimal, x87StoreDecimal } from './x87-decimal';

/** Pushes A, converted from a narrower format. A denormal is pushed even if DE is not masked. */
function pushConverted(): void {
  if (!x87CanPush()) return;
  if (!fpNanA()) fpCopyA();
  fpCheckDenormal();
  if (x87Commit() || aClass == FP_FINITE) x87PushR();
}

function pushInteger(value: i64): void {
  if (!x87CanPush()) return;
  x87ClearC1();
  fpFromInt(value);
  x87PushR();
}

/** D8, DA, DC, DE: arithmetic and comparison of ST(0) with the operand. */
function memoryArithmetic(escape: i32, reg: i32, ptr: usize): void {
  const isCompare = reg == 2 || reg == 3;
  if (!x87Used(0)) {
    if (isCompare) x87CompareUnderflow(reg & 1);
    else x87Underflow(0, 0);
    return;
  }
  x87LoadA(0);
  if (escape == 0) fpB32(load<u32>(ptr));
  else if (escape == 4) fpB64(load<u64>(ptr));
  else if (escape == 2) fpBInt(load<i32>(ptr));
  else fpBInt(load<i16>(ptr));
  if (isCompare) {
    if (x87CompareCodes(true) && reg == 3) x87Pop();
    return;
  }
  x87Arithmetic(reg);
  x87Finish(0, x87Precision(), false);
}

/**
 * Executes an x87 instruction that reads memory, other than FLDENV and FRSTOR.
 * @param code ((opcode & 7) << 3) | modrm.reg
 * @param ptr address of the operand in linear memory
 * @returns 0, or 2 when STATE_FAULT_VECTOR has been set
 */
export function x87MemoryRead(code: i32, ptr: usize): i32 {
  const escape = code >> 3;
  const reg = code & 7;
  if (x87Wait()) return 2;
  x87Begin();
  if (!(escape & 1)) memoryArithmetic(escape, reg, ptr);
  else if (escape == 1) {
    if (reg == 0) {
      fpA32(load<u32>(ptr));
      pushConverted();
    } else if (reg == 5) {
      store<u32>(STATE_FCW, (u32(load<u16>(ptr)) & 0x1f3f) | 0x40);
      x87UpdateSummary();
    } else return x87Undefined();
  } else if (escape == 3) {
    if (reg == 0) pushInteger(load<i32>(ptr));
    else if (reg == 5) {
      if (!x87CanPush()) return 0;
      x87ClearC1();
      x87PushRaw(load<u64>(ptr), load<u16>(ptr, 8));
    } else return x87Undefined();
  } else if (escape == 5) {
    if (reg != 0) return x87Undefined();
    fpA64(load<u64>(ptr));
    pushConverted();
  } else if (reg == 0) pushInteger(load<i16>(ptr));
  else if (reg == 5) pushInteger(load<i64>(ptr));
  else if (reg == 4) {
    if (!x87CanPush()) return 0;
    x87ClearC1();
    x87LoadDecimal(ptr);
    x87PushR();
  } else return x87Undefined();
  return 0;
}

function storeIntegerTo(ptr: usize, size: i32, value: i64): void {
  if (size == 2) store<i16>(ptr, i16(value));
  else if (size == 4) store<i32>(ptr, i32(value));
  else store<i64>(ptr, value);
}

/** FIST, FISTP, FISTTP. */
function storeInteger(ptr: usize, size: i32, pop: bool): i32 {
  if (!x87Used(0)) {
    if (!x87StackFault(0)) return 0;
    storeIntegerTo(ptr, size, i64.MIN_VALUE >> (64 - 8 * size));
  } else {
    x87LoadA(0);
    const value = fpToInt(8 * size);
    if (!x87Commit()) return 0;
    storeIntegerTo(ptr, size, value);
  }
  if (pop) x87Pop();
  return 0;
}

/** FST and FSTP to binary32 and binary64. */
function storeFloat(ptr: usize, size: i32, pop: bool): i32 {
  let bits: u64 = size == 4 ? 0xffc00000 : 0xfff8000000000000;
  if (!x87Used(0)) {
    if (!x87StackFault(0)) return 0;
  } else {
    x87LoadA(0);
    if (!fpNanA()) fpCopyA();
    bits = size == 4 ? u64(fpPack32()) : fpPack64();
    // Unmasked overflow and underflow store nothing and report no inexact result.
    const kept = fpFlags & ~fpMasked & (FP_OE | FP_UE);
    if (kept) fpLower(FP_PE);
    if (!x87Commit() || kept) return 0;
  }
  if (size == 4) store<u32>(ptr, u32(bits));
  else store<u64>(ptr, bits);
  if (pop) x87Pop();
  return 0;
}

function storeExtended(ptr: usize): i32 {
  if (!x87Used(0)) {
    if (!x87StackFault(0)) return 0;
    x87StoreIndefinite(ptr);
  } else {
    const p = x87St(0);
    store<u64>(ptr, load<u64>(p));
    store<u16>(ptr, load<u16>(p, 8), 8);
    x87ClearC1();
  }
  x87Pop();
  return 0;
}

/**
 * Executes an x87 instruction that stores to memory, other than FNSTENV and FNSAVE.
 * @param code ((opcode & 7) << 3) | modrm.reg
 * @param ptr address of the operand in linear memory
 * @returns 0, or 2 when STATE_FAULT_VECTOR has been set. With 0 the operand keeps its old content if an unmasked
 *   exception was recorded that prevents the store.
 */
export function x87MemoryWrite(code: i32, ptr: usize): i32 {
  const escape = code >> 3;
  const reg = code & 7;
  if (reg == 7 && (escape == 1 || escape == 5)) {
    store<u16>(ptr, u16(load<u32>(escape == 1 ? STATE_FCW : STATE_FSW)));
    return 0;
  }
  if (x87Wait()) return 2;
  x87Begin();
  if (reg == 1 && escape > 1) {
    fpSetRc(FP_CHOP);
    return storeInteger(ptr, escape == 3 ? 4 : escape == 5 ? 8 : 2, true);
  }
  if (reg == 2 || reg == 3) {
    if (escape == 1) return storeFloat(ptr, 4, reg == 3);
    if (escape == 5) return storeFloat(ptr, 8, reg == 3);
    return storeInteger(ptr, escape == 3 ? 4 : 2, reg == 3);
  }
  if (escape == 3 && reg == 7) return storeExtended(ptr);
  if (escape == 7 && reg == 7) return storeInteger(ptr, 8, true);
  if (escape == 7 && reg == 6) return x87StoreDecimal(ptr);
  return x87Undefined();
}

/** The full tag word: 2 bits per physical register, 0 valid, 1 zero, 2 special, 3 empty. */
function fullTags(): u32 {
  let tags: u32 = 0;
  const used = load<u32>(STATE_FTW);
  for (let i: u32 = 0; i < 8; i++) {
    const p = STATE_ST + (i << 4);
    const exp = load<u16>(p, 8) & 0x7fff;
    const sig = load<i64>(p);
    let tag: u32 = 3;
    if ((used >> i) & 1) {
      if (exp == 0 && sig == 0) tag = 1;
      else tag = exp != 0 && exp != 0x7fff && sig < 0 ? 0 : 2;
    }
    tags |= tag << (2 * i);
  }
  return tags;
}

/**
 * FNSTENV, and FNSAVE when `full`: the protected-mode layouts.
 * @param is32 not 0 for the 28-byte layout, 0 for the 14-byte one
 */
export function x87StoreEnvironment(ptr: usize, is32: i32, full: i32): i32 {
  const fcw = load<u32>(STATE_FCW);
  const fsw = load<u32>(STATE_FSW);
  const tags = fullTags();
  let registers = ptr + 28;
  if (is32) {
    store<u32>(ptr, fcw | 0xffff0000);
    store<u32>(ptr, fsw | 0xffff0000, 4);
    store<u32>(ptr, tags | 0xffff0000, 8);
    store<u32>(ptr, load<u32>(STATE_FIP), 12);
    store<u32>(ptr, (load<u32>(STATE_FCS) & 0xffff) | ((load<u32>(STATE_FOP) & 0x7ff) << 16), 16);
    store<u32>(ptr, load<u32>(STATE_FDP), 20);
    store<u32>(ptr, load<u32>(STATE_FDS) | 0xffff0000, 24);
  } else {
    store<u16>(ptr, u16(fcw));
    store<u16>(ptr, u16(fsw), 2);
    store<u16>(ptr, u16(tags), 4);
    store<u16>(ptr, load<u16>(STATE_FIP), 6);
    store<u16>(ptr, load<u16>(STATE_FCS), 8);
    store<u16>(ptr, load<u16>(STATE_FDP), 10);
    store<u16>(ptr, load<u16>(STATE_FDS), 12);
    registers = ptr + 14;
  }
  if (!full) {
    store<u32>(STATE_FCW, fcw | 0x3f);
    x87UpdateSummary();
    return 0;
  }
  for (let i: u32 = 0; i < 8; i++, registers += 10) {
    const p = x87St(i);
    store<u64>(registers, load<u64>(p));
    store<u16>(registers, load<u16>(p, 8), 8);
  }
  x87Init();
  return 0;
}

/** The same to guest memory, of `length` bytes in all; a fault leaves the unit as it was. Code 0 or 2. */
export function x87SaveEnvironment(address: i64, length: i32, is32: i32, full: i32): i32 {
  if (probeWrite(address, length, currentBank())) return FAULT;
  x87StoreEnvironment(STATE_SCRATCH, is32, full);
  return writeBlock(address, STATE_SCRATCH, length);
}

/**
 * FLDENV, and FRSTOR when `full`: the protected-mode layouts.
 * @param is32 not 0 for the 28-byte layout, 0 for the 14-byte one
 * @returns 0, or 2 when STATE_FAULT_VECTOR has been set
 */
export function x87LoadEnvironment(ptr: usize, is32: i32, full: i32): i32 {
  if (x87Wait()) return 2;
  let tags: u32 = 0;
  let registers = ptr + 28;
  store<u32>(STATE_FCW, (u32(load<u16>(ptr)) & 0x1f3f) | 0x40);
  if (is32) {
    store<u32>(STATE_FSW, load<u16>(ptr, 4));
    tags = load<u16>(ptr, 8);
    store<u64>(STATE_FIP, load<u32>(ptr, 12));
    store<u32>(STATE_FCS, load<u16>(ptr, 16));
    store<u32>(STATE_FOP, load<u16>(ptr, 18) & 0x7ff);
    store<u64>(STATE_FDP, load<u32>(ptr, 20));
    store<u32>(STATE_FDS, load<u16>(ptr, 24));
  } else {
    store<u32>(STATE_FSW, load<u16>(ptr, 2));
    tags = load<u16>(ptr, 4);
    store<u64>(STATE_FIP, load<u16>(ptr, 6));
    store<u32>(STATE_FCS, load<u16>(ptr, 8));
    store<u64>(STATE_FDP, load<u16>(ptr, 10));
    store<u32>(STATE_FDS, load<u16>(ptr, 12));
    registers = ptr + 14;
  }
  let used: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) if (((tags >> (2 * i)) & 3) != 3) used |= 1 << i;
  store<u32>(STATE_FTW, used);
  x87UpdateSummary();
  if (!full) return 0;
  for (let i: u32 = 0; i < 8; i++, registers += 10) {
    const p = x87St(i);
    store<u64>(p, load<u64>(registers));
    store<u16>(p, load<u16>(registers, 8), 8);
  }
  return 0;
}
