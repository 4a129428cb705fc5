// Register state after power-on (Intel SDM volume 3, table 9-1).
import { flushBlocks } from './blocks';
import { setArithmeticFlags } from './flags';
import { updateSseFast } from './sse-state';
import {
  CPU,
  STATE_CR0,
  STATE_DR,
  STATE_FAULT_VECTOR,
  STATE_FCW,
  STATE_FTW,
  STATE_IDTR_LIMIT,
  STATE_GDTR_LIMIT,
  STATE_LDTR_ATTR,
  STATE_LDTR_LIMIT,
  STATE_MXCSR,
  STATE_SIZE,
  STATE_TR_ATTR,
  STATE_TR_LIMIT,
} from './layout';
import { updateMode } from './mode';
import { resetMsrs } from './msr';
import { CS, GS, RDX, setReg, setRip, setSegment, setSystemFlags } from './state';
import { flushTlb } from './tlb';

/** Power-on reset; see exports.ts. */
export function resetCpu(): void {
  memory.fill(CPU, 0, STATE_SIZE);
  for (let segment = 0; segment <= GS; segment++) setSegment(segment, 0, 0, 0xffff, 0x93);
  setSegment(CS, 0xf000, 0xffff0000, 0xffff, 0x9b);
  setReg(RDX, 0x0003066a);
  setRip(0xfff0);
  setSystemFlags(2);
  setArithmeticFlags(0);
  // CD, NW, ET.
  store<i64>(STATE_CR0, 0x60000010);
  store<i64>(STATE_DR + 6 * 8, 0xffff0ff0);
  store<i64>(STATE_DR + 7 * 8, 0x400);
  store<u32>(STATE_GDTR_LIMIT, 0xffff);
  store<u32>(STATE_IDTR_LIMIT, 0xffff);
  store<u32>(STATE_LDTR_LIMIT, 0xffff);
  store<u32>(STATE_LDTR_ATTR, 0x82);
  store<u32>(STATE_TR_LIMIT, 0xffff);
  store<u32>(STATE_TR_ATTR, 0x8b);
  store<i32>(STATE_FAULT_VECTOR, -1);
  store<u32>(STATE_FCW, 0x40);
  store<u32>(STATE_FTW, 0);
  store<u32>(STATE_MXCSR, 0x1f80);
  resetMsrs();
  updateSseFast();
  flushTlb();
  flushBlocks();
  updateMode();
}
