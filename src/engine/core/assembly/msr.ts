// Model-specific registers that the core keeps; all others are asked of JavaScript.
import { flushTlb } from './tlb';
import { readMsr, tscNow, writeMsr } from './env';
import {
  STATE_APIC_BASE,
  STATE_CSTAR,
  STATE_EFER,
  STATE_FMASK,
  STATE_KERNEL_GS_BASE,
  STATE_LSTAR,
  STATE_MISC_ENABLE,
  STATE_PAT,
  STATE_SCRATCH,
  STATE_SEG_BASE,
  STATE_STAR,
  STATE_SYSENTER_CS,
  STATE_SYSENTER_EIP,
  STATE_SYSENTER_ESP,
  STATE_TSC_AUX,
  STATE_TSC_OFFSET,
} from './layout';
import { updateMode } from './mode';
import {
  CR0_PG,
  DONE,
  EFER_LMA,
  EFER_LME,
  EFER_NXE,
  EFER_SCE,
  FAULT,
  FS,
  GS,
  LOOKUP,
  PHYSICAL_BITS,
  RAX,
  RCX,
  RDX,
  VECTOR_GP,
  canonical,
  cpl,
  cr0,
  efer,
  fault,
  faultPending,
  reg,
  setReg,
  setRip,
} from './state';

const IA32_TSC: u32 = 0x10;
const IA32_PLATFORM_ID: u32 = 0x17;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
const IA32_MTRRCAP: u32 = 0xfe;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
const IA32_SYSENTER_EIP: u32 = 0x176;
const IA32_MISC_ENABLE: u32 = 0x1a0;
const MTRR_VARIABLE_FIRST: u32 = 0x200;
const MTRR_VARIABLE_LAST: u32 = 0x20f;
const IA32_PAT: u32 = 0x277;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
const IA32_EFER: u32 = 0xc0000080;
const IA32_STAR: u32 = 0xc0000081;
const IA32_LSTAR: u32 = 0xc0000082;
const IA32_CSTAR: u32 = 0xc0000083;
const IA32_FMASK: u32 = 0xc0000084;
const IA32_FS_BASE: u32 = 0xc0000100;
const IA32_GS_BASE: u32 = 0xc0000101;
const IA32_KERNEL_GS_BASE: u32 = 0xc0000102;
const IA32_TSC_AUX: u32 = 0xc0000103;

/** Eight variable ranges, fixed ranges, write-combining. */
const MTRRCAP: i64 = 0x508;
/** Enabled, write-back by default: what firmware leaves behind. */
const MTRR_DEFAULT: i64 = 0x806;
const MTRR_DEFAULT_BITS: i64 = 0xcff;
const PAT_DEFAULT: i64 = 0x0007040600070406;
/** Fast strings. */
const MISC_ENABLE_DEFAULT: i64 = 0x1;
const EFER_BITS: i64 = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
const APIC_BASE_DEFAULT: i64 = 0xfee00900;
/** BSP, x2APIC enable, enable, and the address. */
const APIC_BASE_BITS: i64 = ((((<i64>1) << PHYSICAL_BITS) - 1) & ~0xfff) | 0xd00;

/** MTRRs are plain storage: 16 variable, 11 fixed, the default type (i64 each). */
const mtrrs: usize = memory.data(224);
const MTRR_DEF_TYPE_SLOT: usize = 27 * 8;

export function resetMsrs(): void {
  store<i64>(STATE_EFER, 0);
  store<i64>(STATE_PAT, PAT_DEFAULT);
  store<i64>(STATE_MISC_ENABLE, MISC_ENABLE_DEFAULT);
  store<i64>(STATE_APIC_BASE, APIC_BASE_DEFAULT);
  memory.fill(mtrrs, 0, 224);
  store<i64>(mtrrs + MTRR_DEF_TYPE_SLOT, MTRR_DEFAULT);
}

/** The guest's time-stamp counter. */
export function tsc(): i64 {
  return <i64>tscNow() + load<i64>(STATE_TSC_OFFSET);
}

/** Address of a register that is storage without side effects, 0 if it is none. */
function plainRegister(index: u32): usize {
  if (index == IA32_SYSENTER_CS) return STATE_SYSENTER_CS;
  if (index == IA32_STAR) return STATE_STAR;
  if (index == IA32_MISC_ENABLE) return STATE_MISC_ENABLE;
  return 0;
}

/** Address of a register that holds a canonical linear address, 0 if it is none. */
function addressRegister(index: u32): usize {
  if (index == IA32_SYSENTER_ESP) return STATE_SYSENTER_ESP;
  if (index == IA32_SYSENTER_EIP) return STATE_SYSENTER_EIP;
  if (index == IA32_LSTAR) return STATE_LSTAR;
  if (index == IA32_CSTAR) return STATE_CSTAR;
  if (index == IA32_FS_BASE) return STATE_SEG_BASE + FS * 8;
  if (index == IA32_GS_BASE) return STATE_SEG_BASE + GS * 8;
  if (index == IA32_KERNEL_GS_BASE) return STATE_KERNEL_GS_BASE;
  return 0;
}

function mtrrRegister(index: u32): usize {
  if (index >= MTRR_VARIABLE_FIRST && index <= MTRR_VARIABLE_LAST)
    return mtrrs + ((index - MTRR_VARIABLE_FIRST) << 3);
  if (index == 0x250) return mtrrs + 16 * 8;
  if (index == 0x258 || index == 0x259) return mtrrs + ((17 + index - 0x258) << 3);
  if (index >= 0x268 && index <= 0x26f) return mtrrs + ((19 + index - 0x268) << 3);
  if (index == IA32_MTRR_DEF_TYPE) return mtrrs + MTRR_DEF_TYPE_SLOT;
  return 0;
}

/** Address of a register whose value can be read as it is, 0 if there is none. */
function readableRegister(index: u32): usize {
  let at = plainRegister(index);
  if (!at) at = addressRegister(index);
  if (!at) at = mtrrRegister(index);
  if (at) return at;
  if (index == IA32_EFER) return STATE_EFER;
  if (index == IA32_FMASK) return STATE_FMASK;
  if (index == IA32_TSC_AUX) return STATE_TSC_AUX;
  if (index == IA32_PAT) return STATE_PAT;
  if (index == IA32_APIC_BASE) return STATE_APIC_BASE;
  return 0;
}

/** A register by number, or 0 with #GP pending. */
export function readModelRegister(index: u32): i64 {
  const at = readableRegister(index);
  if (at) return load<i64>(at);
  if (index == IA32_TSC) return tsc();
  if (index == IA32_MTRRCAP) return MTRRCAP;
  // No microcode update is loaded, and there is no platform to tell apart.
  if (index == IA32_BIOS_SIGN_ID || index == IA32_PLATFORM_ID) return 0;
  if (readMsr(index)) return load<i64>(STATE_SCRATCH);
  fault(VECTOR_GP, 0);
  return 0;
}

export function rdmsr(): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  const value = readModelRegister(<u32>reg(RCX));
  if (faultPending()) return FAULT;
  setReg(RAX, value & 0xffffffff);
  setReg(RDX, <i64>(<u64>value >> 32));
  return DONE;
}

/** Memory types 0, 1, 4, 5, 6, and 7 where allowed. */
function validMemoryTypes(value: i64, highest: i64): bool {
  for (let i = 0; i < 8; i++) {
    const type = value & 0xff;
    if (type > highest || type == 2 || type == 3) return false;
    value >>= 8;
  }
  return true;
}

function writeEfer(value: i64): i32 {
  const changesLme = ((value ^ efer()) & EFER_LME) != 0;
  if ((value & ~EFER_BITS) != 0 || (changesLme && (cr0() & CR0_PG) != 0)) return fault(VECTOR_GP, 0);
  store<i64>(STATE_EFER, (value & ~EFER_LMA) | (efer() & EFER_LMA));
  flushTlb();
  updateMode();
  return LOOKUP;
}

/** Bits 31:0 of a 64-bit register are all it has. */
function writeLow(at: usize, value: i64): i32 {
  if (<u64>value >> 32) return fault(VECTOR_GP, 0);
  store<i64>(at, value);
  return DONE;
}

function writeMtrr(index: u32, at: usize, value: i64): i32 {
  if (index == IA32_MTRR_DEF_TYPE && (value & ~MTRR_DEFAULT_BITS) != 0) return fault(VECTOR_GP, 0);
  if (index >= 0x250 && index <= 0x26f && !validMemoryTypes(value, 6)) return fault(VECTOR_GP, 0);
  store<i64>(at, value);
  return DONE;
}

/** Writes a register. Code 0, 1 (look up again) or 2. */
function writeModelRegister(index: u32, value: i64): i32 {
  const address = addressRegister(index);
  if (address) {
    if (!canonical(value)) return fault(VECTOR_GP, 0);
    store<i64>(address, value);
    return DONE;
  }
  const mtrr = mtrrRegister(index);
  if (mtrr) return writeMtrr(index, mtrr, value);
  const plain = plainRegister(index);
  if (plain) {
    store<i64>(plain, value);
    return DONE;
  }
  if (index == IA32_EFER) return writeEfer(value);
  if (index == IA32_FMASK) return writeLow(STATE_FMASK, value);
  if (index == IA32_TSC_AUX) return writeLow(STATE_TSC_AUX, value);
  if (index == IA32_PAT) {
    if (!validMemoryTypes(value, 7)) return fault(VECTOR_GP, 0);
    store<i64>(STATE_PAT, value);
    return DONE;
  }
  if (index == IA32_TSC) {
    store<i64>(STATE_TSC_OFFSET, value - <i64>tscNow());
    return DONE;
  }
  if (index == IA32_BIOS_SIGN_ID) return DONE;
  store<i64>(STATE_SCRATCH, value);
  if (index == IA32_APIC_BASE) return writeApicBase(value);
  return writeMsr(index) ? DONE : fault(VECTOR_GP, 0);
}

/** The APIC follows mode changes: JavaScript is told, and may refuse. */
function writeApicBase(value: i64): i32 {
  if ((value & ~APIC_BASE_BITS) != 0 || (value & 0xc00) == 0x400) return fault(VECTOR_GP, 0);
  if (!writeMsr(IA32_APIC_BASE)) return fault(VECTOR_GP, 0);
  store<i64>(STATE_APIC_BASE, value);
  return DONE;
}

export function wrmsr(next: i64): i32 {
  if (cpl() != 0) return fault(VECTOR_GP, 0);
  const value = (reg(RAX) & 0xffffffff) | (reg(RDX) << 32);
  const code = writeModelRegister(<u32>reg(RCX), value);
  if (code == LOOKUP) setRip(next);
  return code;
}
