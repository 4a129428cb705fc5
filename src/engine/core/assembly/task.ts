// The task state segment: stacks for inner privilege levels.
import { STATE_TR_ATTR, STATE_TR_BASE, STATE_TR_LIMIT, STATE_TR_SEL } from './layout';
import { readSystemBlock } from './mmu';
import { DONE, FAULT, VECTOR_TS, fault, longMode } from './state';

const buffer: usize = memory.data(8);

/** What the functions below found. */
export let taskStackPointer: i64 = 0;
export let taskStackSelector: u32 = 0;

function readTask(offset: u32, length: u32, external: u32): i32 {
  if (offset + length - 1 > load<u32>(STATE_TR_LIMIT)) {
    return fault(VECTOR_TS, (load<u32>(STATE_TR_SEL) & 0xfffc) | external);
  }
  store<i64>(buffer, 0);
  return readSystemBlock(load<i64>(STATE_TR_BASE) + offset, buffer, length);
}

/** 64-bit stack pointer: RSP0…2 for slots 0…2, IST1…7 for slots 4…10. Code 0 or 2. */
export function taskStack64(slot: u32, external: u32): i32 {
  const code = readTask(4 + slot * 8, 8, external);
  if (code) return code;
  taskStackPointer = load<i64>(buffer);
  return DONE;
}

/** Stack of an inner level in a 16- or 32-bit TSS. Code 0 or 2. */
export function taskStack(level: u32, external: u32): i32 {
  if (longMode()) return FAULT;
  const wide = (load<u32>(STATE_TR_ATTR) & 8) != 0;
  const code = wide ? readTask(4 + level * 8, 6, external) : readTask(2 + level * 4, 4, external);
  if (code) return code;
  taskStackPointer = wide ? load<u32>(buffer) : load<u16>(buffer);
  taskStackSelector = wide ? load<u16>(buffer, 4) : load<u16>(buffer, 2);
  return DONE;
}
