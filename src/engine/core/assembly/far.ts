// Far jumps and calls (Intel SDM volume 2, JMP, CALL).
//
// Task switches through a TSS or a task gate are not supported: they raise #GP with the selector.
import {
  attributes,
  descriptorHigh,
  descriptorLow,
  descriptorUpper,
  enterDescriptor,
  enterNull,
  enterParagraph,
  fetchDescriptor,
  isNull,
  markAccessed,
  privilege,
  setPrivilege,
} from './descriptors';
import { checkInnerStack, innerStackBase, innerStackMask } from './inner-stack';
import { STATE_SEG_LIMIT } from './layout';
import { updateMode } from './mode';
import { currentStackMask, peekStack, pushFrame, setFrameItem, setStackPointer } from './stack';
import {
  ATTR_BIG,
  ATTR_CODE,
  ATTR_CONFORMING,
  ATTR_LONG,
  ATTR_PRESENT,
  ATTR_S,
  ATTR_TYPE,
  CS,
  DONE,
  FAULT,
  LOOKUP,
  RSP,
  SS,
  VECTOR_GP,
  VECTOR_NP,
  VECTOR_SS,
  VECTOR_TS,
  canonical,
  cpl,
  fault,
  longMode,
  paragraphSelectors,
  reg,
  segmentAttributes,
  segmentBase,
  selector,
  setReg,
  setRip,
  truncate,
  virtual8086,
} from './state';
import { taskStack, taskStack64, taskStackPointer, taskStackSelector } from './task';

const frame: usize = memory.data(160);

const GATE16: u32 = 4;
const GATE32: u32 = 12;

// The open call gate.
let gateSelector: u32 = 0;
let gateOffset: i64 = 0;
let gateSize: i32 = 4;
let gateParameters: i32 = 0;

/** Enters CS:IP in real or virtual-8086 mode. */
export function enterRealCode(sel: u32, offset: i64, opSize: i32): i32 {
  const vm = virtual8086();
  const limit = vm ? 0xffff : load<u32>(STATE_SEG_LIMIT + ((<usize>CS) << 2));
  enterParagraph(CS, sel, limit, vm ? 0xf3 : segmentAttributes(CS));
  setRip(truncate(offset, opSize));
  updateMode();
  return LOOKUP;
}

/** Checks common to all transfers to the code segment read last. Code 0 or 2. */
export function checkCodePresent(sel: u32, offset: i64): i32 {
  const attr = attributes();
  const wide = longMode() && (attr & ATTR_LONG) != 0;
  if (wide && (attr & ATTR_BIG) != 0) return fault(VECTOR_GP, sel & 0xfffc);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_NP, sel & 0xfffc);
  return wide && !canonical(offset) ? fault(VECTOR_GP, 0) : DONE;
}

/** Instruction pointers are 64 bits wide only in 64-bit code segments. */
export function clipRip(offset: i64): i64 {
  return longMode() && (attributes() & ATTR_LONG) != 0 ? offset : offset & 0xffffffff;
}

function checkDirect(sel: u32, offset: i64): i32 {
  const attr = attributes();
  const level = privilege(attr);
  const allowed = attr & ATTR_CONFORMING ? level <= cpl() : (sel & 3) <= cpl() && level == cpl();
  return allowed ? checkCodePresent(sel, offset) : fault(VECTOR_GP, sel & 0xfffc);
}

/** Opens the call gate read last: leaves its target's descriptor read and checked. Code 0 or 2. */
function openGate(sel: u32): i32 {
  const attr = attributes();
  const error = sel & 0xfffc;
  const type = attr & (ATTR_S | ATTR_TYPE);
  if (type != GATE32 && (type != GATE16 || longMode())) return fault(VECTOR_GP, error);
  if (privilege(attr) < cpl() || privilege(attr) < (sel & 3)) return fault(VECTOR_GP, error);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_NP, error);
  if (longMode() && fetchDescriptor(sel, 16, VECTOR_GP, 0)) return FAULT;
  gateSize = longMode() ? 8 : type == GATE32 ? 4 : 2;
  gateSelector = descriptorLow >>> 16;
  gateParameters = longMode() ? 0 : <i32>(descriptorHigh & 31);
  gateOffset = truncate(
    <i64>((descriptorLow & 0xffff) | (descriptorHigh & 0xffff0000)),
    gateSize == 2 ? 2 : 4,
  );
  if (longMode()) gateOffset |= (<i64>descriptorUpper) << 32;
  if (isNull(gateSelector)) return fault(VECTOR_GP, 0);
  if (fetchDescriptor(gateSelector, 8, VECTOR_GP, 0)) return FAULT;
  const code = attributes();
  const gateError = gateSelector & 0xfffc;
  if ((code & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) || privilege(code) > cpl())
    return fault(VECTOR_GP, gateError);
  if (longMode() && (code & (ATTR_LONG | ATTR_BIG)) != ATTR_LONG) return fault(VECTOR_GP, gateError);
  return checkCodePresent(gateSelector, gateOffset);
}

function enterCode(sel: u32, level: u32, offset: i64): i32 {
  if (markAccessed()) return FAULT;
  enterDescriptor(CS, (sel & 0xfffc) | level);
  setPrivilege(level);
  setRip(clipRip(offset));
  updateMode();
  return LOOKUP;
}

export function farJump(sel: i32, target: i64, opSize: i32, next: i64): i32 {
  const to = <u32>sel & 0xffff;
  const offset = truncate(target, opSize);
  if (paragraphSelectors()) return enterRealCode(to, offset, opSize);
  if (isNull(to)) return fault(VECTOR_GP, 0);
  if (fetchDescriptor(to, 8, VECTOR_GP, 0)) return FAULT;
  if ((attributes() & (ATTR_S | ATTR_CODE)) == (ATTR_S | ATTR_CODE)) {
    return checkDirect(to, offset) ? FAULT : enterCode(to, cpl(), offset);
  }
  if (attributes() & ATTR_S) return fault(VECTOR_GP, to & 0xfffc);
  if (openGate(to)) return FAULT;
  if ((attributes() & ATTR_CONFORMING) == 0 && privilege(attributes()) != cpl()) {
    return fault(VECTOR_GP, gateSelector & 0xfffc);
  }
  return enterCode(gateSelector, cpl(), gateOffset);
}

/** Pushes CS:IP on the current stack. Code 0 or 2; RSP is moved. */
function pushReturn(opSize: i32, next: i64): i32 {
  setFrameItem(frame, 0, opSize, next);
  setFrameItem(frame, 1, opSize, selector(CS));
  const mask = currentStackMask();
  const top = reg(RSP);
  if (pushFrame(segmentBase(SS), top, mask, frame, opSize * 2, cpl())) return FAULT;
  setStackPointer(top - opSize * 2, mask);
  return DONE;
}

function callInner64(level: u32, next: i64): i32 {
  if (taskStack64(level, 0)) return FAULT;
  const top = taskStackPointer;
  if (!canonical(top)) return fault(VECTOR_SS, 0);
  setFrameItem(frame, 0, 8, next);
  setFrameItem(frame, 1, 8, selector(CS));
  setFrameItem(frame, 2, 8, reg(RSP));
  setFrameItem(frame, 3, 8, selector(SS));
  if (pushFrame(0, top, -1, frame, 32, level)) return FAULT;
  if (markAccessed()) return FAULT;
  enterDescriptor(CS, (gateSelector & 0xfffc) | level);
  enterNull(SS, level);
  setReg(RSP, top - 32);
  setPrivilege(level);
  setRip(gateOffset);
  updateMode();
  return LOOKUP;
}

/** A call gate to an inner level: new stack from the TSS, parameters copied. */
function callInner(level: u32, next: i64): i32 {
  if (longMode()) return callInner64(level, next);
  const size = gateSize;
  setFrameItem(frame, 0, size, next);
  setFrameItem(frame, 1, size, selector(CS));
  if (gateParameters && peekStack(0, frame + 2 * size, gateParameters * size, cpl())) return FAULT;
  const items = 4 + gateParameters;
  setFrameItem(frame, items - 2, size, reg(RSP));
  setFrameItem(frame, items - 1, size, selector(SS));
  if (taskStack(level, 0)) return FAULT;
  const stackSelector = taskStackSelector;
  const top = taskStackPointer;
  if (checkInnerStack(stackSelector, level, VECTOR_TS, 0)) return FAULT;
  const mask = innerStackMask();
  if (pushFrame(innerStackBase(), top, mask, frame, items * size, level)) return FAULT;
  if (markAccessed()) return FAULT;
  enterDescriptor(SS, stackSelector);
  setStackPointer(top - items * size, mask);
  if (fetchDescriptor(gateSelector, 8, VECTOR_GP, 0)) return FAULT;
  return enterCode(gateSelector, level, gateOffset);
}

export function farCall(sel: i32, target: i64, opSize: i32, next: i64): i32 {
  const to = <u32>sel & 0xffff;
  const offset = truncate(target, opSize);
  if (paragraphSelectors()) return pushReturn(opSize, next) ? FAULT : enterRealCode(to, offset, opSize);
  if (isNull(to)) return fault(VECTOR_GP, 0);
  if (fetchDescriptor(to, 8, VECTOR_GP, 0)) return FAULT;
  if ((attributes() & (ATTR_S | ATTR_CODE)) == (ATTR_S | ATTR_CODE)) {
    if (checkDirect(to, offset) || pushReturn(opSize, next)) return FAULT;
    return enterCode(to, cpl(), offset);
  }
  if (attributes() & ATTR_S) return fault(VECTOR_GP, to & 0xfffc);
  if (openGate(to)) return FAULT;
  const level = privilege(attributes());
  if ((attributes() & ATTR_CONFORMING) == 0 && level < cpl()) return callInner(level, next);
  if (pushReturn(gateSize, next)) return FAULT;
  return enterCode(gateSelector, cpl(), gateOffset);
}
