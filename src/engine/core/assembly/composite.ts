// Instructions with several memory accesses: CMPXCHG8B/16B, ENTER, BOUND.
import { setZero } from './flags';
import { commitWrite, probeWrite, readBlock, slowRead, slowWrite, writeBlock } from './mmu';
import { currentStackMask, frameItem, setFrameItem, setStackPointer, stackAddress } from './stack';
import {
  DONE,
  FAULT,
  RAX,
  RBP,
  RBX,
  RCX,
  RDX,
  RSP,
  VECTOR_BR,
  VECTOR_GP,
  fault,
  mode64,
  reg,
  setReg,
} from './state';
import { currentBank } from './tlb';

const buffer: usize = memory.data(16);

export function cmpxchg8b(address: i64): i32 {
  const pointer = slowWrite(address, 8, 1);
  if (!pointer) return FAULT;
  const old = load<i64>(pointer);
  const equal = old == ((reg(RAX) & 0xffffffff) | (reg(RDX) << 32));
  // The destination is written in any case.
  store<i64>(pointer, equal ? (reg(RBX) & 0xffffffff) | (reg(RCX) << 32) : old);
  commitWrite();
  if (!equal) {
    setReg(RAX, old & 0xffffffff);
    setReg(RDX, <i64>(<u64>old >> 32));
  }
  setZero(equal);
  return DONE;
}

export function cmpxchg16b(address: i64): i32 {
  if (address & 15) return fault(VECTOR_GP, 0);
  const pointer = slowWrite(address, 16, 1);
  if (!pointer) return FAULT;
  const low = load<i64>(pointer);
  const high = load<i64>(pointer, 8);
  const equal = low == reg(RAX) && high == reg(RDX);
  store<i64>(pointer, equal ? reg(RBX) : low);
  store<i64>(pointer, equal ? reg(RCX) : high, 8);
  commitWrite();
  if (!equal) {
    setReg(RAX, low);
    setReg(RDX, high);
  }
  setZero(equal);
  return DONE;
}

/** Writes one stack element below `pointer`. Code 0 or 2. */
function pushAt(pointer: i64, opSize: i32, value: i64): i32 {
  setFrameItem(buffer, 0, opSize, value);
  return writeBlock(stackAddress(pointer), buffer, opSize);
}

/** ENTER: registers change only when nothing can fault any more. */
export function enter(size: i32, level: i32, opSize: i32): i32 {
  const mask = currentStackMask();
  level &= 31;
  let pointer = (reg(RSP) - opSize) & mask;
  if (pushAt(pointer, opSize, reg(RBP))) return FAULT;
  const frame = pointer;
  if (level > 0) {
    let link = reg(RBP) & mask;
    for (let i = 1; i < level; i++) {
      link = (link - opSize) & mask;
      if (readBlock(stackAddress(link), buffer, opSize)) return FAULT;
      const value = frameItem(buffer, 0, opSize);
      pointer = (pointer - opSize) & mask;
      if (pushAt(pointer, opSize, value)) return FAULT;
    }
    pointer = (pointer - opSize) & mask;
    if (pushAt(pointer, opSize, frame)) return FAULT;
  }
  const top = (pointer - (size & 0xffff)) & mask;
  // The new top of the stack has to be writable.
  if (probeWrite(stackAddress(top), opSize, currentBank())) return FAULT;
  if (opSize == 2) setReg(RBP, (reg(RBP) & ~0xffff) | (frame & 0xffff));
  else setReg(RBP, mode64() ? frame : frame & 0xffffffff);
  setStackPointer(top, mask);
  return DONE;
}

/** BOUND: #BR when the signed index lies outside the two bounds. */
export function bound(index: i32, address: i64, opSize: i32): i32 {
  const pointer = slowRead(address, opSize * 2);
  if (!pointer) return FAULT;
  const value: i32 = opSize == 2 ? (index << 16) >> 16 : index;
  const lower: i32 = opSize == 2 ? <i32>load<i16>(pointer) : load<i32>(pointer);
  const upper: i32 = opSize == 2 ? <i32>load<i16>(pointer, 2) : load<i32>(pointer, 4);
  return value < lower || value > upper ? fault(VECTOR_BR, 0) : DONE;
}
