// Entering a handler through the IDT or the real-mode vector table.
import { EVENT_FAULT, EVENT_SOFTWARE } from './exceptions';
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
import { getFlags } from './flags';
import { STATE_IDTR_BASE, STATE_IDTR_LIMIT, STATE_SEG_LIMIT } from './layout';
import { readSystemBlock } from './mmu';
import { updateMode } from './mode';
import { checkInnerStack, innerStackBase, innerStackMask } from './inner-stack';
import { currentStackMask, pushFrame, setFrameItem, setStackPointer, stackMask } from './stack';
import {
  ATTR_BIG,
  ATTR_CODE,
  ATTR_CONFORMING,
  ATTR_LONG,
  ATTR_PRESENT,
  ATTR_S,
  CS,
  DONE,
  DS,
  ES,
  FAULT,
  FLAG_AC,
  FLAG_IF,
  FLAG_NT,
  FLAG_RF,
  FLAG_TF,
  FLAG_VM,
  FS,
  GS,
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
  mode64,
  protectedMode,
  reg,
  segmentAttributes,
  segmentBase,
  selector,
  setReg,
  setRip,
  setSystemFlags,
  systemFlags,
  virtual8086,
} from './state';
import { taskStack, taskStack64, taskStackPointer, taskStackSelector } from './task';

const gate: usize = memory.data(16);
const frame: usize = memory.data(128);

function codeLimit(): u32 {
  return load<u32>(STATE_SEG_LIMIT + ((<usize>CS) << 2));
}

/** Pushes FLAGS, CS, IP and takes the new CS:IP from the vector table. */
function enterReal(vector: i32, returnRip: i64): i32 {
  if (<u32>(vector * 4 + 3) > load<u32>(STATE_IDTR_LIMIT)) return fault(VECTOR_GP, 0);
  const code = readSystemBlock(load<i64>(STATE_IDTR_BASE) + vector * 4, gate, 4);
  if (code) return code;
  setFrameItem(frame, 0, 2, returnRip);
  setFrameItem(frame, 1, 2, selector(CS));
  setFrameItem(frame, 2, 2, getFlags());
  const mask = stackMask(segmentAttributes(SS));
  if (pushFrame(segmentBase(SS), reg(RSP), mask, frame, 6, 0)) return FAULT;
  setStackPointer(reg(RSP) - 6, mask);
  setSystemFlags(systemFlags() & ~(FLAG_IF | FLAG_TF | FLAG_AC));
  enterParagraph(CS, load<u16>(gate, 2), codeLimit(), segmentAttributes(CS));
  setRip(load<u16>(gate));
  updateMode();
  return DONE;
}

/** RFLAGS as it is saved for an event. */
function savedFlags(kind: i32): i64 {
  const flags = getFlags();
  return kind == EVENT_FAULT ? flags | FLAG_RF : flags;
}

function clearFlags(interruptGate: bool): void {
  let flags = systemFlags() & ~(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
  if (interruptGate) flags &= ~FLAG_IF;
  setSystemFlags(flags);
}

/** Checks the handler's code segment, the last descriptor read. Code 0 or 2. */
function checkHandler(sel: u32, external: u32): i32 {
  const attr = attributes();
  const error = (sel & 0xfffc) | external;
  if ((attr & (ATTR_S | ATTR_CODE)) != (ATTR_S | ATTR_CODE) || privilege(attr) > cpl())
    return fault(VECTOR_GP, error);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_NP, error);
  if (longMode() && (attr & (ATTR_LONG | ATTR_BIG)) != ATTR_LONG) return fault(VECTOR_GP, error);
  return DONE;
}

function enterLong(kind: i32, hasError: bool, error: u32, returnRip: i64, external: u32): i32 {
  const sel: u32 = load<u16>(gate, 2);
  const level: u32 = attributes() & ATTR_CONFORMING ? cpl() : privilege(attributes());
  const ist = load<u8>(gate, 4) & 7;
  let top = reg(RSP);
  if (ist != 0 || level < cpl()) {
    if (taskStack64(ist != 0 ? <u32>ist + 3 : level, external)) return FAULT;
    top = taskStackPointer;
    if (!canonical(top)) return fault(VECTOR_SS, external);
  } else if (!mode64()) {
    top &= 0xffffffff;
  }
  top &= ~0xf;
  const items = hasError ? 6 : 5;
  let item = 0;
  if (hasError) setFrameItem(frame, item++, 8, error);
  setFrameItem(frame, item++, 8, returnRip);
  setFrameItem(frame, item++, 8, selector(CS));
  setFrameItem(frame, item++, 8, savedFlags(kind));
  setFrameItem(frame, item++, 8, reg(RSP));
  setFrameItem(frame, item, 8, selector(SS));
  if (pushFrame(0, top, -1, frame, items * 8, level)) return FAULT;
  if (markAccessed()) return FAULT;
  enterDescriptor(CS, (sel & 0xfffc) | level);
  if (level < cpl()) {
    enterNull(SS, level);
    setPrivilege(level);
  }
  setReg(RSP, top - items * 8);
  setRip(<i64>load<u16>(gate) | ((<i64>load<u16>(gate, 6)) << 16) | ((<i64>load<u32>(gate, 8)) << 32));
  return DONE;
}

/** Elements below the inner stack's SS:ESP: return address, flags and error code. Returns their number. */
function commonItems(size: i32, kind: i32, hasError: bool, error: u32, returnRip: i64): i32 {
  let item = 0;
  if (hasError) setFrameItem(frame, item++, size, error);
  setFrameItem(frame, item++, size, returnRip);
  setFrameItem(frame, item++, size, selector(CS));
  setFrameItem(frame, item++, size, savedFlags(kind));
  return item;
}

function enterSameLevel(size: i32, items: i32): i32 {
  const mask = currentStackMask();
  const bytes = items * size;
  if (pushFrame(segmentBase(SS), reg(RSP), mask, frame, bytes, cpl())) return FAULT;
  if (markAccessed()) return FAULT;
  setStackPointer(reg(RSP) - bytes, mask);
  return DONE;
}

/** Switches to the stack that the TSS has for the handler's level; `handler` is its selector. */
function enterInner(handler: u32, level: u32, size: i32, items: i32, external: u32): i32 {
  const vm = virtual8086();
  if (vm && level != 0) return fault(VECTOR_GP, (handler & 0xfffc) | external);
  setFrameItem(frame, items++, size, reg(RSP));
  setFrameItem(frame, items++, size, selector(SS));
  if (vm) {
    setFrameItem(frame, items++, size, selector(ES));
    setFrameItem(frame, items++, size, selector(DS));
    setFrameItem(frame, items++, size, selector(FS));
    setFrameItem(frame, items++, size, selector(GS));
  }
  if (taskStack(level, external)) return FAULT;
  const stackSelector = taskStackSelector;
  if (checkInnerStack(stackSelector, level, VECTOR_TS, external)) return FAULT;
  const mask = innerStackMask();
  const top = taskStackPointer;
  if (pushFrame(innerStackBase(), top, mask, frame, items * size, level)) return FAULT;
  if (markAccessed()) return FAULT;
  enterDescriptor(SS, stackSelector);
  setStackPointer(top - items * size, mask);
  if (vm) for (let segment = DS; segment <= GS; segment++) enterNull(segment, 0);
  if (vm) enterNull(ES, 0);
  setPrivilege(level);
  // The handler's descriptor again, for the caller.
  return fetchDescriptor(handler, 8, VECTOR_GP, external) || markAccessed() ? FAULT : DONE;
}

function enterLegacy(kind: i32, hasError: bool, error: u32, returnRip: i64, external: u32): i32 {
  const sel: u32 = load<u16>(gate, 2);
  const wide = (load<u8>(gate, 5) & 8) != 0;
  const size = wide ? 4 : 2;
  const level: u32 = attributes() & ATTR_CONFORMING ? cpl() : privilege(attributes());
  const items = commonItems(size, kind, hasError, error, returnRip);
  const code = level < cpl() ? enterInner(sel, level, size, items, external) : enterSameLevel(size, items);
  if (code) return code;
  enterDescriptor(CS, (sel & 0xfffc) | level);
  setRip(<i64>load<u16>(gate) | (wide ? (<i64>load<u16>(gate, 6)) << 16 : 0));
  return DONE;
}

/** Whether the gate type is one that this mode has. Bit 0 of the type tells trap from interrupt gates. */
function validGate(type: u32): bool {
  if (type == 0xe || type == 0xf) return true;
  return !longMode() && (type == 6 || type == 7);
}

/**
 * Saves the state and continues at the handler of a vector. Code 0, or 2 with the next exception pending and nothing
 * changed. `kind` is one of EVENT_*.
 */
export function enterVector(vector: i32, kind: i32, hasError: bool, error: u32, returnRip: i64): i32 {
  if (!protectedMode()) return enterReal(vector, returnRip);
  const external: u32 = kind == EVENT_SOFTWARE ? 0 : 1;
  const gateError = <u32>(vector * 8 + 2) | external;
  const gateSize: u32 = longMode() ? 16 : 8;
  if (<u32>(vector + 1) * gateSize - 1 > load<u32>(STATE_IDTR_LIMIT)) return fault(VECTOR_GP, gateError);
  if (readSystemBlock(load<i64>(STATE_IDTR_BASE) + vector * gateSize, gate, gateSize)) return FAULT;
  const access: u32 = load<u8>(gate, 5);
  const type = access & 0x1f;
  if (!validGate(type)) return fault(VECTOR_GP, gateError);
  if (kind == EVENT_SOFTWARE && privilege(access) < cpl()) return fault(VECTOR_GP, gateError);
  if ((access & ATTR_PRESENT) == 0) return fault(VECTOR_NP, gateError);
  const sel: u32 = load<u16>(gate, 2);
  if (isNull(sel)) return fault(VECTOR_GP, external);
  if (fetchDescriptor(sel, 8, VECTOR_GP, external)) return FAULT;
  if (checkHandler(sel, external)) return FAULT;
  const code = longMode()
    ? enterLong(kind, hasError, error, returnRip, external)
    : enterLegacy(kind, hasError, error, returnRip, external);
  if (code) return code;
  clearFlags((type & 1) == 0);
  updateMode();
  return DONE;
}
