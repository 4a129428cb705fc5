// Reading GDT and LDT descriptors, and entering them in segment registers.
import {
  STATE_CPL,
  STATE_GDTR_BASE,
  STATE_GDTR_LIMIT,
  STATE_LDTR_ATTR,
  STATE_LDTR_BASE,
  STATE_LDTR_LIMIT,
  STATE_LDTR_SEL,
  TLB_BANK_SUPERVISOR,
} from './layout';
import { readPointer, writeSystemBlock } from './mmu';
import {
  ATTR_ACCESSED,
  ATTR_GRANULAR,
  ATTR_LONG,
  CS,
  DONE,
  FAULT,
  fault,
  longMode,
  segmentBase,
  setSegment,
} from './state';
import { flushJumpCache } from './tlb';

/** The descriptor that `fetchDescriptor` read last. */
export let descriptorLow: u32 = 0;
export let descriptorHigh: u32 = 0;
/** Upper half of a 16-byte system descriptor. */
export let descriptorUpper: u32 = 0;
let descriptorAddress: i64 = 0;

const buffer: usize = memory.data(16);

export function isNull(selector: u32): bool {
  return (selector & 0xfffc) == 0;
}

/** Attributes of the last descriptor, in the form of STATE_SEG_ATTR. */
export function attributes(): u32 {
  return (descriptorHigh >> 8) & 0xf0ff;
}

export function privilege(attr: u32): u32 {
  return (attr >> 5) & 3;
}

/** 32-bit base of the last descriptor. */
export function descriptorBase(): i64 {
  return <i64>((descriptorLow >>> 16) | ((descriptorHigh & 0xff) << 16) | (descriptorHigh & 0xff000000));
}

/** 64-bit base of the last 16-byte system descriptor. */
export function wideBase(): i64 {
  return descriptorBase() | ((<i64>descriptorUpper) << 32);
}

/** Limit of the last descriptor in bytes. */
export function descriptorLimit(): u32 {
  const limit = (descriptorLow & 0xffff) | (descriptorHigh & 0xf0000);
  return attributes() & ATTR_GRANULAR ? (limit << 12) | 0xfff : limit;
}

/** Linear address of a descriptor of `size` bytes, or false if it lies beyond its table. */
function locate(selector: u32, size: u32): bool {
  const offset = selector & 0xfff8;
  if (selector & 4) {
    if (isNull(load<u32>(STATE_LDTR_SEL)) || (load<u32>(STATE_LDTR_ATTR) & 0x80) == 0) return false;
    if (offset + size - 1 > load<u32>(STATE_LDTR_LIMIT)) return false;
    descriptorAddress = load<i64>(STATE_LDTR_BASE) + offset;
    return true;
  }
  if (offset + size - 1 > load<u32>(STATE_GDTR_LIMIT)) return false;
  descriptorAddress = load<i64>(STATE_GDTR_BASE) + offset;
  return true;
}

/**
 * Reads the descriptor of a selector that is not null. Beyond the table's end it raises `vector` with the selector
 * and `external` (EXT bit) as error code, or nothing if `vector` is negative. Code 0 or 2 (2 also without a fault
 * pending for a negative vector).
 * @param size 8, or 16 for system descriptors in long mode
 */
export function fetchDescriptor(selector: u32, size: u32, vector: i32, external: u32): i32 {
  if (!locate(selector, size)) return vector < 0 ? FAULT : fault(vector, (selector & 0xfffc) | external);
  const pointer = readPointer(descriptorAddress, size, TLB_BANK_SUPERVISOR);
  if (!pointer) return FAULT;
  descriptorLow = load<u32>(pointer);
  descriptorHigh = load<u32>(pointer, 4);
  descriptorUpper = size == 16 ? load<u32>(pointer, 8) : 0;
  return DONE;
}

/** Sets bits of the type byte in memory (accessed, busy) of the last descriptor. Code 0 or 2. */
export function markDescriptor(clear: u32, set: u32): i32 {
  const high = (descriptorHigh & ~(clear << 8)) | (set << 8);
  if (high == descriptorHigh) return DONE;
  descriptorHigh = high;
  store<u8>(buffer, <u8>(high >> 8));
  return writeSystemBlock(descriptorAddress + 5, buffer, 1);
}

/** Marks the last descriptor as accessed. Code 0 or 2. */
export function markAccessed(): i32 {
  return markDescriptor(0, ATTR_ACCESSED);
}

/** Enters the last descriptor in a segment register. */
export function enterDescriptor(segment: i32, selector: u32): void {
  // 64-bit code segments have no base, whatever the descriptor says.
  const base: i64 = segment == CS && longMode() && (attributes() & ATTR_LONG) != 0 ? 0 : descriptorBase();
  if (segment == CS && segmentBase(CS) != base) flushJumpCache();
  setSegment(segment, selector, base, descriptorLimit(), attributes());
}

/** Enters a selector as real mode and virtual-8086 mode do it. */
export function enterParagraph(segment: i32, selector: u32, limit: u32, attr: u32): void {
  const base = (<i64>(selector & 0xffff)) << 4;
  if (segment == CS && segmentBase(CS) != base) flushJumpCache();
  setSegment(segment, selector, base, limit, attr);
}

/** Makes a data segment register null. */
export function enterNull(segment: i32, selector: u32): void {
  setSegment(segment, selector, 0, 0, 0);
}

export function setPrivilege(level: u32): void {
  store<u32>(STATE_CPL, level);
}
