// The software TLB: filling, flushing, and finding the host address of a page.
import {
  JUMP_CACHE_BASE,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_ENTRY_SIZE,
  STATE_CPL,
  STATE_CR4,
  STATE_FAULT_ADDRESS,
  STATE_GENERATION_HIGH,
  STATE_GENERATION_LOW,
  STATE_RFLAGS,
  STATE_STACK_ADDEND,
  STATE_STACK_PAGE,
  STATE_TLB_BANK,
  STATE_TLB_FILLS,
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
  TLB_PHYS_PAGE,
  TLB_READ_TAG,
  TLB_WRITE_TAG,
} from './layout';
import { codeBitmap, ram, ramOffset } from './memory-map';
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

/** Slots filled since the last flush (u16 each), so that a flush touches only those. */
const fillList: usize = memory.data(8192);
const FILL_LIMIT: u32 = 4096;
/** One byte per slot: bit 0 global, bits 1 and 2 page size (see `walkSize`). */
const slotInfo: usize = memory.data(3072);
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

export function setTlbEntries(entries: i32): void {
  indexMask = entries - 1;
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

function forgetStack(): void {
  store<i64>(STATE_STACK_PAGE, -1);
}

/** Remembers the page of an address as the stack's, if the TLB allows everything there but execution. */
export function noteStack(address: i64): void {
  const entry = entryOf(address, currentBank());
  const page = address & PAGE_MASK;
  if (load<i64>(entry, TLB_READ_TAG) != page || load<i64>(entry, TLB_WRITE_TAG) != page) return;
  store<i64>(STATE_STACK_PAGE, page);
  store<i32>(STATE_STACK_ADDEND, load<i32>(entry, TLB_ADDEND));
}

/** Sets STATE_TLB_BANK from CPL, RFLAGS.AC and CR4.SMAP. */
export function selectTlbBank(): void {
  forgetStack();
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

const JUMP_CACHE_HALF: i32 = (JUMP_CACHE_ENTRIES / 2) * JUMP_CACHE_ENTRY_SIZE;

function count(generation: usize): void {
  store<i64>(generation, load<i64>(generation) + 1);
}

function flushLowJumps(): void {
  count(STATE_GENERATION_LOW);
  memory.fill(JUMP_CACHE_BASE, 0xff, JUMP_CACHE_HALF);
  memory.fill(executedLow, 0, 512);
}
function flushHighJumps(): void {
  count(STATE_GENERATION_HIGH);
  memory.fill(JUMP_CACHE_BASE + JUMP_CACHE_HALF, 0xff, JUMP_CACHE_HALF);
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
  return (load<u8>(slotInfo + (<u32>(entry - TLB_BASE) >>> TLB_ENTRY_SHIFT)) & 1) != 0;
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

/** Drops all translations, global ones too, and the jump cache. */
export function flushTlb(): void {
  forgetStack();
  memory.fill(TLB_BASE, 0xff, SLOTS * TLB_ENTRY_SIZE);
  memory.fill(largeRegions, 0, 512);
  memory.fill(hugeRegions, 0, 512);
  store<u32>(STATE_TLB_FILLS, 0);
  flushJumpCache();
}

/** Drops all but global translations. */
export function flushTlbNonGlobal(): void {
  forgetStack();
  const fills = load<u32>(STATE_TLB_FILLS);
  let kept: u32 = 0;
  for (let i: u32 = 0; i < fills; i++) {
    const slot = load<u16>(fillList + (i << 1));
    if (load<u8>(slotInfo + slot) & 1) {
      store<u16>(fillList + (kept << 1), slot);
      kept++;
    } else {
      clearEntry(TLB_BASE + ((<usize>slot) << TLB_ENTRY_SHIFT));
    }
  }
  store<u32>(STATE_TLB_FILLS, kept);
  flushLowJumps();
  if (highIsLocal) flushHighJumps();
}

/** Drops the parts of large pages around an address: INVLPG drops the whole page's translations. */
function flushLarge(address: i64): void {
  const fills = load<u32>(STATE_TLB_FILLS);
  for (let i: u32 = 0; i < fills; i++) {
    const slot = load<u16>(fillList + (i << 1));
    const size = load<u8>(slotInfo + slot) >> 1;
    if (!size) continue;
    const entry = TLB_BASE + ((<usize>slot) << TLB_ENTRY_SHIFT);
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
  forgetStack();
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

/** Takes fast stores to a RAM page away in all banks, because it now holds translated code. */
export function protectRamPage(ramPage: u32): void {
  forgetStack();
  const fills = load<u32>(STATE_TLB_FILLS);
  const host = ram + ((<usize>ramPage) << 12);
  for (let i: u32 = 0; i < fills; i++) {
    const entry = TLB_BASE + ((<usize>load<u16>(fillList + (i << 1))) << TLB_ENTRY_SHIFT);
    const tag = load<i64>(entry, TLB_WRITE_TAG);
    if (tag != -1 && <usize>(<i32>tag + load<i32>(entry, TLB_ADDEND)) == host) {
      store<i64>(entry, -1, TLB_WRITE_TAG);
    }
  }
}

/** Enters the outcome of the last walk; nothing for pages outside RAM. */
function fill(address: i64, bank: i32, physical: i64): void {
  const offset = ramOffset(physical & PAGE_MASK);
  if (offset < 0) return;
  if (load<u32>(STATE_TLB_FILLS) >= FILL_LIMIT) flushTlb();
  const page = address & PAGE_MASK;
  const entry = entryOf(address, bank);
  const slot = <u32>(entry - TLB_BASE) >>> TLB_ENTRY_SHIFT;
  if (anyTag(entry) == -1) {
    const fills = load<u32>(STATE_TLB_FILLS);
    store<u16>(fillList + (fills << 1), <u16>slot);
    store<u32>(STATE_TLB_FILLS, fills + 1);
  }
  store<u8>(slotInfo + slot, <u8>((walkGlobal ? 1 : 0) | (walkSize << 1)));
  if (walkSize == 1) setBit(largeRegions, regionHash(page, 22));
  else if (walkSize == 2) setBit(hugeRegions, regionHash(page, 30));
  const guarded = load<u64>(codeBitmap + ((<usize>offset >>> 12) << 3)) != 0;
  const writable = walkDirty && !guarded && walkAllows(bank, ACCESS_WRITE);
  store<i64>(entry, walkAllows(bank, ACCESS_READ) ? page : -1, TLB_READ_TAG);
  store<i64>(entry, writable ? page : -1, TLB_WRITE_TAG);
  store<i64>(entry, walkAllows(bank, ACCESS_FETCH) ? page : -1, TLB_EXEC_TAG);
  store<i32>(entry, <i32>ram + <i32>offset - <i32>page, TLB_ADDEND);
  store<u32>(entry, <u32>(physical >> 12), TLB_PHYS_PAGE);
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
