// FXSAVE and FXRSTOR (Intel SDM volume 1, chapter 10).
import {
  STATE_FCS,
  STATE_FCW,
  STATE_FDP,
  STATE_FDS,
  STATE_FIP,
  STATE_FOP,
  STATE_FSW,
  STATE_FTW,
  STATE_MXCSR,
  STATE_ST,
  STATE_XMM,
} from './layout';
import { readBlock, writeBlock } from './mmu';
import { updateSseFast } from './sse-state';
import {
  CR0_EM,
  CR0_TS,
  CR4_OSFXSR,
  DONE,
  FAULT,
  VECTOR_GP,
  VECTOR_NM,
  cr0,
  cr4,
  fault,
  mode64,
} from './state';
import { x87UpdateSummary } from './x87-state';

const MXCSR_BITS: u32 = 0xffff;
const XMM_AT: u32 = 160;

const image: usize = memory.data(512, 16);

/** Conditions of FXSAVE and FXRSTOR. Code 0 or 2. */
function check(address: i64): i32 {
  if (cr0() & (CR0_EM | CR0_TS)) return fault(VECTOR_NM, 0);
  return address & 15 ? fault(VECTOR_GP, 0) : DONE;
}

/** Bytes of the image that the present mode uses. */
function imageBytes(): i32 {
  if ((cr4() & CR4_OSFXSR) == 0) return XMM_AT;
  return XMM_AT + (mode64() ? 256 : 128);
}

/** Address of ST(i): physical register (TOP + i) mod 8. */
function stackRegister(i: u32): usize {
  const top = (load<u32>(STATE_FSW) >>> 11) & 7;
  return STATE_ST + ((<usize>((top + i) & 7)) << 4);
}

export function fxsave(address: i64, rexW: i32): i32 {
  if (check(address)) return FAULT;
  store<u16>(image, <u16>load<u32>(STATE_FCW));
  store<u16>(image, <u16>load<u32>(STATE_FSW), 2);
  store<u16>(image, <u16>(load<u32>(STATE_FTW) & 0xff), 4);
  store<u16>(image, <u16>(load<u32>(STATE_FOP) & 0x7ff), 6);
  store<i64>(image, load<i64>(STATE_FIP), 8);
  store<i64>(image, load<i64>(STATE_FDP), 16);
  if (!rexW) {
    store<u32>(image, load<u32>(STATE_FCS) & 0xffff, 12);
    store<u32>(image, load<u32>(STATE_FDS) & 0xffff, 20);
  }
  store<u32>(image, load<u32>(STATE_MXCSR), 24);
  store<u32>(image, MXCSR_BITS, 28);
  for (let i: u32 = 0; i < 8; i++) {
    const at = image + 32 + (i << 4);
    const from = stackRegister(i);
    store<i64>(at, load<i64>(from));
    store<i64>(at, <i64>load<u16>(from, 8), 8);
  }
  memory.copy(image + XMM_AT, STATE_XMM, 256);
  return writeBlock(address, image, imageBytes());
}

export function fxrstor(address: i64, rexW: i32): i32 {
  if (check(address)) return FAULT;
  const bytes = imageBytes();
  if (readBlock(address, image, bytes)) return FAULT;
  const mxcsr = load<u32>(image, 24);
  if (bytes > <i32>XMM_AT && (mxcsr & ~MXCSR_BITS) != 0) return fault(VECTOR_GP, 0);
  store<u32>(STATE_FCW, <u32>load<u16>(image));
  store<u32>(STATE_FSW, <u32>load<u16>(image, 2));
  store<u32>(STATE_FTW, <u32>load<u8>(image, 4));
  store<u32>(STATE_FOP, <u32>load<u16>(image, 6) & 0x7ff);
  store<i64>(STATE_FIP, rexW ? load<i64>(image, 8) : <i64>load<u32>(image, 8));
  store<i64>(STATE_FDP, rexW ? load<i64>(image, 16) : <i64>load<u32>(image, 16));
  store<u32>(STATE_FCS, rexW ? 0 : <u32>load<u16>(image, 12));
  store<u32>(STATE_FDS, rexW ? 0 : <u32>load<u16>(image, 20));
  for (let i: u32 = 0; i < 8; i++) {
    const from = image + 32 + (i << 4);
    const to = stackRegister(i);
    store<i64>(to, load<i64>(from));
    store<i64>(to, <i64>load<u16>(from, 8), 8);
  }
  x87UpdateSummary();
  if (bytes == <i32>XMM_AT) return DONE;
  store<u32>(STATE_MXCSR, mxcsr);
  updateSseFast();
  memory.copy(STATE_XMM, image + XMM_AT, bytes - XMM_AT);
  return DONE;
}
