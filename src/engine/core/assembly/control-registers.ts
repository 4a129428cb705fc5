// Control and debug registers (Intel SDM volume 3, chapter 2).
import { flushTlb, flushTlbNonGlobal } from './tlb';
import { STATE_CR0, STATE_CR2, STATE_CR3, STATE_CR4, STATE_CR8, STATE_DR, STATE_EFER } from './layout';
import { updateMode } from './mode';
import {
  ATTR_LONG,
  CR0_CD,
  CR0_EM,
  CR0_ET,
  CR0_MP,
  CR0_NW,
  CR0_PE,
  CR0_PG,
  CR0_TS,
  CR0_WP,
  CR4_FSGSBASE,
  CR4_OSFXSR,
  CR4_PAE,
  CR4_PCE,
  CR4_PCIDE,
  CR4_PGE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  CR4_TSD,
  CS,
  DONE,
  EFER_LMA,
  EFER_LME,
  FAULT,
  LOOKUP,
  PHYSICAL_BITS,
  VECTOR_DB,
  VECTOR_GP,
  VECTOR_UD,
  canonical,
  cpl,
  cr0,
  cr4,
  efer,
  fault,
  longMode,
  mode64,
  segmentAttributes,
  setRip,
} from './state';

const CR0_NE: i64 = 0x20;
const CR0_AM: i64 = 0x40000;
const CR0_BITS: i64 =
  CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
/** TLB contents depend on these. */
const CR0_PAGING: i64 = CR0_PE | CR0_PG | CR0_WP;
const CR4_DE: i64 = 0x8;
const CR4_OSXMMEXCPT: i64 = 0x400;
const CR4_BITS: i64 =
  CR4_TSD |
  CR4_DE |
  CR4_PSE |
  CR4_PAE |
  CR4_PGE |
  CR4_PCE |
  CR4_OSFXSR |
  CR4_OSXMMEXCPT |
  CR4_FSGSBASE |
  CR4_PCIDE |
  CR4_SMEP |
  CR4_SMAP;
const CR4_PAGING: i64 = CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP;
const CR3_KEEP: i64 = (<i64>1) << 63;

const DR6_FIXED: i64 = 0xffff0ff0;
const DR7_FIXED: i64 = 0x400;
const DR7_GD: i64 = 0x2000;
const DR6_BD: i64 = 0x2000;

function goOn(next: i64): i32 {
  setRip(next);
  return LOOKUP;
}

function writeCr0(value: i64): i32 {
  if (<u64>value >> 32) return fault(VECTOR_GP, 0);
  // Reserved bits of the low half are ignored, ET is always set.
  value = (value & CR0_BITS) | CR0_ET;
  if ((value & CR0_PG) != 0 && (value & CR0_PE) == 0) return fault(VECTOR_GP, 0);
  if ((value & CR0_NW) != 0 && (value & CR0_CD) == 0) return fault(VECTOR_GP, 0);
  const old = cr0();
  const changed = old ^ value;
  if (changed & CR0_PG) {
    if (value & CR0_PG) {
      if (efer() & EFER_LME) {
        if ((cr4() & CR4_PAE) == 0 || (segmentAttributes(CS) & ATTR_LONG) != 0) return fault(VECTOR_GP, 0);
        store<i64>(STATE_EFER, efer() | EFER_LMA);
      }
    } else {
      if (mode64() || (cr4() & CR4_PCIDE) != 0) return fault(VECTOR_GP, 0);
      store<i64>(STATE_EFER, efer() & ~EFER_LMA);
    }
  }
  store<i64>(STATE_CR0, value);
  if (changed & CR0_PAGING) flushTlb();
  return DONE;
}

function writeCr3(value: i64): i32 {
  const pcid = (cr4() & CR4_PCIDE) != 0;
  if (pcid) value &= ~CR3_KEEP;
  if (longMode() && <u64>value >> PHYSICAL_BITS != 0) return fault(VECTOR_GP, 0);
  store<i64>(STATE_CR3, value);
  // The TLB does not tell address spaces apart, so "keep" (bit 63) cannot be honoured: dropping more is allowed.
  flushTlbNonGlobal();
  return DONE;
}

function writeCr4(value: i64): i32 {
  if (value & ~CR4_BITS) return fault(VECTOR_GP, 0);
  const changed = cr4() ^ value;
  if (longMode() && (value & CR4_PAE) == 0) return fault(VECTOR_GP, 0);
  if ((changed & value & CR4_PCIDE) != 0 && (!longMode() || (load<i64>(STATE_CR3) & 0xfff) != 0)) {
    return fault(VECTOR_GP, 0);
  }
  store<i64>(STATE_CR4, value);
  if (changed & CR4_PAGING) flushTlb();
  return DONE;
}

/** MOV to a control register; see exports.ts. */
export function movToCr(n: i32, value: i64, next: i64): i32 {
  if (n != 0 && n != 2 && n != 3 && n != 4 && n != 8) return fault(VECTOR_UD, 0);
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  if (!mode64()) value &= 0xffffffff;
  let code = DONE;
  if (n == 0) code = writeCr0(value);
  else if (n == 2) store<i64>(STATE_CR2, value);
  else if (n == 3) code = writeCr3(value);
  else if (n == 4) code = writeCr4(value);
  else if (value & ~0xf) code = fault(VECTOR_GP, 0);
  else store<i64>(STATE_CR8, value);
  if (code) return code;
  updateMode();
  return goOn(next);
}

export function movFromCr(n: i32): i64 {
  if (n != 0 && n != 2 && n != 3 && n != 4 && n != 8) fault(VECTOR_UD, 0);
  else if (cpl() != 0) fault(VECTOR_GP, 0);
  else if (n == 0) return load<i64>(STATE_CR0);
  else if (n == 2) return load<i64>(STATE_CR2);
  else if (n == 3) return load<i64>(STATE_CR3);
  else if (n == 4) return load<i64>(STATE_CR4);
  else return load<i64>(STATE_CR8);
  return 0;
}

/** Number of a debug register after aliasing, or -1 with a fault pending. */
function debugRegister(n: i32): i32 {
  if (n > 7 || ((n == 4 || n == 5) && (cr4() & CR4_DE) != 0)) {
    fault(VECTOR_UD, 0);
    return -1;
  }
  if (cpl() != 0) {
    fault(VECTOR_GP, 0);
    return -1;
  }
  const dr7 = STATE_DR + 7 * 8;
  if (load<i64>(dr7) & DR7_GD) {
    store<i64>(dr7, load<i64>(dr7) & ~DR7_GD);
    store<i64>(STATE_DR + 6 * 8, load<i64>(STATE_DR + 6 * 8) | DR6_BD);
    fault(VECTOR_DB, 0);
    return -1;
  }
  return n == 4 || n == 5 ? n + 2 : n;
}

export function movToDr(n: i32, value: i64): i32 {
  const index = debugRegister(n);
  if (index < 0) return FAULT;
  if (!mode64()) value &= 0xffffffff;
  if (index >= 6) {
    if (<u64>value >> 32) return fault(VECTOR_GP, 0);
    value = index == 6 ? (value & 0xe00f) | DR6_FIXED : (value & 0xffff2fff) | DR7_FIXED;
  } else if (!canonical(value) && longMode()) {
    return fault(VECTOR_GP, 0);
  }
  store<i64>(STATE_DR + ((<usize>index) << 3), value);
  return DONE;
}

export function movFromDr(n: i32): i64 {
  const index = debugRegister(n);
  return index < 0 ? 0 : load<i64>(STATE_DR + ((<usize>index) << 3));
}

export function clts(next: i64): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  store<i64>(STATE_CR0, cr0() & ~CR0_TS);
  updateMode();
  return goOn(next);
}

/** LMSW loads PE, MP, EM and TS; it cannot clear PE. */
export function lmsw(value: i64, next: i64): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  const old = cr0();
  store<i64>(STATE_CR0, (old & ~0xe) | (value & 0xf));
  if ((old ^ cr0()) & CR0_PE) flushTlb();
  updateMode();
  return goOn(next);
}

export function smsw(): i64 {
  return cr0();
}
