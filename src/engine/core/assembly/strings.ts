// String instructions (Intel SDM volume 2: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS).
//
// A repetition is interruptible: after about 64 KiB a call pauses.
import { readPort, writePort } from './env';
import { setCompareFlags } from './flags';
import { EXIT_BUDGET, MODE_SINGLE_STEP, STATE_CODE_WRITTEN, STATE_FLAG_RESULT, STATE_MODE } from './layout';
import { commitWrite, noteStore, roomInPage, slowRead, slowWrite } from './mmu';
import { checkPort } from './port-io';
import { ram } from './memory-map';
import {
  DONE,
  ES,
  FAULT,
  FLAG_DF,
  LOOKUP,
  PAUSE,
  RAX,
  RCX,
  RDI,
  RDX,
  RSI,
  leave,
  mode64,
  reg,
  segmentBase,
  setReg,
  setRip,
  systemFlags,
} from './state';
import { NO_POINTER, currentBank, resolve } from './tlb';
import { ACCESS_READ, ACCESS_WRITE } from './walk';

const REPEAT_NOT_EQUAL: i32 = 2;
const BYTES_PER_CALL: i64 = 0x10000;

// The instruction being executed.
let width: i32 = 1;
let addressMask: i64 = -1;
let linearMask: i64 = -1;
let step: i64 = 1;
let sourceBase: i64 = 0;
let destinationBase: i64 = 0;
/** Elements that this call may do. */
let budget: i64 = 0;
/** The call's last element does not complete the repetition. */
let partial: bool = false;

/** Sets the variables above; returns false when there is nothing to do. */
function begin(size: i32, addressWidth: i32, base: i64, repeat: i32): bool {
  width = size;
  addressMask = addressWidth == 8 ? -1 : addressWidth == 4 ? 0xffffffff : 0xffff;
  linearMask = mode64() ? -1 : 0xffffffff;
  step = (systemFlags() & FLAG_DF) != 0 ? -size : size;
  sourceBase = base;
  destinationBase = mode64() ? 0 : segmentBase(ES);
  partial = false;
  if (!repeat) {
    budget = 1;
    return true;
  }
  const count = reg(RCX) & addressMask;
  const single = (load<u32>(STATE_MODE) & MODE_SINGLE_STEP) != 0;
  const most: i64 = single ? 1 : BYTES_PER_CALL / size;
  partial = <u64>count > <u64>most;
  budget = partial ? most : count;
  return count != 0;
}

/** Replaces the bits of a register that the address width covers. */
function setAddress(index: i32, value: i64): void {
  if (addressMask == 0xffff) setReg(index, (reg(index) & ~0xffff) | (value & 0xffff));
  else setReg(index, value & addressMask);
}

function sourceAddress(): i64 {
  return (sourceBase + (reg(RSI) & addressMask)) & linearMask;
}

function destinationAddress(): i64 {
  return (destinationBase + (reg(RDI) & addressMask)) & linearMask;
}

/** Accounts for `elements` done. */
function advance(elements: i64, repeat: i32, source: bool, destination: bool): void {
  if (source) setAddress(RSI, reg(RSI) + elements * step);
  if (destination) setAddress(RDI, reg(RDI) + elements * step);
  if (repeat) setAddress(RCX, reg(RCX) - elements);
}

/** The call's code: a repetition may pause here, and what it wrote may be the code that runs. */
function finish(next: i64): i32 {
  if (partial) {
    leave(EXIT_BUDGET);
    return PAUSE;
  }
  if (load<u32>(STATE_CODE_WRITTEN) == 0) return DONE;
  store<u32>(STATE_CODE_WRITTEN, 0);
  setRip(next);
  return LOOKUP;
}

function loadElement(pointer: usize): i64 {
  if (width == 8) return load<i64>(pointer);
  if (width == 4) return load<i32>(pointer);
  if (width == 2) return load<i16>(pointer);
  return load<i8>(pointer);
}

function storeElement(pointer: usize, value: i64): void {
  if (width == 8) store<i64>(pointer, value);
  else if (width == 4) store<i32>(pointer, <i32>value);
  else if (width == 2) store<i16>(pointer, <i16>value);
  else store<i8>(pointer, <i8>value);
}

/** Elements from an address that lie in its page and do not wrap the offset; ascending direction only. */
function elementsInPage(address: i64, offset: i64): i64 {
  let room = <i64>roomInPage(address);
  if (addressMask != -1) {
    const untilWrap = addressMask + 1 - (offset & addressMask);
    if (untilWrap < room) room = untilWrap;
  }
  return room / width;
}

/** Stores one element at the destination. Code 0 or 2. */
function putElement(value: i64): i32 {
  const pointer = slowWrite(destinationAddress(), width, 0);
  if (!pointer) return FAULT;
  storeElement(pointer, value);
  commitWrite();
  return DONE;
}

/** x86 copies ascending, element by element: an overlapping destination repeats the source. */
function copyAscending(to: usize, from: usize, bytes: i32): void {
  if (to <= from || to - from >= <usize>bytes) {
    memory.copy(to, from, bytes);
    return;
  }
  for (let i = 0; i < bytes; i += width) storeElement(to + i, loadElement(from + i));
}

/** Copies as many elements as both pages hold. Their number, 0 if it has to go element by element, -1 on a fault. */
function copyRun(): i64 {
  const source = sourceAddress();
  const destination = destinationAddress();
  const count = min(budget, min(elementsInPage(source, reg(RSI)), elementsInPage(destination, reg(RDI))));
  if (step < 0 || count <= 1) return 0;
  const bank = currentBank();
  const from = resolve(source, bank, ACCESS_READ);
  if (from == NO_POINTER) return -1;
  const to = resolve(destination, bank, ACCESS_WRITE);
  if (to == NO_POINTER) return -1;
  if (!from || !to) return 0;
  const bytes = <i32>count * width;
  noteStore(<u32>(to - ram), bytes);
  copyAscending(to, from, bytes);
  return count;
}

export function movs(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  while (budget > 0) {
    let done = copyRun();
    if (done < 0) return FAULT;
    if (done == 0) {
      const pointer = slowRead(sourceAddress(), width);
      if (!pointer || putElement(loadElement(pointer))) return FAULT;
      done = 1;
    }
    advance(done, repeat, true, true);
    budget -= done;
  }
  return finish(next);
}

function fillAscending(to: usize, value: i64, count: i32): void {
  if (width == 1) {
    memory.fill(to, <u8>value, count);
    return;
  }
  for (let i = 0; i < count; i++) storeElement(to + i * width, value);
}

function fillRun(value: i64): i64 {
  const destination = destinationAddress();
  const count = min(budget, elementsInPage(destination, reg(RDI)));
  if (step < 0 || count <= 1) return 0;
  const to = resolve(destination, currentBank(), ACCESS_WRITE);
  if (to == NO_POINTER) return -1;
  if (!to) return 0;
  noteStore(<u32>(to - ram), <i32>count * width);
  fillAscending(to, value, <i32>count);
  return count;
}

export function stos(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  const value = reg(RAX);
  while (budget > 0) {
    let done = fillRun(value);
    if (done < 0) return FAULT;
    if (done == 0) {
      if (putElement(value)) return FAULT;
      done = 1;
    }
    advance(done, repeat, false, true);
    budget -= done;
  }
  return finish(next);
}

/** Loads an element into AL, AX, EAX or RAX. */
function setAccumulator(value: i64): void {
  if (width == 8) setReg(RAX, value);
  else if (width == 4) setReg(RAX, value & 0xffffffff);
  else if (width == 2) setReg(RAX, (reg(RAX) & ~0xffff) | (value & 0xffff));
  else setReg(RAX, (reg(RAX) & ~0xff) | (value & 0xff));
}

export function lods(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  for (; budget > 0; budget--) {
    const pointer = slowRead(sourceAddress(), width);
    if (!pointer) return FAULT;
    setAccumulator(loadElement(pointer));
    advance(1, repeat, true, false);
  }
  return finish(next);
}

/** After a comparison: whether a repetition ends early. */
function compared(repeat: i32): bool {
  const equal = load<i64>(STATE_FLAG_RESULT) == 0;
  return repeat == REPEAT_NOT_EQUAL ? equal : !equal;
}

export function cmps(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  for (; budget > 0; budget--) {
    const first = slowRead(sourceAddress(), width);
    if (!first) return FAULT;
    const a = loadElement(first);
    const second = slowRead(destinationAddress(), width);
    if (!second) return FAULT;
    setCompareFlags(a, loadElement(second), width);
    advance(1, repeat, true, true);
    if (repeat && compared(repeat)) return DONE;
  }
  return finish(next);
}

export function scas(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  const shift = <i64>(64 - width * 8);
  const accumulator = (reg(RAX) << shift) >> shift;
  for (; budget > 0; budget--) {
    const pointer = slowRead(destinationAddress(), width);
    if (!pointer) return FAULT;
    setCompareFlags(accumulator, loadElement(pointer), width);
    advance(1, repeat, false, true);
    if (repeat && compared(repeat)) return DONE;
  }
  return finish(next);
}

export function ins(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  const port = <i32>reg(RDX) & 0xffff;
  if (checkPort(port, size)) return FAULT;
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  for (; budget > 0; budget--) {
    // The destination is checked before the device is read.
    const pointer = slowWrite(destinationAddress(), width, 0);
    if (!pointer) return FAULT;
    storeElement(pointer, readPort(port, width));
    commitWrite();
    advance(1, repeat, false, true);
  }
  return finish(next);
}

export function outs(size: i32, addressWidth: i32, base: i64, repeat: i32, next: i64): i32 {
  const port = <i32>reg(RDX) & 0xffff;
  if (checkPort(port, size)) return FAULT;
  if (!begin(size, addressWidth, base, repeat)) return DONE;
  for (; budget > 0; budget--) {
    const pointer = slowRead(sourceAddress(), width);
    if (!pointer) return FAULT;
    const mask: i32 = width == 4 ? -1 : (1 << (width * 8)) - 1;
    writePort(port, width, <i32>loadElement(pointer) & mask);
    advance(1, repeat, true, false);
  }
  return finish(next);
}
