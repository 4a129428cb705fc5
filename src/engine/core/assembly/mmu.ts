// Memory accesses that generated code cannot do inline: TLB misses, page crossings, MMIO, stores to code.
import { invalidateRange } from './blocks';
import { readMmio, writeMmio } from './env';
import {
  STATE_BOUNCE,
  STATE_BOUNCE_ADDRESS,
  STATE_BOUNCE_KIND,
  STATE_BOUNCE_PHYS0,
  STATE_BOUNCE_PHYS1,
  STATE_BOUNCE_SIZE,
  STATE_CODE_WRITTEN,
  TLB_BANK_SUPERVISOR,
} from './layout';
import { codeBitmap, lowRamBytes, ram, ramOffset, setMemoryMap } from './memory-map';
import { DONE, FAULT, LOOKUP } from './state';
import {
  NO_POINTER,
  currentBank,
  flushTlb,
  flushTlbPage,
  initTlb,
  resolve,
  resolvedPhysical,
  selectTlbBank,
} from './tlb';
import { ACCESS_FETCH, ACCESS_READ, ACCESS_WRITE } from './walk';

export { flushTlb, flushTlbPage, selectTlbBank };

const CROSSING: u32 = 1;
const MMIO: u32 = 2;

/** Tells the core where things are; see exports.ts. */
export function init(
  ramAt: usize,
  ramBytes: u32,
  lowBytes: u32,
  pageBlocks: usize,
  bitmap: usize,
  writersAt: usize,
  tlbEntries: i32,
): void {
  setMemoryMap(ramAt, ramBytes, lowBytes, pageBlocks, bitmap, writersAt);
  initTlb(tlbEntries);
  flushTlb();
}

/** Reads device registers in the largest units that fit. */
function readDevice(physical: i64, to: usize, length: i32): void {
  while (length > 0) {
    const size = length >= 4 ? 4 : length >= 2 ? 2 : 1;
    const value = readMmio(<f64>physical, size);
    if (size == 4) store<i32>(to, value);
    else if (size == 2) store<i16>(to, <i16>value);
    else store<i8>(to, <i8>value);
    physical += size;
    to += size;
    length -= size;
  }
}

function writeDevice(physical: i64, from: usize, length: i32): void {
  while (length > 0) {
    const size = length >= 4 ? 4 : length >= 2 ? 2 : 1;
    const value: i32 = size == 4 ? load<i32>(from) : size == 2 ? <i32>load<u16>(from) : <i32>load<u8>(from);
    writeMmio(<f64>physical, size, value);
    physical += size;
    from += size;
    length -= size;
  }
}

/** To be called before bytes of RAM change: kills the code that is translated from them. */
export function noteStore(offset: u32, length: u32): void {
  const last = (offset + length - 1) >>> 12;
  for (let page = offset >>> 12; page <= last; page++) {
    if (load<u64>(codeBitmap + (page << 3)) != 0) {
      if (invalidateRange(offset, length) > 0) store<u32>(STATE_CODE_WRITTEN, 1);
      return;
    }
  }
}

/** Copies from RAM (`pointer`) or, if that is 0, from a device. */
function readPart(pointer: usize, physical: i64, to: usize, length: i32): void {
  if (pointer) memory.copy(to, pointer, length);
  else readDevice(physical, to, length);
}

function writePart(physical: i64, from: usize, length: i32): void {
  const offset = ramOffset(physical);
  if (offset < 0) {
    writeDevice(physical, from, length);
    return;
  }
  noteStore(<u32>offset, length);
  memory.copy(ram + <usize>offset, from, length);
}

/** Bytes from an address to the end of its page. */
export function roomInPage(address: i64): i32 {
  return 4096 - (<i32>address & 4095);
}

/** Pointer to loadable bytes with the rights of a TLB bank, 0 on a fault. */
export function readPointer(address: i64, size: i32, bank: i32): usize {
  const room = roomInPage(address);
  const pointer = resolve(address, bank, ACCESS_READ);
  if (pointer == NO_POINTER) return 0;
  const physical = resolvedPhysical;
  if (size <= room) {
    if (pointer) return pointer;
    readDevice(physical, STATE_BOUNCE, size);
    return STATE_BOUNCE;
  }
  const second = resolve(address + room, bank, ACCESS_READ);
  if (second == NO_POINTER) return 0;
  readPart(pointer, physical, STATE_BOUNCE, room);
  readPart(second, resolvedPhysical, STATE_BOUNCE + room, size - room);
  return STATE_BOUNCE;
}

/** Pointer to `size` (1…16) loadable bytes at the current privilege, 0 on a fault. */
export function slowRead(address: i64, size: i32): usize {
  return readPointer(address, size, currentBank());
}

function slowWriteCrossing(address: i64, size: i32, room: i32, first: usize, readFirst: i32): usize {
  const bank = currentBank();
  const physical: i64 = resolvedPhysical;
  const second = resolve(address + room, bank, ACCESS_WRITE);
  if (second == NO_POINTER) return 0;
  const secondPhysical = resolvedPhysical;
  if (first || readFirst) readPart(first, physical, STATE_BOUNCE, room);
  if (second || readFirst) readPart(second, secondPhysical, STATE_BOUNCE + room, size - room);
  store<i64>(STATE_BOUNCE_ADDRESS, address);
  store<u32>(STATE_BOUNCE_SIZE, size);
  store<i64>(STATE_BOUNCE_PHYS0, first ? physicalOf(first) : physical);
  store<i64>(STATE_BOUNCE_PHYS1, second ? physicalOf(second) : secondPhysical);
  store<u32>(STATE_BOUNCE_KIND, CROSSING);
  return STATE_BOUNCE;
}

/** Guest physical address of a pointer into RAM. */
function physicalOf(pointer: usize): i64 {
  const offset = <i64>(pointer - ram);
  return ramOffset(offset) == offset ? offset : offset - <i64>lowRamBytes + 0x100000000;
}

/** Pointer for storing `size` (1…16) bytes, 0 on a fault; `commitWrite` completes the store. */
export function slowWrite(address: i64, size: i32, readFirst: i32): usize {
  store<u32>(STATE_BOUNCE_KIND, 0);
  const room = roomInPage(address);
  const pointer = resolve(address, currentBank(), ACCESS_WRITE);
  if (pointer == NO_POINTER) return 0;
  if (size > room) return slowWriteCrossing(address, size, room, pointer, readFirst);
  if (pointer) {
    noteStore(<u32>(pointer - ram), size);
    return pointer;
  }
  const physical = resolvedPhysical;
  if (readFirst) readDevice(physical, STATE_BOUNCE, size);
  store<u32>(STATE_BOUNCE_SIZE, size);
  store<i64>(STATE_BOUNCE_PHYS0, physical);
  store<u32>(STATE_BOUNCE_KIND, MMIO);
  return STATE_BOUNCE;
}

/** Writes the bounce buffer out if the last `slowWrite` used it. */
export function commitWrite(): void {
  const kind = load<u32>(STATE_BOUNCE_KIND);
  if (kind == 0) return;
  store<u32>(STATE_BOUNCE_KIND, 0);
  const size = load<i32>(STATE_BOUNCE_SIZE);
  if (kind == MMIO) {
    writeDevice(load<i64>(STATE_BOUNCE_PHYS0), STATE_BOUNCE, size);
    return;
  }
  const room = roomInPage(load<i64>(STATE_BOUNCE_ADDRESS));
  const second = load<i64>(STATE_BOUNCE_PHYS1);
  writePart(load<i64>(STATE_BOUNCE_PHYS0), STATE_BOUNCE, room);
  writePart(second, STATE_BOUNCE + room, size - room);
}

function storeSized(pointer: usize, value: i64, size: i32): void {
  if (size == 8) store<i64>(pointer, value);
  else if (size == 4) store<i32>(pointer, <i32>value);
  else if (size == 2) store<i16>(pointer, <i16>value);
  else store<i8>(pointer, <i8>value);
}

/** Stores 1, 2, 4 or 8 bytes. Code 0, 1 when it hit translated code, 2 when nothing was stored. */
export function slowStore(address: i64, value: i64, size: i32): i32 {
  const pointer = slowWrite(address, size, 0);
  if (!pointer) return FAULT;
  storeSized(pointer, value, size);
  commitWrite();
  return load<u32>(STATE_CODE_WRITTEN) ? LOOKUP : DONE;
}

/** Copies up to 512 bytes of guest memory with the rights of a bank; checks all pages first. Code 0 or 2. */
export function readWithBank(address: i64, to: usize, length: i32, bank: i32): i32 {
  const room = roomInPage(address);
  const pointer = resolve(address, bank, ACCESS_READ);
  if (pointer == NO_POINTER) return FAULT;
  const physical = resolvedPhysical;
  if (length <= room) {
    readPart(pointer, physical, to, length);
    return DONE;
  }
  const second = resolve(address + room, bank, ACCESS_READ);
  if (second == NO_POINTER) return FAULT;
  readPart(pointer, physical, to, room);
  readPart(second, resolvedPhysical, to + room, length - room);
  return DONE;
}

export function writeWithBank(address: i64, from: usize, length: i32, bank: i32): i32 {
  const room = roomInPage(address);
  const pointer = resolve(address, bank, ACCESS_WRITE);
  if (pointer == NO_POINTER) return FAULT;
  const physical = pointer ? physicalOf(pointer) : resolvedPhysical;
  if (length <= room) {
    writePart(physical, from, length);
    return DONE;
  }
  const second = resolve(address + room, bank, ACCESS_WRITE);
  if (second == NO_POINTER) return FAULT;
  const secondPhysical = second ? physicalOf(second) : resolvedPhysical;
  writePart(physical, from, room);
  writePart(secondPhysical, from + room, length - room);
  return DONE;
}

/** Checks that up to 512 bytes could be written, without writing. Code 0 or 2. */
export function probeWrite(address: i64, length: i32, bank: i32): i32 {
  if (resolve(address, bank, ACCESS_WRITE) == NO_POINTER) return FAULT;
  const room = roomInPage(address);
  if (length > room && resolve(address + room, bank, ACCESS_WRITE) == NO_POINTER) return FAULT;
  return DONE;
}

export function readBlock(address: i64, to: usize, length: i32): i32 {
  return readWithBank(address, to, length, currentBank());
}

export function writeBlock(address: i64, from: usize, length: i32): i32 {
  return writeWithBank(address, from, length, currentBank());
}

export function readSystemBlock(address: i64, to: usize, length: i32): i32 {
  return readWithBank(address, to, length, TLB_BANK_SUPERVISOR);
}

export function writeSystemBlock(address: i64, from: usize, length: i32): i32 {
  return writeWithBank(address, from, length, TLB_BANK_SUPERVISOR);
}

/** RAM offset for execution at the current privilege; -1 with a fault pending, -2 when it is not RAM. */
export function translateFetch(address: i64): i64 {
  const pointer = resolve(address, currentBank(), ACCESS_FETCH);
  if (pointer == NO_POINTER) return -1;
  return pointer ? <i64>(pointer - ram) : -2;
}
