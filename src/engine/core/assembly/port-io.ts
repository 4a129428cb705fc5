// IN and OUT with the I/O permission check (Intel SDM volume 1, chapter 19).
import { readPort, writePort } from './env';
import { STATE_TR_ATTR, STATE_TR_BASE, STATE_TR_LIMIT } from './layout';
import { readSystemBlock } from './mmu';
import { DONE, FAULT, VECTOR_GP, cpl, fault, iopl, protectedMode, virtual8086 } from './state';

const buffer: usize = memory.data(8);

/** Offset in a TSS of the word that tells where the permission bitmap is. */
const BITMAP_OFFSET: u32 = 102;

/** Whether the current privilege may use `size` ports from `port`. Code 0 or 2. */
export function checkPort(port: i32, size: i32): i32 {
  if (!protectedMode() || (cpl() <= iopl() && !virtual8086())) return DONE;
  const limit = load<u32>(STATE_TR_LIMIT);
  const type = load<u32>(STATE_TR_ATTR) & 0xf;
  if ((type & 9) != 9 || limit < BITMAP_OFFSET + 1) return fault(VECTOR_GP, 0);
  const base = load<i64>(STATE_TR_BASE);
  if (readSystemBlock(base + BITMAP_OFFSET, buffer, 2)) return FAULT;
  const at = <u32>load<u16>(buffer) + (<u32>port >>> 3);
  if (at + 1 > limit) return fault(VECTOR_GP, 0);
  if (readSystemBlock(base + at, buffer, 2)) return FAULT;
  const bits = <u32>load<u16>(buffer) >>> (port & 7);
  return bits & ((1 << size) - 1) ? fault(VECTOR_GP, 0) : DONE;
}

/** IN; check for a fault. */
export function portIn(port: i32, size: i32): i32 {
  port &= 0xffff;
  if (checkPort(port, size)) return 0;
  const value = readPort(port, size);
  return size == 4 ? value : value & ((1 << (size * 8)) - 1);
}

/** OUT. Code 0 or 2. */
export function portOut(port: i32, size: i32, value: i32): i32 {
  port &= 0xffff;
  if (checkPort(port, size)) return FAULT;
  writePort(port, size, size == 4 ? value : value & ((1 << (size * 8)) - 1));
  return DONE;
}
