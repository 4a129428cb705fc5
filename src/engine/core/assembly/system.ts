// The small privileged instructions, time stamps and segment bases.
import { flushTlb, flushTlbNonGlobal, flushTlbPage, selectTlbBank } from './tlb';
import {
  EXIT_HALT,
  STATE_HALTED,
  STATE_INTR_PENDING,
  STATE_INTR_SHADOW,
  STATE_KERNEL_GS_BASE,
  STATE_SEG_BASE,
  STATE_TSC_AUX,
} from './layout';
import { readBlock } from './mmu';
import { tsc } from './msr';
import {
  CR4_FSGSBASE,
  CR4_PCIDE,
  CR4_TSD,
  DONE,
  FAULT,
  FLAG_AC,
  FLAG_IF,
  GS,
  LOOKUP,
  RAX,
  RCX,
  RDX,
  VECTOR_GP,
  VECTOR_UD,
  attendSoon,
  canonical,
  cpl,
  cr4,
  fault,
  iopl,
  leave,
  mode64,
  protectedMode,
  setReg,
  setRip,
  setSystemFlags,
  systemFlags,
  virtual8086,
} from './state';

const descriptor: usize = memory.data(16);

function goOn(next: i64): i32 {
  setRip(next);
  return LOOKUP;
}

export function invlpg(address: i64, next: i64): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  flushTlbPage(address);
  return goOn(next);
}

export function invpcid(type: i64, address: i64, next: i64): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  if (<u64>type > 3) return fault(VECTOR_GP, 0);
  if (readBlock(address, descriptor, 16)) return FAULT;
  const pcid = load<i64>(descriptor);
  const linear = load<i64>(descriptor, 8);
  if (<u64>pcid >> 12) return fault(VECTOR_GP, 0);
  if (type <= 1 && (cr4() & CR4_PCIDE) == 0 && pcid != 0) return fault(VECTOR_GP, 0);
  if (type == 0 && !canonical(linear)) return fault(VECTOR_GP, 0);
  if (type == 0) flushTlbPage(linear);
  else if (type == 2) flushTlb();
  else flushTlbNonGlobal();
  return goOn(next);
}

export function wbinvd(): i32 {
  return cpl() != 0 ? fault(VECTOR_GP, 0) : DONE;
}

export function hlt(next: i64): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  store<u32>(STATE_HALTED, 1);
  store<u32>(STATE_INTR_SHADOW, 0);
  setRip(next);
  return leave(EXIT_HALT);
}

function interruptFlagAllowed(): bool {
  return !protectedMode() || cpl() <= iopl();
}

export function cli(): i32 {
  if (!interruptFlagAllowed()) return fault(VECTOR_GP, 0);
  setSystemFlags(systemFlags() & ~FLAG_IF);
  return DONE;
}

export function sti(): i32 {
  if (!interruptFlagAllowed()) return fault(VECTOR_GP, 0);
  if ((systemFlags() & FLAG_IF) == 0) {
    setSystemFlags(systemFlags() | FLAG_IF);
    store<u32>(STATE_INTR_SHADOW, 1);
    if (load<u32>(STATE_INTR_PENDING)) attendSoon();
  }
  return DONE;
}

export function swapgs(): i32 {
  if (!mode64()) return fault(VECTOR_UD, 0);
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  const at = STATE_SEG_BASE + GS * 8;
  const base = load<i64>(at);
  store<i64>(at, load<i64>(STATE_KERNEL_GS_BASE));
  store<i64>(STATE_KERNEL_GS_BASE, base);
  return DONE;
}

export function rdtsc(): i32 {
  if ((cr4() & CR4_TSD) != 0 && cpl() != 0 && protectedMode()) return fault(VECTOR_GP, 0);
  const value = tsc();
  setReg(RAX, value & 0xffffffff);
  setReg(RDX, <i64>(<u64>value >> 32));
  return DONE;
}

export function rdtscp(): i32 {
  if (rdtsc()) return FAULT;
  setReg(RCX, load<i64>(STATE_TSC_AUX) & 0xffffffff);
  return DONE;
}

/** There are no performance counters. */
export function rdpmc(): i32 {
  return fault(VECTOR_GP, 0);
}

/** RDFSBASE, RDGSBASE: 4 = FS, 5 = GS. */
export function readSegmentBase(segment: i32): i64 {
  if (!mode64() || (cr4() & CR4_FSGSBASE) == 0) fault(VECTOR_UD, 0);
  return load<i64>(STATE_SEG_BASE + ((<usize>segment) << 3));
}

export function writeSegmentBase(segment: i32, value: i64): i32 {
  if (!mode64() || (cr4() & CR4_FSGSBASE) == 0) return fault(VECTOR_UD, 0);
  if (!canonical(value)) return fault(VECTOR_GP, 0);
  store<i64>(STATE_SEG_BASE + ((<usize>segment) << 3), value);
  return DONE;
}

function setAlignmentCheck(set: bool): i32 {
  if (cpl() != 0 || virtual8086()) return fault(VECTOR_UD, 0);
  setSystemFlags(set ? systemFlags() | FLAG_AC : systemFlags() & ~FLAG_AC);
  selectTlbBank();
  return DONE;
}

export function stac(): i32 {
  return setAlignmentCheck(true);
}

export function clac(): i32 {
  return setAlignmentCheck(false);
}
