// Page walks: no paging, 32-bit, PAE and 4-level (Intel SDM volume 3, chapter 4).
import { STATE_CR3, STATE_FAULT_ADDRESS, TLB_BANK_SUPERVISOR_AC, TLB_BANK_USER } from './layout';
import { ram, ramOffset } from './memory-map';
import {
  CR0_PG,
  CR0_WP,
  CR4_PAE,
  CR4_PSE,
  CR4_SMAP,
  CR4_SMEP,
  EFER_NXE,
  PHYSICAL_BITS,
  VECTOR_PF,
  cr0,
  cr4,
  efer,
  fault,
  longMode,
} from './state';

export const ACCESS_READ: i32 = 0;
export const ACCESS_WRITE: i32 = 1;
export const ACCESS_FETCH: i32 = 2;

// Page table entry bits.
const PRESENT: i64 = 0x1;
const WRITABLE: i64 = 0x2;
const USER: i64 = 0x4;
const ACCESSED: i64 = 0x20;
const DIRTY: i64 = 0x40;
const LARGE: i64 = 0x80;
const GLOBAL: i64 = 0x100;

/** Bits 51:12. */
const FRAME: i64 = 0x000ffffffffff000;
/** Physical address bits that the CPU does not have. */
const RESERVED_PHYSICAL: i64 = 0x000fffffffffffff & ~(((<i64>1) << PHYSICAL_BITS) - 1);

// Page fault error code bits.
const ERROR_PRESENT: u32 = 1;
const ERROR_WRITE: u32 = 2;
const ERROR_USER: u32 = 4;
const ERROR_RESERVED: u32 = 8;
const ERROR_FETCH: u32 = 16;

// Outcome of the last successful walk.
export let walkWritable: bool = false;
export let walkUser: bool = false;
export let walkNoExecute: bool = false;
export let walkGlobal: bool = false;
export let walkDirty: bool = false;
/** Page size: 0 = 4 KiB, 1 = 2 or 4 MiB, 2 = 1 GiB. */
export let walkSize: i32 = 0;

/** Linear-memory addresses of the entries visited, for the accessed and dirty bits. */
const visited: usize = memory.data(16);
let visits: i32 = 0;

function entryPointer(physical: i64): usize {
  const offset = ramOffset(physical);
  return offset < 0 ? 0 : ram + <usize>offset;
}

function visit(pointer: usize): void {
  store<usize>(visited + ((<usize>visits) << 2), pointer);
  visits++;
}

function pageFault(address: i64, bank: i32, access: i32, error: u32): i64 {
  if (access == ACCESS_WRITE) error |= ERROR_WRITE;
  if (bank == TLB_BANK_USER) error |= ERROR_USER;
  if (access == ACCESS_FETCH) {
    const noExecute = (efer() & EFER_NXE) != 0 && (cr4() & CR4_PAE) != 0;
    if (noExecute || (cr4() & CR4_SMEP) != 0) error |= ERROR_FETCH;
  }
  fault(VECTOR_PF, error);
  store<i64>(STATE_FAULT_ADDRESS, address);
  return -1;
}

/** Whether the page of the last walk allows an access through a TLB bank. */
export function walkAllows(bank: i32, access: i32): bool {
  if (bank == TLB_BANK_USER) {
    if (!walkUser) return false;
    if (access == ACCESS_WRITE) return walkWritable;
    return access == ACCESS_READ || !walkNoExecute;
  }
  if (access == ACCESS_FETCH) return !walkNoExecute && !(walkUser && (cr4() & CR4_SMEP) != 0);
  if (walkUser && bank != TLB_BANK_SUPERVISOR_AC && (cr4() & CR4_SMAP) != 0) return false;
  return access == ACCESS_READ || walkWritable || (cr0() & CR0_WP) == 0;
}

/** Checks rights, then sets accessed and dirty bits. Returns the physical address or -1. */
function finish(address: i64, bank: i32, access: i32, leaf: i64, physical: i64): i64 {
  if (!walkAllows(bank, access)) return pageFault(address, bank, access, ERROR_PRESENT);
  walkGlobal = (leaf & GLOBAL) != 0;
  walkDirty = (leaf & DIRTY) != 0 || access == ACCESS_WRITE;
  const last = visits - 1;
  for (let i = 0; i < visits; i++) {
    const pointer = load<usize>(visited + ((<usize>i) << 2));
    const bits: u8 = i == last && access == ACCESS_WRITE ? <u8>(ACCESSED | DIRTY) : <u8>ACCESSED;
    if ((load<u8>(pointer) & bits) != bits) atomic.or<u8>(pointer, bits);
  }
  return physical;
}

/** 4-level and PAE tables: 64-bit entries from `level` down to 1. */
function walk64(address: i64, bank: i32, access: i32, table: i64, level: i32, reserved: i64): i64 {
  const hasNx = (efer() & EFER_NXE) != 0;
  while (true) {
    const shift = <i64>(3 + 9 * level);
    const pointer = entryPointer(table + (((address >> shift) & 511) << 3));
    const entry: i64 = pointer ? load<i64>(pointer) : 0;
    if ((entry & PRESENT) == 0) return pageFault(address, bank, access, 0);
    let bad = reserved;
    if (!hasNx) bad |= (<i64>1) << 63;
    const leaf = level == 1 || (level < 4 && (entry & LARGE) != 0);
    if (level == 4) bad |= LARGE;
    else if (leaf && level == 2) bad |= 0x1fe000;
    else if (leaf && level == 3) bad |= 0x3fffe000;
    if ((entry & bad) != 0) return pageFault(address, bank, access, ERROR_PRESENT | ERROR_RESERVED);
    walkWritable = walkWritable && (entry & WRITABLE) != 0;
    walkUser = walkUser && (entry & USER) != 0;
    walkNoExecute = walkNoExecute || entry < 0;
    visit(pointer);
    if (leaf) {
      walkSize = level - 1;
      const inPage = ((<i64>1) << shift) - 1;
      return finish(address, bank, access, entry, (entry & FRAME & ~inPage) | (address & inPage));
    }
    table = entry & FRAME;
    level--;
  }
}

function walkPae(address: i64, bank: i32, access: i32): i64 {
  const pointer = entryPointer((load<i64>(STATE_CR3) & 0xffffffe0) + (((address >> 30) & 3) << 3));
  const entry: i64 = pointer ? load<i64>(pointer) : 0;
  if ((entry & PRESENT) == 0) return pageFault(address, bank, access, 0);
  // Bits 62:52 are reserved in PAE entries; the directory pointers have no rights of their own.
  const reserved: i64 = RESERVED_PHYSICAL | 0x7ff0000000000000;
  if ((entry & (reserved | ((<i64>1) << 63) | 0x1e6)) != 0) {
    return pageFault(address, bank, access, ERROR_PRESENT | ERROR_RESERVED);
  }
  return walk64(address, bank, access, entry & FRAME, 2, reserved);
}

function walk32(address: i64, bank: i32, access: i32): i64 {
  const directory = entryPointer((load<i64>(STATE_CR3) & 0xfffff000) + (((address >> 22) & 1023) << 2));
  const upper: i64 = directory ? load<u32>(directory) : 0;
  if ((upper & PRESENT) == 0) return pageFault(address, bank, access, 0);
  walkWritable = (upper & WRITABLE) != 0;
  walkUser = (upper & USER) != 0;
  visit(directory);
  if ((upper & LARGE) != 0 && (cr4() & CR4_PSE) != 0) {
    if ((upper & 0x200000) != 0) return pageFault(address, bank, access, ERROR_PRESENT | ERROR_RESERVED);
    walkSize = 1;
    // PSE-36: bits 20:13 are physical address bits 39:32.
    const frame = (upper & 0xffc00000) | (((upper >> 13) & 0xff) << 32);
    return finish(address, bank, access, upper, frame | (address & 0x3fffff));
  }
  const pointer = entryPointer((upper & 0xfffff000) + (((address >> 12) & 1023) << 2));
  const entry: i64 = pointer ? load<u32>(pointer) : 0;
  if ((entry & PRESENT) == 0) return pageFault(address, bank, access, 0);
  walkWritable = walkWritable && (entry & WRITABLE) != 0;
  walkUser = walkUser && (entry & USER) != 0;
  visit(pointer);
  return finish(address, bank, access, entry, (entry & 0xfffff000) | (address & 0xfff));
}

/**
 * Translates a linear address (canonical, or masked to 32 bits outside long mode) with the rights of a TLB bank.
 * Returns the physical address, or -1 with #PF pending.
 */
export function walk(address: i64, bank: i32, access: i32): i64 {
  visits = 0;
  walkSize = 0;
  walkWritable = true;
  walkNoExecute = false;
  if ((cr0() & CR0_PG) == 0) {
    walkUser = bank == TLB_BANK_USER;
    walkGlobal = false;
    walkDirty = true;
    return address;
  }
  walkUser = true;
  if (longMode()) return walk64(address, bank, access, load<i64>(STATE_CR3) & FRAME, 4, RESERVED_PHYSICAL);
  if ((cr4() & CR4_PAE) != 0) return walkPae(address, bank, access);
  return walk32(address, bank, access);
}
