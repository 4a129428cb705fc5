// The software TLB: filling, flushing, and finding the host address of a page.
import {
  JUMP_CACHE_BASE,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_ENTRY_SIZE,
  JUMP_CACHE_MODE,
  JUMP_CACHE_RIP,
  JUMP_CACHE_UOP,
  STATE_CPL,
  STATE_CR4,
  STATE_FAULT_ADDRESS,
  STATE_GENERATION_HIGH,
  STATE_GENERATION_LOW,
  STATE_RFLAGS,
  STATE_TLB_BANK,
  TLB_ADDEND,
  TLB_BANKS,
  TLB_BANK_SUPERVISOR,
  TLB_BANK_SUPERVISOR_AC,
  TLB_BANK_USER,
  TLB_BASE,
  TLB_ENTRIES,
  TLB_ENTRY_SHIFT,
  TLB_ENTRY_SIZE,
  TLB_EXEC_TAG,
  TLB_READ_TAG,
  TLB_WRITE_TAG,
} from './layout';
import { codeBitmap, ram, ramOffset, writers } from './memory-map';
import { CR4_SMAP, FLAG_AC, VECTOR_GP, canonical, fault, longMode } from './state';
import {
  ACCESS_FETCH,
  ACCESS_READ,
  ACCESS_WRITE,
  walk,
  walkAllows,
  walkDirty,
  walkGlobal,
  walkSize,
} from './walk';

const SLOTS: i32 = TLB_BANKS * TLB_ENTRIES;
const BANK_BYTES: i32 = TLB_ENTRIES * TLB_ENTRY_SIZE;
const PAGE_MASK: i64 = ~0xfff;

/**
 * Slots filled since the last flush (u16 each), those with global translations apart: a flush touches only what it drops. A slot
 * whose entry was replaced can be in both lists.
 */
const FILL_LIMIT: u32 = 8192;
const localFills: usize = memory.data(<i32>FILL_LIMIT * 2);
const globalFills: usize = memory.data(<i32>FILL_LIMIT * 2);
let localCount: u32 = 0;
let globalCount: u32 = 0;
/** One byte per slot: bit 0 global, bits 1 and 2 page size (see `walkSize`). */
const slotInfo: usize = memory.data(SLOTS);
/** Hashed sets of 2 MiB and 1 GiB regions with large-page translations in the TLB (4,096 bits each). */
const largeRegions: usize = memory.data(512);
const hugeRegions: usize = memory.data(512);
/** Hashed sets of linear pages that the halves of the jump cache have entries for. */
const executedLow: usize = memory.data(512);
const executedHigh: usize = memory.data(512);
/** The upper half of the jump cache has entries for pages that are not global. */
let highIsLocal = false;

let indexMask: i32 = TLB_ENTRIES - 1;

/** What `resolve` returns on a fault. */
export const NO_POINTER: usize = 0xffffffff;
/** Physical address of the byte that `resolve` found outside RAM. */
export let resolvedPhysical: i64 = 0;

/** Empties all slots, of which so many are used in each bank. */
export function initTlb(entries: i32): void {
  indexMask = entries - 1;
  memory.fill(TLB_BASE, 0xff, SLOTS * TLB_ENTRY_SIZE);
}

function setBit(set: usize, hash: u32): void {
  const at = set + ((hash & 4095) >> 3);
  store<u8>(at, load<u8>(at) | <u8>((<u32>1) << (hash & 7)));
}
function hasBit(set: usize, hash: u32): bool {
  return ((load<u8>(set + ((hash & 4095) >> 3)) >> <u8>(hash & 7)) & 1) != 0;
}
function regionHash(address: i64, shift: i64): u32 {
  const region = <u32>(address >> shift);
  return region ^ (region >>> 12);
}

/** Number of the TLB bank in use. */
export function currentBank(): i32 {
  return <i32>((load<u32>(STATE_TLB_BANK) - <u32>TLB_BASE) / BANK_BYTES);
}

/** The bank for explicit accesses at a privilege level. */
export function bankFor(privilege: u32): i32 {
  if (privilege == 3) return TLB_BANK_USER;
  const smapOff = (load<i64>(STATE_RFLAGS) & FLAG_AC) != 0 && (load<i64>(STATE_CR4) & CR4_SMAP) != 0;
  return smapOff ? TLB_BANK_SUPERVISOR_AC : TLB_BANK_SUPERVISOR;
}

/** Sets STATE_TLB_BANK from CPL, RFLAGS.AC and CR4.SMAP. */
export function selectTlbBank(): void {
  store<u32>(STATE_TLB_BANK, <u32>TLB_BASE + bankFor(load<u32>(STATE_CPL)) * BANK_BYTES);
}

function entryOf(address: i64, bank: i32): usize {
  return TLB_BASE + bank * BANK_BYTES + ((<i32>(address >> 12) & indexMask) << TLB_ENTRY_SHIFT);
}

function clearEntry(entry: usize): void {
  store<i64>(entry, -1, TLB_READ_TAG);
  store<i64>(entry, -1, TLB_WRITE_TAG);
  store<i64>(entry, -1, TLB_EXEC_TAG);
}

/** The n-th slot of a list. */
function filledSlot(list: usize, n: u32): u32 {
  return <u32>load<u16>(list + ((<usize>n) << 1));
}
function entryIn(slot: u32): usize {
  return TLB_BASE + ((<usize>slot) << TLB_ENTRY_SHIFT);
}
function isGlobalSlot(slot: u32): bool {
  return (load<u8>(slotInfo + slot) & 1) != 0;
}

function listFill(slot: u32, isGlobal: bool): void {
  if (isGlobal) {
    store<u16>(globalFills + ((<usize>globalCount) << 1), <u16>slot);
    globalCount++;
  } else {
    store<u16>(localFills + ((<usize>localCount) << 1), <u16>slot);
    localCount++;
  }
}

const JUMP_CACHE_HALF: i32 = (JUMP_CACHE_ENTRIES / 2) * JUMP_CACHE_ENTRY_SIZE;

function count(generation: usize): void {
  store<i64>(generation, load<i64>(generation) + 1);
}

/** Slots of the halves of the jump cache that were filled since it was flushed (u16 each), as many as fit. */
const JUMPS_LISTED: u32 = 1024;
const lowJumps: usize = memory.data(<i32>JUMPS_LISTED * 2);
const highJumps: usize = memory.data(<i32>JUMPS_LISTED * 2);
/** How many were filled; at first nothing is known of them. */
let lowCount: u32 = JUMPS_LISTED + 1;
let highCount: u32 = JUMPS_LISTED + 1;

/** Enters a RIP and its micro-op in a slot of the jump cache. */
export function fillJumpSlot(slot: usize, rip: i64, mode: u32, uop: u32): void {
  if (load<i64>(slot, JUMP_CACHE_RIP) == -1) listJump(<u32>(slot - JUMP_CACHE_BASE) / JUMP_CACHE_ENTRY_SIZE);
  store<i64>(slot, rip, JUMP_CACHE_RIP);
  store<u32>(slot, mode, JUMP_CACHE_MODE);
  store<u32>(slot, uop, JUMP_CACHE_UOP);
}

function listJump(number: u32): void {
  if (number < <u32>(JUMP_CACHE_ENTRIES / 2)) {
    if (lowCount < JUMPS_LISTED) store<u16>(lowJumps + (lowCount << 1), <u16>number);
    lowCount++;
  } else {
    if (highCount < JUMPS_LISTED) store<u16>(highJumps + (highCount << 1), <u16>number);
    highCount++;
  }
}

/** Empties what is filled of a half of the jump cache: there are programs that change address spaces all the time. */
function clearJumps(half: usize, list: usize, filled: u32): void {
  if (filled > JUMPS_LISTED) {
    memory.fill(half, 0xff, JUMP_CACHE_HALF);
    return;
  }
  for (let i: u32 = 0; i < filled; i++) {
    const slot = JUMP_CACHE_BASE + <usize>load<u16>(list + (i << 1)) * JUMP_CACHE_ENTRY_SIZE;
    memory.fill(slot, 0xff, JUMP_CACHE_ENTRY_SIZE);
  }
}

function flushLowJumps(): void {
  count(STATE_GENERATION_LOW);
  clearJumps(JUMP_CACHE_BASE, lowJumps, lowCount);
  lowCount = 0;
  memory.fill(executedLow, 0, 512);
}
function flushHighJumps(): void {
  count(STATE_GENERATION_HIGH);
  clearJumps(JUMP_CACHE_BASE + JUMP_CACHE_HALF, highJumps, highCount);
  highCount = 0;
  memory.fill(executedHigh, 0, 512);
  highIsLocal = false;
}

/** Empties the cache from RIP to micro-ops. The filler is no valid mode. */
export function flushJumpCache(): void {
  flushLowJumps();
  flushHighJumps();
}

/** Whether the page that was just translated for execution is global. */
function isGlobal(address: i64): bool {
  const entry = entryOf(address, currentBank());
  if (load<i64>(entry, TLB_EXEC_TAG) != (address & PAGE_MASK)) return false;
  return isGlobalSlot(<u32>(entry - TLB_BASE) >>> TLB_ENTRY_SHIFT);
}

/** Remembers that the jump cache depends on the translation of a linear page, which is in the TLB. */
export function noteExecuted(address: i64): void {
  if (address < 0) {
    setBit(executedHigh, regionHash(address, 12));
    if (!isGlobal(address)) highIsLocal = true;
  } else {
    setBit(executedLow, regionHash(address, 12));
  }
}

function clearEntries(list: usize, count: u32): void {
  for (let i: u32 = 0; i < count; i++) clearEntry(entryIn(filledSlot(list, i)));
}

/** Drops all translations, global ones too, and the jump cache. */
export function flushTlb(): void {
  clearEntries(localFills, localCount);
  clearEntries(globalFills, globalCount);
  localCount = 0;
  globalCount = 0;
  memory.fill(largeRegions, 0, 512);
  memory.fill(hugeRegions, 0, 512);
  flushJumpCache();
}

/** Drops all but global translations. */
export function flushTlbNonGlobal(): void {
  for (let i: u32 = 0; i < localCount; i++) {
    const slot = filledSlot(localFills, i);
    if (!isGlobalSlot(slot)) clearEntry(entryIn(slot));
  }
  localCount = 0;
  flushLowJumps();
  if (highIsLocal) flushHighJumps();
}

/** Drops the parts of large pages around an address: INVLPG drops the whole page's translations. */
function flushLarge(address: i64): void {
  flushLargeIn(localFills, localCount, address);
  flushLargeIn(globalFills, globalCount, address);
}

function flushLargeIn(list: usize, count: u32, address: i64): void {
  for (let i: u32 = 0; i < count; i++) {
    const slot = filledSlot(list, i);
    const size = load<u8>(slotInfo + slot) >> 1;
    if (!size) continue;
    const entry = entryIn(slot);
    const tag =
      load<i64>(entry, TLB_READ_TAG) & load<i64>(entry, TLB_WRITE_TAG) & load<i64>(entry, TLB_EXEC_TAG);
    const page = tag == -1 ? -1 : anyTag(entry);
    // 22 bits cover the 4 MiB pages of 32-bit paging as well.
    const shift: i64 = size == 1 ? 22 : 30;
    if (page >> shift == address >> shift) clearEntry(entry);
  }
}

function anyTag(entry: usize): i64 {
  const read = load<i64>(entry, TLB_READ_TAG);
  if (read != -1) return read;
  const write = load<i64>(entry, TLB_WRITE_TAG);
  return write != -1 ? write : load<i64>(entry, TLB_EXEC_TAG);
}

/** Drops what INVLPG has to drop for one linear address. */
export function flushTlbPage(address: i64): void {
  const page = address & PAGE_MASK;
  for (let bank = 0; bank < TLB_BANKS; bank++) {
    const entry = entryOf(page, bank);
    if (anyTag(entry) == page) clearEntry(entry);
  }
  const large = hasBit(largeRegions, regionHash(page, 22)) || hasBit(hugeRegions, regionHash(page, 30));
  if (large) flushLarge(page);
  const hash = regionHash(page, 12);
  if (large || hasBit(executedLow, hash)) flushLowJumps();
  if (large || hasBit(executedHigh, hash)) flushHighJumps();
}

const NO_WRITER: u32 = 0;
const MANY_WRITERS: u32 = 0xffff;

/** Notes that the entry in a slot allows fast stores to a RAM page. */
function noteWriter(ramPage: u32, slot: u32): void {
  const at = writers + ((<usize>ramPage) << 1);
  const known = <u32>load<u16>(at);
  if (known != slot + 1) store<u16>(at, <u16>(known == NO_WRITER ? slot + 1 : MANY_WRITERS));
}

/** Takes fast stores to the page at a pointer into RAM away from an entry, if it has them. */
function protectEntry(entry: usize, host: usize): void {
  const tag = load<i64>(entry, TLB_WRITE_TAG);
  if (tag != -1 && <usize>(<i32>tag + load<i32>(entry, TLB_ADDEND)) == host)
    store<i64>(entry, -1, TLB_WRITE_TAG);
}

function protectEntries(list: usize, count: u32, host: usize): void {
  for (let i: u32 = 0; i < count; i++) protectEntry(entryIn(filledSlot(list, i)), host);
}

/** Takes fast stores to a RAM page away in all banks, because it now holds translated code. */
export function protectRamPage(ramPage: u32): void {
  const at = writers + ((<usize>ramPage) << 1);
  const writer = <u32>load<u16>(at);
  store<u16>(at, <u16>NO_WRITER);
  const host = ram + ((<usize>ramPage) << 12);
  if (writer == MANY_WRITERS) {
    protectEntries(localFills, localCount, host);
    protectEntries(globalFills, globalCount, host);
  } else if (writer != NO_WRITER) {
    protectEntry(entryIn(writer - 1), host);
  }
}

/** Enters the outcome of the last walk; nothing for pages outside RAM. */
function fill(address: i64, bank: i32, physical: i64): void {
  const offset = ramOffset(physical & PAGE_MASK);
  if (offset < 0) return;
  if (max(localCount, globalCount) >= FILL_LIMIT) flushTlb();
  const page = address & PAGE_MASK;
  const entry = entryOf(address, bank);
  const slot = <u32>(entry - TLB_BASE) >>> TLB_ENTRY_SHIFT;
  if (anyTag(entry) == -1 || isGlobalSlot(slot) != walkGlobal) listFill(slot, walkGlobal);
  store<u8>(slotInfo + slot, <u8>((walkGlobal ? 1 : 0) | (walkSize << 1)));
  if (walkSize == 1) setBit(largeRegions, regionHash(page, 22));
  else if (walkSize == 2) setBit(hugeRegions, regionHash(page, 30));
  const guarded = load<u64>(codeBitmap + ((<usize>offset >>> 12) << 3)) != 0;
  const writable = walkDirty && !guarded && walkAllows(bank, ACCESS_WRITE);
  if (writable) noteWriter(<u32>(offset >>> 12), slot);
  store<i64>(entry, walkAllows(bank, ACCESS_READ) ? page : -1, TLB_READ_TAG);
  store<i64>(entry, writable ? page : -1, TLB_WRITE_TAG);
  store<i64>(entry, walkAllows(bank, ACCESS_FETCH) ? page : -1, TLB_EXEC_TAG);
  store<i32>(entry, <i32>ram + <i32>offset - <i32>page, TLB_ADDEND);
}

/**
 * Finds the host address of one linear address.
 * Returns a pointer into RAM, 0 if the page is not RAM (`resolvedPhysical` has the address), or NO_POINTER with
 * a fault pending.
 */
export function resolve(address: i64, bank: i32, access: i32): usize {
  if (!longMode()) address &= 0xffffffff;
  const entry = entryOf(address, bank);
  const page = address & PAGE_MASK;
  const tag =
    access == ACCESS_READ
      ? load<i64>(entry, TLB_READ_TAG)
      : access == ACCESS_WRITE
        ? load<i64>(entry, TLB_WRITE_TAG)
        : load<i64>(entry, TLB_EXEC_TAG);
  if (tag == page) return <usize>(<i32>address + load<i32>(entry, TLB_ADDEND));
  if (longMode() && !canonical(address)) {
    fault(VECTOR_GP, 0);
    store<i64>(STATE_FAULT_ADDRESS, address);
    return NO_POINTER;
  }
  const physical = walk(address, bank, access);
  if (physical < 0) return NO_POINTER;
  fill(address, bank, physical);
  const offset = ramOffset(physical);
  if (offset >= 0) return ram + <usize>offset;
  resolvedPhysical = physical;
  return 0;
}
