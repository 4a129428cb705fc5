// Exceptions and interrupts (Intel SDM volume 3, chapter 6).
//
// Task gates are not supported: they raise #GP with the vector, as an invalid gate type does.
import {
  EXIT_SHUTDOWN,
  STATE_CR2,
  STATE_DR,
  STATE_FAULT_ADDRESS,
  STATE_FAULT_ERROR,
  STATE_FAULT_VECTOR,
  STATE_HALTED,
  STATE_INTR_SHADOW,
  STATE_NMI_BLOCKED,
  STATE_NMI_PENDING,
  STATE_STEPPING,
} from './layout';
import { enterVector } from './vector';
import { getFlags } from './flags';
import {
  DONE,
  FAULT,
  FLAG_IF,
  FLAG_OF,
  LOOKUP,
  VECTOR_DB,
  VECTOR_DF,
  VECTOR_GP,
  VECTOR_NMI,
  VECTOR_OF,
  VECTOR_PF,
  VECTOR_SS,
  attendSoon,
  canonical,
  fault,
  iopl,
  leave,
  rip,
  systemFlags,
  virtual8086,
} from './state';

/** Where an event comes from: decides the EXT bit, privilege checks and RF. */
export const EVENT_FAULT: i32 = 0;
export const EVENT_EXTERNAL: i32 = 1;
export const EVENT_SOFTWARE: i32 = 2;
/** #DB: like a fault, but the saved RF is clear. */
export const EVENT_TRAP: i32 = 3;

/** Debug status of a single step (DR6.BS). */
const DR6_BS: i64 = 0x4000;

/** Makes a fault pending. */
export function raise(vector: i32, error: u32): void {
  fault(vector, error);
}

/** Vectors that push an error code: 8, 10…14, 17 and 21. */
function hasErrorCode(vector: i32): bool {
  return ((0x227d00 >> vector) & 1) != 0 && vector < 32;
}

/** #DE, #TS, #NP, #SS, #GP: two of them in a row make a double fault. */
function contributory(vector: i32): bool {
  return vector == 0 || (vector >= 10 && vector <= 13);
}

function makesDoubleFault(first: i32, second: i32): bool {
  if (contributory(first)) return contributory(second);
  return first == VECTOR_PF && (second == VECTOR_PF || contributory(second));
}

/** Says that the pending fault is from an access to the stack: #GP for an address that is not canonical is #SS. */
export function stackFault(): void {
  if (load<i32>(STATE_FAULT_VECTOR) != VECTOR_GP || canonical(load<i64>(STATE_FAULT_ADDRESS))) return;
  store<i32>(STATE_FAULT_VECTOR, VECTOR_SS);
}

/** Delivers the pending fault for the instruction at STATE_RIP; see exports.ts. */
export function deliverFault(): i32 {
  return deliverFrom(-1);
}

/** As `deliverFault`; `first` is the exception during whose delivery the pending one came up. */
function deliverFrom(first: i32): i32 {
  while (true) {
    let vector = load<i32>(STATE_FAULT_VECTOR);
    let error = load<u32>(STATE_FAULT_ERROR);
    store<i32>(STATE_FAULT_VECTOR, -1);
    if (vector == VECTOR_PF) store<i64>(STATE_CR2, load<i64>(STATE_FAULT_ADDRESS));
    store<i64>(STATE_FAULT_ADDRESS, 0);
    if (first == VECTOR_DF) return leave(EXIT_SHUTDOWN);
    if (makesDoubleFault(first, vector)) {
      vector = VECTOR_DF;
      error = 0;
    }
    const kind = vector == VECTOR_DB ? EVENT_TRAP : EVENT_FAULT;
    if (enterVector(vector, kind, hasErrorCode(vector), error, rip()) == DONE) return entered();
    first = vector;
  }
}

function entered(): i32 {
  store<u32>(STATE_HALTED, 0);
  store<u32>(STATE_INTR_SHADOW, 0);
  store<u32>(STATE_STEPPING, 0);
  return LOOKUP;
}

/** Delivers an external interrupt or NMI before the instruction at STATE_RIP. */
export function interrupt(vector: i32): i32 {
  if (vector == VECTOR_NMI) {
    store<u32>(STATE_NMI_PENDING, 0);
    store<u32>(STATE_NMI_BLOCKED, 1);
  }
  if (enterVector(vector, EVENT_EXTERNAL, false, 0, rip()) == DONE) return entered();
  store<u32>(STATE_HALTED, 0);
  return deliverFrom(-1);
}

/** INT n and INT3. */
export function softwareInterrupt(vector: i32, next: i64): i32 {
  if (virtual8086() && vector != 3 && iopl() < 3) return fault(VECTOR_GP, 0);
  if (enterVector(vector, EVENT_SOFTWARE, false, 0, next) != DONE) return FAULT;
  return entered();
}

/** INTO. */
export function into(next: i64): i32 {
  if ((getFlags() & FLAG_OF) == 0) return DONE;
  if (enterVector(VECTOR_OF, EVENT_SOFTWARE, false, 0, next) != DONE) return FAULT;
  return entered();
}

/** INT1. */
export function icebp(next: i64): i32 {
  if (enterVector(VECTOR_DB, EVENT_TRAP, false, 0, next) != DONE) return FAULT;
  return entered();
}

/** The trap after a single-stepped instruction. */
export function singleStep(): i32 {
  const dr6 = STATE_DR + 6 * 8;
  store<i64>(dr6, load<i64>(dr6) | DR6_BS);
  fault(VECTOR_DB, 0);
  return deliverFrom(-1);
}

/** 1 when an NMI waits and would be taken now. */
export function nmiPossible(): i32 {
  if (load<u32>(STATE_NMI_PENDING) == 0 || load<u32>(STATE_NMI_BLOCKED) != 0) return 0;
  return load<u32>(STATE_INTR_SHADOW) == 0 ? 1 : 0;
}

/** IRET unblocks NMIs; one that waits is taken as soon as the run loop looks. */
export function unblockNmi(): void {
  store<u32>(STATE_NMI_BLOCKED, 0);
  if (load<u32>(STATE_NMI_PENDING)) attendSoon();
}

/** 1 when an external interrupt would be taken now. */
export function interruptsPossible(): i32 {
  return (systemFlags() & FLAG_IF) != 0 && load<u32>(STATE_INTR_SHADOW) == 0 ? 1 : 0;
}
