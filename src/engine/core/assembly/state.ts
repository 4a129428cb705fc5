// Access to the vCPU state, names for architectural bits, and raising faults.
import {
  MODE_CODE64,
  MODE_CODE_SIZE_MASK,
  STATE_CPL,
  STATE_CR0,
  STATE_CR4,
  STATE_EFER,
  STATE_EXIT_REASON,
  STATE_FAULT_ERROR,
  STATE_FAULT_VECTOR,
  STATE_ICOUNT_LIMIT,
  STATE_MODE,
  STATE_REGS,
  STATE_RFLAGS,
  STATE_RIP,
  STATE_SEG_ATTR,
  STATE_SEG_BASE,
  STATE_SEG_LIMIT,
  STATE_SEG_SEL,
} from './layout';

// Return codes of instruction helpers.
export const DONE: i32 = 0;
export const LOOKUP: i32 = 1;
export const FAULT: i32 = 2;
export const LEAVE: i32 = 3;
export const PAUSE: i32 = 4;

// General registers by encoding number.
export const RAX: i32 = 0;
export const RCX: i32 = 1;
export const RDX: i32 = 2;
export const RBX: i32 = 3;
export const RSP: i32 = 4;
export const RBP: i32 = 5;
export const RSI: i32 = 6;
export const RDI: i32 = 7;
export const R11: i32 = 11;

// Segment registers by encoding number.
export const ES: i32 = 0;
export const CS: i32 = 1;
export const SS: i32 = 2;
export const DS: i32 = 3;
export const FS: i32 = 4;
export const GS: i32 = 5;

// Exception vectors.
export const VECTOR_DE: i32 = 0;
export const VECTOR_DB: i32 = 1;
export const VECTOR_NMI: i32 = 2;
export const VECTOR_BP: i32 = 3;
export const VECTOR_OF: i32 = 4;
export const VECTOR_BR: i32 = 5;
export const VECTOR_UD: i32 = 6;
export const VECTOR_NM: i32 = 7;
export const VECTOR_DF: i32 = 8;
export const VECTOR_TS: i32 = 10;
export const VECTOR_NP: i32 = 11;
export const VECTOR_SS: i32 = 12;
export const VECTOR_GP: i32 = 13;
export const VECTOR_PF: i32 = 14;

// RFLAGS.
export const FLAG_CF: i64 = 0x1;
export const FLAG_PF: i64 = 0x4;
export const FLAG_AF: i64 = 0x10;
export const FLAG_ZF: i64 = 0x40;
export const FLAG_SF: i64 = 0x80;
export const FLAG_TF: i64 = 0x100;
export const FLAG_IF: i64 = 0x200;
export const FLAG_DF: i64 = 0x400;
export const FLAG_OF: i64 = 0x800;
export const FLAG_IOPL: i64 = 0x3000;
export const FLAG_NT: i64 = 0x4000;
export const FLAG_RF: i64 = 0x10000;
export const FLAG_VM: i64 = 0x20000;
export const FLAG_AC: i64 = 0x40000;
export const FLAG_VIF: i64 = 0x80000;
export const FLAG_VIP: i64 = 0x100000;
export const FLAG_ID: i64 = 0x200000;

// Control registers and EFER.
export const CR0_PE: i64 = 0x1;
export const CR0_MP: i64 = 0x2;
export const CR0_EM: i64 = 0x4;
export const CR0_TS: i64 = 0x8;
export const CR0_ET: i64 = 0x10;
export const CR0_WP: i64 = 0x10000;
export const CR0_NW: i64 = 0x20000000;
export const CR0_CD: i64 = 0x40000000;
export const CR0_PG: i64 = 0x80000000;
export const CR4_TSD: i64 = 0x4;
export const CR4_PSE: i64 = 0x10;
export const CR4_PAE: i64 = 0x20;
export const CR4_PGE: i64 = 0x80;
export const CR4_PCE: i64 = 0x100;
export const CR4_OSFXSR: i64 = 0x200;
export const CR4_FSGSBASE: i64 = 0x10000;
export const CR4_PCIDE: i64 = 0x20000;
export const CR4_SMEP: i64 = 0x100000;
export const CR4_SMAP: i64 = 0x200000;
export const EFER_SCE: i64 = 0x1;
export const EFER_LME: i64 = 0x100;
export const EFER_LMA: i64 = 0x400;
export const EFER_NXE: i64 = 0x800;

/** Physical addresses are this wide (CPUID 0x80000008). */
export const PHYSICAL_BITS: i64 = 40;

// Segment attributes as kept in STATE_SEG_ATTR.
export const ATTR_TYPE: u32 = 0xf;
export const ATTR_ACCESSED: u32 = 0x1;
/** Data: writable; code: readable. */
export const ATTR_RW: u32 = 0x2;
/** Data: expand down; code: conforming. */
export const ATTR_CONFORMING: u32 = 0x4;
export const ATTR_CODE: u32 = 0x8;
/** Not a system descriptor. */
export const ATTR_S: u32 = 0x10;
export const ATTR_PRESENT: u32 = 0x80;
export const ATTR_LONG: u32 = 0x2000;
export const ATTR_BIG: u32 = 0x4000;
export const ATTR_GRANULAR: u32 = 0x8000;

export function reg(index: i32): i64 {
  return load<i64>(STATE_REGS + ((<usize>index) << 3));
}
export function setReg(index: i32, value: i64): void {
  store<i64>(STATE_REGS + ((<usize>index) << 3), value);
}
export function rip(): i64 {
  return load<i64>(STATE_RIP);
}
export function setRip(value: i64): void {
  store<i64>(STATE_RIP, value);
}
export function cpl(): u32 {
  return load<u32>(STATE_CPL);
}
export function cr0(): i64 {
  return load<i64>(STATE_CR0);
}
export function cr4(): i64 {
  return load<i64>(STATE_CR4);
}
export function efer(): i64 {
  return load<i64>(STATE_EFER);
}
/** RFLAGS without the arithmetic flags. */
export function systemFlags(): i64 {
  return load<i64>(STATE_RFLAGS);
}
export function setSystemFlags(value: i64): void {
  store<i64>(STATE_RFLAGS, value);
}
/** Long mode is active (64-bit or compatibility mode). */
export function longMode(): bool {
  return (efer() & EFER_LMA) != 0;
}
/** 64-bit mode. */
export function mode64(): bool {
  return (load<u32>(STATE_MODE) & MODE_CODE_SIZE_MASK) == MODE_CODE64;
}
export function protectedMode(): bool {
  return (cr0() & CR0_PE) != 0;
}
export function virtual8086(): bool {
  return (systemFlags() & FLAG_VM) != 0;
}
/** Real mode or virtual-8086 mode: selectors are paragraphs. */
export function paragraphSelectors(): bool {
  return !protectedMode() || virtual8086();
}
export function iopl(): u32 {
  return <u32>((systemFlags() >> 12) & 3);
}
export function selector(segment: i32): u32 {
  return load<u32>(STATE_SEG_SEL + ((<usize>segment) << 2));
}
export function segmentBase(segment: i32): i64 {
  return load<i64>(STATE_SEG_BASE + ((<usize>segment) << 3));
}
/** Offset of a segment's last byte (of an expand-up one). */
export function segmentLimit(segment: i32): u32 {
  return load<u32>(STATE_SEG_LIMIT + ((<usize>segment) << 2));
}
export function segmentAttributes(segment: i32): u32 {
  return load<u32>(STATE_SEG_ATTR + ((<usize>segment) << 2));
}
/** Writes all four parts of a segment register. */
export function setSegment(segment: i32, sel: u32, base: i64, limit: u32, attributes: u32): void {
  store<u32>(STATE_SEG_SEL + ((<usize>segment) << 2), sel & 0xffff);
  store<i64>(STATE_SEG_BASE + ((<usize>segment) << 3), base);
  store<u32>(STATE_SEG_LIMIT + ((<usize>segment) << 2), limit);
  store<u32>(STATE_SEG_ATTR + ((<usize>segment) << 2), attributes);
}

export function canonical(address: i64): bool {
  return (address << 16) >> 16 == address;
}

export function faultPending(): bool {
  return load<i32>(STATE_FAULT_VECTOR) >= 0;
}

/** Makes a fault pending and returns the code that says so. */
export function fault(vector: i32, error: u32): i32 {
  store<i32>(STATE_FAULT_VECTOR, vector);
  store<u32>(STATE_FAULT_ERROR, error);
  return FAULT;
}

/** Leaves to JavaScript for the given reason. */
export function leave(reason: i32): i32 {
  store<u32>(STATE_EXIT_REASON, reason);
  return LEAVE;
}

/** Leaves to the run loop at the next jump or look-up: something that has to be looked at has become possible. */
export function attendSoon(): void {
  store<i64>(STATE_ICOUNT_LIMIT, 0);
}

/** Keeps the low `size` bytes of an offset or instruction pointer. */
export function truncate(value: i64, size: i32): i64 {
  if (size == 2) return value & 0xffff;
  if (size == 4) return value & 0xffffffff;
  return value;
}
