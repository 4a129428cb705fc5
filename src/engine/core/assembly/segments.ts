// Segment registers and descriptor tables (Intel SDM volume 3, chapters 3 and 5).
//
// Limits are loaded but not checked on data accesses.
import {
  attributes,
  descriptorHigh,
  descriptorLimit,
  enterDescriptor,
  enterNull,
  enterParagraph,
  fetchDescriptor,
  isNull,
  markAccessed,
  markDescriptor,
  privilege,
  wideBase,
} from './descriptors';
import { setZero } from './flags';
import {
  STATE_FAULT_VECTOR,
  STATE_GDTR_BASE,
  STATE_GDTR_LIMIT,
  STATE_IDTR_BASE,
  STATE_IDTR_LIMIT,
  STATE_INTR_SHADOW,
  STATE_STEPPING,
  STATE_LDTR_ATTR,
  STATE_LDTR_BASE,
  STATE_LDTR_LIMIT,
  STATE_LDTR_SEL,
  STATE_MODE,
  STATE_SEG_LIMIT,
  STATE_TR_ATTR,
  STATE_TR_BASE,
  STATE_TR_LIMIT,
  STATE_TR_SEL,
} from './layout';
import { readBlock, writeBlock } from './mmu';
import { updateMode } from './mode';
import {
  ATTR_CODE,
  ATTR_CONFORMING,
  ATTR_PRESENT,
  ATTR_RW,
  ATTR_S,
  ATTR_TYPE,
  CS,
  DONE,
  FAULT,
  LOOKUP,
  SS,
  VECTOR_GP,
  VECTOR_NP,
  VECTOR_SS,
  VECTOR_UD,
  canonical,
  cpl,
  fault,
  longMode,
  mode64,
  paragraphSelectors,
  segmentAttributes,
  setRip,
  virtual8086,
} from './state';

export { updateMode };

const buffer: usize = memory.data(16);

const TYPE_LDT: u32 = 2;
const TYPE_BUSY: u32 = 2;

function checkStackSegment(sel: u32): i32 {
  const attr = attributes();
  const writableData = (attr & (ATTR_S | ATTR_CODE | ATTR_RW)) == (ATTR_S | ATTR_RW);
  if ((sel & 3) != cpl() || !writableData || privilege(attr) != cpl()) return fault(VECTOR_GP, sel & 0xfffc);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_SS, sel & 0xfffc);
  return DONE;
}

function checkDataSegment(sel: u32): i32 {
  const attr = attributes();
  const readable = (attr & ATTR_S) != 0 && (attr & (ATTR_CODE | ATTR_RW)) != ATTR_CODE;
  if (!readable) return fault(VECTOR_GP, sel & 0xfffc);
  const conforming = (attr & (ATTR_CODE | ATTR_CONFORMING)) == (ATTR_CODE | ATTR_CONFORMING);
  if (!conforming && (privilege(attr) < cpl() || privilege(attr) < (sel & 3)))
    return fault(VECTOR_GP, sel & 0xfffc);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_NP, sel & 0xfffc);
  return DONE;
}

/** Loads a segment register without touching the mode key. Code 0 or 2. */
function enterSelector(segment: i32, sel: u32): i32 {
  if (paragraphSelectors()) {
    // Real mode keeps limit and attributes, as "unreal mode" needs.
    const limit = virtual8086() ? 0xffff : load<u32>(STATE_SEG_LIMIT + ((<usize>segment) << 2));
    const attr: u32 = virtual8086() ? 0xf3 : segmentAttributes(segment);
    enterParagraph(segment, sel, limit, attr);
    return DONE;
  }
  if (isNull(sel)) {
    if (segment == SS && (!mode64() || cpl() == 3 || (sel & 3) != cpl())) return fault(VECTOR_GP, 0);
    enterNull(segment, sel);
    return DONE;
  }
  if (fetchDescriptor(sel, 8, VECTOR_GP, 0)) return FAULT;
  if (segment == SS ? checkStackSegment(sel) : checkDataSegment(sel)) return FAULT;
  if (markAccessed()) return FAULT;
  enterDescriptor(segment, sel);
  return DONE;
}

/** Loads ES, SS, DS, FS or GS; see exports.ts. */
export function loadSegment(segment: i32, sel: i32, next: i64): i32 {
  if (segment == CS || segment > 5) return fault(VECTOR_UD, 0);
  if (enterSelector(segment, <u32>sel & 0xffff)) return FAULT;
  if (segment == SS) {
    // Neither interrupts nor the trap of a single step come between this and the load of the stack pointer.
    store<u32>(STATE_INTR_SHADOW, 1);
    store<u32>(STATE_STEPPING, 0);
  }
  const before = load<u32>(STATE_MODE);
  updateMode();
  if (load<u32>(STATE_MODE) == before) return DONE;
  setRip(next);
  return LOOKUP;
}

/** Conditions of LLDT, LTR, LGDT, LIDT: protected mode where `tables` says so, and CPL 0. */
function checkPrivileged(protectedOnly: bool): i32 {
  if (protectedOnly && paragraphSelectors()) return fault(VECTOR_UD, 0);
  return cpl() != 0 ? fault(VECTOR_GP, 0) : DONE;
}

export function lldt(selector: i32): i32 {
  if (checkPrivileged(true)) return FAULT;
  const sel = <u32>selector & 0xffff;
  if (isNull(sel)) {
    store<u32>(STATE_LDTR_SEL, sel);
    store<u32>(STATE_LDTR_ATTR, 0);
    return DONE;
  }
  if (sel & 4) return fault(VECTOR_GP, sel & 0xfffc);
  if (fetchDescriptor(sel, longMode() ? 16 : 8, VECTOR_GP, 0)) return FAULT;
  const attr = attributes();
  if ((attr & (ATTR_S | ATTR_TYPE)) != TYPE_LDT) return fault(VECTOR_GP, sel & 0xfffc);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_NP, sel & 0xfffc);
  if (!canonical(wideBase())) return fault(VECTOR_GP, sel & 0xfffc);
  store<u32>(STATE_LDTR_SEL, sel);
  store<u32>(STATE_LDTR_ATTR, attr);
  store<i64>(STATE_LDTR_BASE, wideBase());
  store<u32>(STATE_LDTR_LIMIT, descriptorLimit());
  return DONE;
}

export function ltr(selector: i32): i32 {
  if (checkPrivileged(true)) return FAULT;
  const sel = <u32>selector & 0xffff;
  if (isNull(sel)) return fault(VECTOR_GP, 0);
  if (sel & 4) return fault(VECTOR_GP, sel & 0xfffc);
  if (fetchDescriptor(sel, longMode() ? 16 : 8, VECTOR_GP, 0)) return FAULT;
  const attr = attributes();
  const type = attr & (ATTR_S | ATTR_TYPE);
  // An available TSS: 32- or 64-bit (9), or 16-bit (1) outside long mode.
  if (type != 9 && (type != 1 || longMode())) return fault(VECTOR_GP, sel & 0xfffc);
  if ((attr & ATTR_PRESENT) == 0) return fault(VECTOR_NP, sel & 0xfffc);
  if (!canonical(wideBase())) return fault(VECTOR_GP, sel & 0xfffc);
  if (markDescriptor(0, TYPE_BUSY)) return FAULT;
  store<u32>(STATE_TR_SEL, sel);
  store<u32>(STATE_TR_ATTR, attributes());
  store<i64>(STATE_TR_BASE, wideBase());
  store<u32>(STATE_TR_LIMIT, descriptorLimit());
  return DONE;
}

export function sldt(): i32 {
  if (paragraphSelectors()) fault(VECTOR_UD, 0);
  return load<i32>(STATE_LDTR_SEL) & 0xffff;
}

export function str(): i32 {
  if (paragraphSelectors()) fault(VECTOR_UD, 0);
  return load<i32>(STATE_TR_SEL) & 0xffff;
}

/** System descriptor types that LAR accepts, one bit each; LSL accepts those with a limit only. */
const LAR_LEGACY: u32 = 0x1a3e;
const LAR_LONG: u32 = 0x1a04;
const LSL_LEGACY: u32 = 0x0a0e;
const LSL_LONG: u32 = 0x0a04;

/** Reads a descriptor for LAR, LSL, VERR, VERW; false without a fault when it is not visible. */
function visibleDescriptor(sel: u32): bool {
  if (isNull(sel)) return false;
  if (fetchDescriptor(sel, 8, -1, 0)) return false;
  const attr = attributes();
  const conforming =
    (attr & (ATTR_S | ATTR_CODE | ATTR_CONFORMING)) == (ATTR_S | ATTR_CODE | ATTR_CONFORMING);
  return conforming || (privilege(attr) >= cpl() && privilege(attr) >= (sel & 3));
}

function inspect(sel: u32, systemTypes: u32): bool {
  if (paragraphSelectors()) {
    fault(VECTOR_UD, 0);
    return false;
  }
  const visible = visibleDescriptor(sel);
  if (load<i32>(STATE_FAULT_VECTOR) >= 0) return false;
  const attr = attributes();
  const found = visible && ((attr & ATTR_S) != 0 || ((systemTypes >> (attr & ATTR_TYPE)) & 1) != 0);
  setZero(found);
  return found;
}

export function lar(selector: i32): i64 {
  const found = inspect(<u32>selector & 0xffff, longMode() ? LAR_LONG : LAR_LEGACY);
  return found ? <i64>(descriptorHigh & 0x00f0ff00) : -1;
}

export function lsl(selector: i32): i64 {
  const found = inspect(<u32>selector & 0xffff, longMode() ? LSL_LONG : LSL_LEGACY);
  return found ? <i64>descriptorLimit() : -1;
}

export function verr(selector: i32): i32 {
  if (paragraphSelectors()) return fault(VECTOR_UD, 0);
  const visible = visibleDescriptor(<u32>selector & 0xffff);
  if (load<i32>(STATE_FAULT_VECTOR) >= 0) return FAULT;
  const attr = attributes();
  setZero(visible && (attr & ATTR_S) != 0 && (attr & (ATTR_CODE | ATTR_RW)) != ATTR_CODE);
  return DONE;
}

export function verw(selector: i32): i32 {
  if (paragraphSelectors()) return fault(VECTOR_UD, 0);
  const visible = visibleDescriptor(<u32>selector & 0xffff);
  if (load<i32>(STATE_FAULT_VECTOR) >= 0) return FAULT;
  setZero(visible && (attributes() & (ATTR_S | ATTR_CODE | ATTR_RW)) == (ATTR_S | ATTR_RW));
  return DONE;
}

function storeTable(address: i64, limit: u32, base: i64): i32 {
  store<u16>(buffer, <u16>limit);
  store<i64>(buffer, base, 2);
  return writeBlock(address, buffer, mode64() ? 10 : 6);
}

export function sgdt(address: i64, opSize: i32): i32 {
  return storeTable(address, load<u32>(STATE_GDTR_LIMIT), load<i64>(STATE_GDTR_BASE));
}

export function sidt(address: i64, opSize: i32): i32 {
  return storeTable(address, load<u32>(STATE_IDTR_LIMIT), load<i64>(STATE_IDTR_BASE));
}

/** Reads a table's base and limit into the buffer. Code 0 or 2. */
function fetchTable(address: i64, opSize: i32): i32 {
  if (checkPrivileged(false)) return FAULT;
  store<i64>(buffer, 0, 2);
  if (readBlock(address, buffer, mode64() ? 10 : 6)) return FAULT;
  if (!mode64() && opSize == 2) store<i64>(buffer, load<i64>(buffer, 2) & 0xffffff, 2);
  return canonical(load<i64>(buffer, 2)) ? DONE : fault(VECTOR_GP, 0);
}

export function lgdt(address: i64, opSize: i32): i32 {
  if (fetchTable(address, opSize)) return FAULT;
  store<u32>(STATE_GDTR_LIMIT, load<u16>(buffer));
  store<i64>(STATE_GDTR_BASE, load<i64>(buffer, 2));
  return DONE;
}

export function lidt(address: i64, opSize: i32): i32 {
  if (fetchTable(address, opSize)) return FAULT;
  store<u32>(STATE_IDTR_LIMIT, load<u16>(buffer));
  store<i64>(STATE_IDTR_BASE, load<i64>(buffer, 2));
  return DONE;
}
