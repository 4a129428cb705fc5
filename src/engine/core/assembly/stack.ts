// The stack as seen by far transfers and exceptions: its address arithmetic depends on mode and SS.B.
import { TLB_BANK_USER } from './layout';
import { readWithBank, writeWithBank } from './mmu';
import { ATTR_BIG, RSP, SS, mode64, reg, segmentAttributes, segmentBase, setReg } from './state';
import { bankFor } from './tlb';

/** Mask of the stack pointer for a stack segment's attributes. */
export function stackMask(attr: u32): i64 {
  return attr & ATTR_BIG ? 0xffffffff : 0xffff;
}

/** Mask of the current stack pointer. */
export function currentStackMask(): i64 {
  return mode64() ? -1 : stackMask(segmentAttributes(SS));
}

/** Linear address of a stack offset. */
export function stackAddress(pointer: i64): i64 {
  if (mode64()) return pointer;
  return (segmentBase(SS) + pointer) & 0xffffffff;
}

/** Sets the bits of RSP that the mask covers; a 32-bit stack pointer is zero-extended. */
export function setStackPointer(value: i64, mask: i64): void {
  if (mask == 0xffff) setReg(RSP, (reg(RSP) & ~0xffff) | (value & 0xffff));
  else setReg(RSP, value & mask);
}

/** Reads `length` bytes at an offset from the top of the stack. Code 0 or 2. */
export function peekStack(offset: i32, to: usize, length: i32, level: u32): i32 {
  const pointer = (reg(RSP) + offset) & currentStackMask();
  return readWithBank(stackAddress(pointer), to, length, level == 3 ? TLB_BANK_USER : bankFor(level));
}

/** Writes a frame so that it ends at `top` of a stack segment with the given base. Code 0 or 2. */
export function pushFrame(base: i64, top: i64, mask: i64, frame: usize, length: i32, level: u32): i32 {
  const pointer = (top - length) & mask;
  const address = mask == -1 ? pointer : (base + pointer) & 0xffffffff;
  return writeWithBank(address, frame, length, bankFor(level));
}

/** Element `index` of a frame of 2-, 4- or 8-byte elements. */
export function frameItem(frame: usize, index: i32, size: i32): i64 {
  const at = frame + index * size;
  if (size == 2) return load<u16>(at);
  if (size == 4) return load<u32>(at);
  return load<i64>(at);
}

export function setFrameItem(frame: usize, index: i32, size: i32, value: i64): void {
  const at = frame + index * size;
  if (size == 2) store<u16>(at, <u16>value);
  else if (size == 4) store<u32>(at, <u32>value);
  else store<i64>(at, value);
}
