// Far returns and IRET (Intel SDM volume 2, RET, IRET).
//
// Returns to another task (RFLAGS.NT) are not supported: they raise #GP(0).
import {
  attributes,
  enterDescriptor,
  enterNull,
  enterParagraph,
  fetchDescriptor,
  isNull,
  markAccessed,
  privilege,
  setPrivilege,
} from './descriptors';
import { unblockNmi } from './exceptions';
import { checkCodePresent, clipRip, enterRealCode } from './far';
import { replaceFlags, writableFlags } from './flags';
import { checkInnerStack } from './inner-stack';
import { STATE_SEG_SEL } from './layout';
import { updateMode } from './mode';
import { currentStackMask, frameItem, peekStack, setStackPointer, stackMask } from './stack';
import {
  ATTR_CODE,
  ATTR_CONFORMING,
  ATTR_LONG,
  ATTR_S,
  CS,
  DONE,
  DS,
  ES,
  FAULT,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_VIF,
  FLAG_VIP,
  FLAG_VM,
  FS,
  GS,
  LOOKUP,
  RSP,
  SS,
  VECTOR_GP,
  cpl,
  fault,
  iopl,
  longMode,
  mode64,
  paragraphSelectors,
  reg,
  segmentAttributes,
  setReg,
  setRip,
  systemFlags,
  virtual8086,
} from './state';

const frame: usize = memory.data(80);

/** Reads the code segment to return to and checks it. Code 0 or 2. */
function checkReturnCode(sel: u32, offset: i64): i32 {
  const error = sel & 0xfffc;
  if (isNull(sel)) return fault(VECTOR_GP, 0);
  if (fetchDescriptor(sel, 8, VECTOR_GP, 0)) return FAULT;
  const attr = attributes();
  const rpl = sel & 3;
  if ((attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) || rpl < cpl()) return fault(VECTOR_GP, error);
  const allowed = attr & ATTR_CONFORMING ? privilege(attr) <= rpl : privilege(attr) == rpl;
  return allowed ? checkCodePresent(sel, offset) : fault(VECTOR_GP, error);
}

/** Data segments that the outer level may not use become null. */
function dropInnerSegments(): void {
  for (let segment = ES; segment <= GS; segment++) {
    if (segment == CS || segment == SS) continue;
    const attr = segmentAttributes(segment);
    if (isNull(load<u32>(STATE_SEG_SEL + ((<usize>segment) << 2)))) continue;
    const conforming = (attr & (ATTR_CODE | ATTR_CONFORMING)) == (ATTR_CODE | ATTR_CONFORMING);
    if (!conforming && privilege(attr) < cpl()) enterNull(segment, 0);
  }
}

/**
 * Enters CS:RIP and, when `withStack`, SS:RSP; the code segment has been checked and is the last descriptor read.
 * Code 1 or 2. `release` bytes are dropped from the outer stack.
 */
function returnTo(
  codeSel: u32,
  offset: i64,
  withStack: bool,
  stackSel: u32,
  pointer: i64,
  release: i32,
): i32 {
  const level = codeSel & 3;
  const target = clipRip(offset);
  const to64 = longMode() && (attributes() & ATTR_LONG) != 0;
  const nullStack = isNull(stackSel);
  if (withStack) {
    if (nullStack) {
      if (!to64 || level == 3 || (stackSel & 3) != level) return fault(VECTOR_GP, 0);
    } else {
      if (checkInnerStack(stackSel, level, VECTOR_GP, 0) || markAccessed()) return FAULT;
      // The code segment's descriptor again.
      if (fetchDescriptor(codeSel, 8, VECTOR_GP, 0)) return FAULT;
    }
  }
  if (markAccessed()) return FAULT;
  const outer = level > cpl();
  enterDescriptor(CS, codeSel);
  setPrivilege(level);
  setRip(target);
  if (withStack) {
    if (nullStack) enterNull(SS, stackSel);
    else if (fetchDescriptor(stackSel, 8, VECTOR_GP, 0) == DONE) enterDescriptor(SS, stackSel);
    setStackPointer(pointer + release, to64 ? -1 : stackMask(segmentAttributes(SS)));
  }
  if (outer) dropInnerSegments();
  return LOOKUP;
}

export function farReturn(opSize: i32, bytes: i32): i32 {
  const mask = currentStackMask();
  const top = reg(RSP);
  if (peekStack(0, frame, 2 * opSize, cpl())) return FAULT;
  const offset = frameItem(frame, 0, opSize);
  const sel = <u32>frameItem(frame, 1, opSize) & 0xffff;
  if (paragraphSelectors()) {
    setStackPointer(top + 2 * opSize + bytes, mask);
    return enterRealCode(sel, offset, opSize);
  }
  if (checkReturnCode(sel, offset)) return FAULT;
  const outer = (sel & 3) > cpl();
  if (outer && peekStack(2 * opSize + bytes, frame, 2 * opSize, cpl())) return FAULT;
  const code = returnTo(
    sel,
    offset,
    outer,
    <u32>frameItem(frame, 1, opSize) & 0xffff,
    frameItem(frame, 0, opSize),
    bytes,
  );
  if (code == FAULT) return FAULT;
  if (!outer) setStackPointer(top + 2 * opSize + bytes, mask);
  updateMode();
  return LOOKUP;
}

function iretReal(opSize: i32): i32 {
  if (virtual8086() && iopl() < 3) return fault(VECTOR_GP, 0);
  if (peekStack(0, frame, 3 * opSize, cpl())) return FAULT;
  let mask = writableFlags(opSize);
  if (virtual8086()) mask &= ~FLAG_IOPL;
  setStackPointer(reg(RSP) + 3 * opSize, currentStackMask());
  replaceFlags(frameItem(frame, 2, opSize), mask);
  return enterRealCode(<u32>frameItem(frame, 1, opSize), frameItem(frame, 0, opSize), opSize);
}

/** Return to virtual-8086 mode; the frame's first three items are read. */
function iretVirtual(): i32 {
  if (peekStack(0, frame, 36, 0)) return FAULT;
  const mask = writableFlags(4) | FLAG_VM | FLAG_VIF | FLAG_VIP;
  replaceFlags(frameItem(frame, 2, 4), mask);
  enterParagraph(CS, <u32>frameItem(frame, 1, 4), 0xffff, 0xf3);
  setReg(RSP, frameItem(frame, 3, 4));
  enterParagraph(SS, <u32>frameItem(frame, 4, 4), 0xffff, 0xf3);
  enterParagraph(ES, <u32>frameItem(frame, 5, 4), 0xffff, 0xf3);
  enterParagraph(DS, <u32>frameItem(frame, 6, 4), 0xffff, 0xf3);
  enterParagraph(FS, <u32>frameItem(frame, 7, 4), 0xffff, 0xf3);
  enterParagraph(GS, <u32>frameItem(frame, 8, 4), 0xffff, 0xf3);
  setRip(frameItem(frame, 0, 4) & 0xffff);
  setPrivilege(3);
  updateMode();
  return LOOKUP;
}

export function iret(opSize: i32, next: i64): i32 {
  unblockNmi();
  if (paragraphSelectors()) return iretReal(opSize);
  if (systemFlags() & FLAG_NT) return fault(VECTOR_GP, 0);
  const wide = mode64();
  const top = reg(RSP);
  if (peekStack(0, frame, (wide ? 5 : 3) * opSize, cpl())) return FAULT;
  const offset = frameItem(frame, 0, opSize);
  const sel = <u32>frameItem(frame, 1, opSize) & 0xffff;
  const flags = frameItem(frame, 2, opSize);
  if (!longMode() && opSize == 4 && cpl() == 0 && (flags & FLAG_VM) != 0) return iretVirtual();
  if (checkReturnCode(sel, offset)) return FAULT;
  const withStack = wide || (sel & 3) > cpl();
  if (withStack && !wide && peekStack(0, frame, 5 * opSize, cpl())) return FAULT;
  const mask = currentStackMask();
  // Which flags may change is decided by the privilege before the return.
  let flagMask = writableFlags(opSize);
  if (opSize > 2 && cpl() == 0) flagMask |= FLAG_VIF | FLAG_VIP;
  const stackSel = <u32>frameItem(frame, 4, opSize) & 0xffff;
  if (returnTo(sel, offset, withStack, stackSel, frameItem(frame, 3, opSize), 0) == FAULT) return FAULT;
  if (!withStack) setStackPointer(top + 3 * opSize, mask);
  replaceFlags(flags, flagMask);
  updateMode();
  return LOOKUP;
}
