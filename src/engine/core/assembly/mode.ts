// The mode key: what decoding depends on.
import {
  MODE_CODE16,
  MODE_CODE32,
  MODE_CODE64,
  MODE_FLAT,
  MODE_FPU_TRAP,
  MODE_REAL,
  MODE_SINGLE_STEP,
  MODE_SSE_OFF,
  MODE_STACK32,
  MODE_USER,
  STATE_MODE,
} from './layout';
import {
  ATTR_BIG,
  ATTR_LONG,
  CR0_EM,
  CR0_TS,
  CR4_OSFXSR,
  CS,
  DS,
  ES,
  FLAG_TF,
  SS,
  attendSoon,
  cpl,
  cr0,
  cr4,
  longMode,
  paragraphSelectors,
  segmentAttributes,
  segmentBase,
  systemFlags,
} from './state';
import { selectTlbBank } from './tlb';

/** Recomputes STATE_MODE and STATE_TLB_BANK. */
export function updateMode(): void {
  let mode: i32 = MODE_CODE16;
  const code = segmentAttributes(CS);
  if (longMode() && (code & ATTR_LONG) != 0) {
    // Segment bases of ES, SS and DS do not count in 64-bit mode.
    mode = MODE_CODE64 | MODE_FLAT;
  } else {
    if (code & ATTR_BIG) mode = MODE_CODE32;
    if (segmentAttributes(SS) & ATTR_BIG) mode |= MODE_STACK32;
    if ((segmentBase(DS) | segmentBase(ES) | segmentBase(SS)) == 0) mode |= MODE_FLAT;
  }
  if (cpl() == 3) mode |= MODE_USER;
  if (paragraphSelectors()) mode |= MODE_REAL;
  if (cr0() & (CR0_TS | CR0_EM)) mode |= MODE_FPU_TRAP;
  if (systemFlags() & FLAG_TF) {
    mode |= MODE_SINGLE_STEP;
    // The run loop steps.
    attendSoon();
  }
  if ((cr4() & CR4_OSFXSR) == 0) mode |= MODE_SSE_OFF;
  store<u32>(STATE_MODE, mode);
  selectTlbBank();
}
