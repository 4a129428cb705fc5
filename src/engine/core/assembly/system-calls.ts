// SYSCALL, SYSRET, SYSENTER, SYSEXIT as Intel's CPUs do them (SYSCALL in 64-bit mode only).
import { setPrivilege } from './descriptors';
import { getFlags, replaceFlags } from './flags';
import {
  STATE_FMASK,
  STATE_LSTAR,
  STATE_STAR,
  STATE_STEPPING,
  STATE_SYSENTER_CS,
  STATE_SYSENTER_EIP,
  STATE_SYSENTER_ESP,
} from './layout';
import { updateMode } from './mode';
import {
  ATTR_BIG,
  ATTR_LONG,
  CS,
  EFER_SCE,
  FLAG_IF,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  LOOKUP,
  R11,
  RCX,
  RDX,
  RSP,
  SS,
  VECTOR_GP,
  VECTOR_UD,
  canonical,
  cpl,
  efer,
  fault,
  longMode,
  mode64,
  protectedMode,
  reg,
  segmentBase,
  setReg,
  setRip,
  setSegment,
  setSystemFlags,
  systemFlags,
} from './state';
import { flushJumpCache } from './tlb';

/** Flags that SYSCALL masks and SYSRET restores: all but RF, VM and reserved ones. */
const FLAGS: i64 = 0x3c7fd7;
/** Present, accessed, 4 GiB code (execute, read) and data (read, write). */
const CODE_ATTR: u32 = 0x809b;
const DATA_ATTR: u32 = 0xc093;

/** Flat CS and SS for a privilege level. */
function enterFlat(codeSelector: i64, stackSelector: i64, level: u32, wide: bool): void {
  if (segmentBase(CS) != 0) flushJumpCache();
  const dpl = level << 5;
  const size = wide ? ATTR_LONG : ATTR_BIG;
  setSegment(CS, (<u32>codeSelector & 0xfffc) | level, 0, 0xffffffff, CODE_ATTR | size | dpl);
  setSegment(SS, (<u32>stackSelector & 0xfffc) | level, 0, 0xffffffff, DATA_ATTR | dpl);
  setPrivilege(level);
}

export function syscall(next: i64): i32 {
  if (!mode64() || (efer() & EFER_SCE) == 0) return fault(VECTOR_UD, 0);
  const flags = getFlags();
  setReg(RCX, next);
  setReg(R11, flags & ~FLAG_RF);
  replaceFlags(flags & ~load<i64>(STATE_FMASK), FLAGS);
  // A trap flag that is masked here is not to trap behind SYSCALL, unlike one that POPF or IRET clears.
  if ((systemFlags() & FLAG_TF) == 0) store<u32>(STATE_STEPPING, 0);
  const selector = load<i64>(STATE_STAR) >> 32;
  enterFlat(selector, selector + 8, 0, true);
  setRip(load<i64>(STATE_LSTAR));
  updateMode();
  return LOOKUP;
}

export function sysret(rexW: i32): i32 {
  if (!mode64() || (efer() & EFER_SCE) == 0) return fault(VECTOR_UD, 0);
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  const target = rexW ? reg(RCX) : reg(RCX) & 0xffffffff;
  if (!canonical(target)) return fault(VECTOR_GP, 0);
  replaceFlags(reg(R11), FLAGS);
  // Unlike POPF and IRET, SYSRET with the trap flag traps before the first instruction that it returns to.
  if (systemFlags() & FLAG_TF) store<u32>(STATE_STEPPING, 1);
  const selector = load<i64>(STATE_STAR) >> 48;
  enterFlat(rexW ? selector + 16 : selector, selector + 8, 3, rexW != 0);
  setRip(target);
  updateMode();
  return LOOKUP;
}

export function sysenter(): i32 {
  const selector = load<i64>(STATE_SYSENTER_CS);
  if (!protectedMode() || (selector & 0xfffc) == 0) return fault(VECTOR_GP, 0);
  setSystemFlags(systemFlags() & ~(FLAG_VM | FLAG_IF | FLAG_RF));
  const wide = longMode();
  enterFlat(selector, (selector & 0xfffc) + 8, 0, wide);
  const mask: i64 = wide ? -1 : 0xffffffff;
  setReg(RSP, load<i64>(STATE_SYSENTER_ESP) & mask);
  setRip(load<i64>(STATE_SYSENTER_EIP) & mask);
  updateMode();
  return LOOKUP;
}

export function sysexit(rexW: i32): i32 {
  const selector = load<i64>(STATE_SYSENTER_CS) & 0xfffc;
  if (!protectedMode() || selector == 0 || cpl() != 0) return fault(VECTOR_GP, 0);
  const mask: i64 = rexW ? -1 : 0xffffffff;
  const target = reg(RDX) & mask;
  const stack = reg(RCX) & mask;
  if (rexW && (!canonical(target) || !canonical(stack))) return fault(VECTOR_GP, 0);
  enterFlat(rexW ? selector + 32 : selector + 16, rexW ? selector + 40 : selector + 24, 3, rexW != 0);
  setReg(RSP, stack);
  setRip(target);
  updateMode();
  return LOOKUP;
}
