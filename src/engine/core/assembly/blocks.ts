// The cache of decoded blocks: lookup by (RAM offset, mode), and invalidation by bytes of RAM.
import { deliverFault } from './exceptions';
import {
  BLOCK_DEAD,
  BLOCK_HASH_BASE,
  BLOCK_HASH_ENTRIES,
  BLOCK_HASH_NEXT,
  BLOCK_LENGTH,
  BLOCK_MODE,
  BLOCK_NO_PAGE,
  BLOCK_OWNER,
  BLOCK_PAGE2,
  BLOCK_PAGE2_NEXT,
  BLOCK_PAGE_NEXT,
  BLOCK_PHYS,
  BLOCK_SIZE,
  CODE_GRANULE,
  EXIT_DECODE,
  JUMP_CACHE_BASE,
  JUMP_CACHE_ENTRIES,
  JUMP_CACHE_ENTRY_SIZE,
  JUMP_CACHE_MODE,
  JUMP_CACHE_RIP,
  JUMP_CACHE_UOP,
  MISSES_BASE,
  MISSES_ENTRIES,
  MISSES_OFTEN,
  MODE_CODE16,
  MODE_CODE64,
  MODE_CODE_SIZE_MASK,
  PLACEMENT_COUNT,
  PLACEMENT_GENERATION,
  PLACEMENT_OWNER,
  PLACEMENT_PAGE,
  PLACEMENT_PAGES,
  PLACEMENT_PAGE_SIZE,
  STATE_FAULT_VECTOR,
  STATE_GENERATION_HIGH,
  STATE_GENERATION_LOW,
  STATE_MISSED_REGION,
  STATE_MODE,
  STATE_PAGE,
  BLOCK_UOPS,
  UOP_LINK,
  UOP_OP,
  UOP_SIZE,
} from './layout';
import { codeBitmap, pageBlocks, ramPages } from './memory-map';
import { translateFetch } from './mmu';
import { CS, LEAVE, leave, rip, segmentBase, segmentLimit, setRip } from './state';
import { fillJumpSlot, flushJumpCache, noteExecuted, protectRamPage } from './tlb';

// Heads of the two lists of a RAM page: blocks that start in it, and blocks that run on into it.
const LIST_START: usize = 0;
const LIST_SECOND: usize = 4;

/** Linear address of the instruction at an offset in CS. */
function linearRip(offset: i64, mode: u32): i64 {
  if ((mode & MODE_CODE_SIZE_MASK) == MODE_CODE64) return offset;
  return (offset + segmentBase(CS)) & 0xffffffff;
}

/** RAM offset of the instruction at STATE_RIP; -1 or -2 as `translateFetch`. A double: JavaScript needs no object for it. */
export function fetchRip(): f64 {
  return <f64>translateFetch(linearRip(rip(), load<u32>(STATE_MODE)));
}

/** Address of the jump cache slot of a RIP. */
export function jumpCacheSlot(offset: i64): usize {
  const low = <u32>offset;
  const half = JUMP_CACHE_ENTRIES / 2;
  const slot = ((low ^ (low >>> 12)) & (half - 1)) + <u32>(<u64>offset >>> 63) * half;
  return JUMP_CACHE_BASE + <usize>slot * JUMP_CACHE_ENTRY_SIZE;
}

function hashSlot(ramAt: u32, mode: u32): usize {
  const hash = ((ramAt * 0x9e3779b1) ^ (mode * 0x85ebca6b)) >>> 16;
  return BLOCK_HASH_BASE + ((<usize>(hash & (BLOCK_HASH_ENTRIES - 1))) << 2);
}

/** Whether the second page of a block is still where it was when it was decoded. */
function secondPageMatches(header: usize, linear: i64): bool {
  const page = load<u32>(header, BLOCK_PAGE2);
  if (page == BLOCK_NO_PAGE) return true;
  const offset = translateFetch((linear | 0xfff) + 1);
  if (offset == -1) store<i32>(STATE_FAULT_VECTOR, -1);
  return offset >= 0 && <u32>(offset >> 12) == page;
}

function findHeader(offset: i64, mode: u32, linear: i64): usize {
  let header: usize = load<u32>(hashSlot(<u32>offset, mode));
  while (header) {
    if (load<i64>(header, BLOCK_PHYS) == offset && load<u32>(header, BLOCK_MODE) == mode) {
      if (secondPageMatches(header, linear)) return header;
    }
    header = load<u32>(header, BLOCK_HASH_NEXT);
  }
  return 0;
}

/** Wraps an instruction pointer outside 64-bit mode: at 32 bits, and at 16 bits beyond a 16-bit segment's end. */
function clippedRip(mode: u32): i64 {
  const offset = rip();
  const size = mode & MODE_CODE_SIZE_MASK;
  if (size == MODE_CODE64 || <u64>offset < 0x10000) return offset;
  const narrow = size == MODE_CODE16 && <u64>offset > <u64>segmentLimit(CS);
  const clipped = offset & (narrow ? 0xffff : 0xffffffff);
  setRip(clipped);
  return clipped;
}

/** Header of the block that starts at a RAM offset and lies within one page, 0 if there is none. */
export function blockAt(ramAt: u32, mode: u32): usize {
  let header: usize = load<u32>(hashSlot(ramAt, mode));
  while (header) {
    const found = load<i64>(header, BLOCK_PHYS) == <i64>ramAt && load<u32>(header, BLOCK_MODE) == mode;
    if (found && load<u32>(header, BLOCK_PAGE2) == BLOCK_NO_PAGE) return header;
    header = load<u32>(header, BLOCK_HASH_NEXT);
  }
  return 0;
}

/** First micro-op for STATE_RIP in the present mode, or 0 with STATE_EXIT_REASON set; see exports.ts. */
export function findBlock(): usize {
  while (true) {
    const mode = load<u32>(STATE_MODE);
    const offset = clippedRip(mode);
    const slot = jumpCacheSlot(offset);
    if (load<i64>(slot, JUMP_CACHE_RIP) == offset && load<u32>(slot, JUMP_CACHE_MODE) == mode) {
      const uop: usize = load<u32>(slot, JUMP_CACHE_UOP);
      if (load<u16>(uop, UOP_OP) != 0) return uop;
    }
    const linear = linearRip(offset, mode);
    const ramAt = translateFetch(linear);
    if (ramAt == -1) {
      if (deliverFault() == LEAVE) return 0;
      continue;
    }
    const header: usize = ramAt < 0 ? 0 : findHeader(ramAt, mode, linear);
    if (!header) {
      leave(EXIT_DECODE);
      return 0;
    }
    const uop = header + BLOCK_SIZE;
    fillJumpSlot(slot, offset, mode, <u32>uop);
    noteExecuted(linear);
    if (load<u32>(header, BLOCK_PAGE2) != BLOCK_NO_PAGE) noteExecuted(linear + 4096);
    return uop;
  }
}

/** The pages of a region are where they were compiled from; they are noted as executed. */
function isInPlace(placement: usize, linear: i64): bool {
  const count = load<u32>(placement, PLACEMENT_COUNT);
  for (let i: u32 = 0; i < count; i++) {
    const at = placement + PLACEMENT_PAGES + <usize>(i * PLACEMENT_PAGE_SIZE);
    const page = linear + ((<i64>load<i32>(at)) << 12);
    const offset = translateFetch(page);
    if (offset == -1) store<i32>(STATE_FAULT_VECTOR, -1);
    if (offset < 0 || <u32>(offset >>> 12) != load<u32>(at, 4)) return false;
    noteExecuted(page);
  }
  return true;
}

/**
 * Looks again where a region's pages are, after translations were dropped or from another address. Returns 1, or
 * ends the region and returns 0.
 */
export function checkPlacement(placement: usize): i32 {
  const page = load<i64>(STATE_PAGE);
  const linear = linearRip(page, load<u32>(STATE_MODE));
  const generation: usize = linear < 0 ? STATE_GENERATION_HIGH : STATE_GENERATION_LOW;
  // Filling the TLB can flush it, and with it the note of what is executed: then once more.
  for (let tries = 0; tries < 2; tries++) {
    const before = load<i64>(generation);
    if (!isInPlace(placement, linear)) break;
    if (load<i64>(generation) != before) continue;
    store<i64>(placement, before, PLACEMENT_GENERATION);
    store<i64>(placement, page, PLACEMENT_PAGE);
    return 1;
  }
  kill(load<u32>(placement, PLACEMENT_OWNER));
  return 0;
}

/** Bits of the granules that bytes `first` to `last` of a page touch. */
function granules(first: u32, last: u32): u64 {
  const low = first / CODE_GRANULE;
  const high = last / CODE_GRANULE;
  return ((<u64>-1) << low) & (<u64>-1 >>> (63 - high));
}

/** Bytes of a block in its first page. */
function firstPart(header: usize): u32 {
  const room = 4096 - (load<u32>(header, BLOCK_PHYS) & 4095);
  const length = <u32>load<u16>(header, BLOCK_LENGTH);
  return min(length, room);
}

function firstGranules(header: usize): u64 {
  const first = load<u32>(header, BLOCK_PHYS) & 4095;
  return granules(first, first + firstPart(header) - 1);
}

function secondGranules(header: usize): u64 {
  return granules(0, <u32>load<u16>(header, BLOCK_LENGTH) - firstPart(header) - 1);
}

function coverPage(page: u32, bits: u64): void {
  const at = codeBitmap + ((<usize>page) << 3);
  const old = load<u64>(at);
  store<u64>(at, old | bits);
  if (old == 0) protectRamPage(page);
}

/** Links a finished block and guards its bytes against fast stores. */
export function insertBlock(header: usize): void {
  const start = load<u32>(header, BLOCK_PHYS);
  const slot = hashSlot(start, load<u32>(header, BLOCK_MODE));
  store<u32>(header, load<u32>(slot), BLOCK_HASH_NEXT);
  store<u32>(slot, <u32>header);
  const head = pageBlocks + ((<usize>(start >>> 12)) << 3) + LIST_START;
  store<u32>(header, load<u32>(head), BLOCK_PAGE_NEXT);
  store<u32>(head, <u32>header);
  store<u16>(header, 0, BLOCK_DEAD);
  coverPage(start >>> 12, firstGranules(header));
  const page2 = load<u32>(header, BLOCK_PAGE2);
  if (page2 == BLOCK_NO_PAGE) return;
  const head2 = pageBlocks + ((<usize>page2) << 3) + LIST_SECOND;
  store<u32>(header, load<u32>(head2), BLOCK_PAGE2_NEXT);
  store<u32>(head2, <u32>header);
  coverPage(page2, secondGranules(header));
}

/** Takes a header out of a singly linked list; `next` is the offset of the link in a header. */
function unlink(head: usize, header: usize, next: usize): void {
  let link = head;
  while (true) {
    const at: usize = load<u32>(link);
    if (!at) return;
    if (at == header) {
      store<u32>(link, load<u32>(header + next));
      return;
    }
    link = at + next;
  }
}

/** Recomputes which granules of a page hold code. */
function recomputePage(page: u32): void {
  const heads = pageBlocks + ((<usize>page) << 3);
  let bits: u64 = 0;
  for (let at: usize = load<u32>(heads + LIST_START); at; at = load<u32>(at, BLOCK_PAGE_NEXT)) {
    bits |= firstGranules(at);
  }
  for (let at: usize = load<u32>(heads + LIST_SECOND); at; at = load<u32>(at, BLOCK_PAGE2_NEXT)) {
    bits |= secondGranules(at);
  }
  store<u64>(codeBitmap + ((<usize>page) << 3), bits);
}

function kill(header: usize): void {
  if (load<u16>(header, BLOCK_DEAD)) return;
  const start = load<u32>(header, BLOCK_PHYS);
  const page = start >>> 12;
  unlink(hashSlot(start, load<u32>(header, BLOCK_MODE)), header, BLOCK_HASH_NEXT);
  unlink(pageBlocks + ((<usize>page) << 3) + LIST_START, header, BLOCK_PAGE_NEXT);
  store<u16>(header, 1, BLOCK_DEAD);
  store<u16>(header + BLOCK_SIZE + UOP_OP, 0);
  recomputePage(page);
  const owner: usize = load<u32>(header, BLOCK_OWNER);
  if (owner) kill(owner);
  const page2 = load<u32>(header, BLOCK_PAGE2);
  if (page2 == BLOCK_NO_PAGE) return;
  unlink(pageBlocks + ((<usize>page2) << 3) + LIST_SECOND, header, BLOCK_PAGE2_NEXT);
  recomputePage(page2);
}

/** Where it is counted how often the instruction at a RAM offset made a region leave. */
function missSlot(ramAt: u32): usize {
  return MISSES_BASE + ((<usize>((ramAt ^ (ramAt >>> 13)) & (MISSES_ENTRIES - 1))) << 1);
}

/**
 * A region was left before the instruction at STATE_RIP, whose access the TLB did not allow. Where that happens often, the
 * region is given up: the next one calls the core there.
 */
export function noteMiss(): void {
  const ramAt = fetchRip();
  if (ramAt == -1) store<i32>(STATE_FAULT_VECTOR, -1);
  if (ramAt < 0) return;
  const slot = missSlot(<u32>ramAt);
  const misses = <i32>load<u16>(slot);
  if (misses < MISSES_OFTEN) store<u16>(slot, <u16>(misses + 1));
  else kill(load<u32>(STATE_MISSED_REGION));
}

/** Kills a block, and not its owner. */
export function killBlock(header: usize): void {
  store<u32>(header, 0, BLOCK_OWNER);
  kill(header);
}

/** Kills the blocks with a byte in `first` to `last` of a page. */
function invalidateInPage(page: u32, first: u32, last: u32): i32 {
  const heads = pageBlocks + ((<usize>page) << 3);
  let killed = 0;
  let at: usize = load<u32>(heads + LIST_START);
  while (at) {
    const next: usize = load<u32>(at, BLOCK_PAGE_NEXT);
    const begin = load<u32>(at, BLOCK_PHYS) & 4095;
    if (begin <= last && begin + firstPart(at) > first) {
      kill(at);
      killed++;
    }
    at = next;
  }
  at = load<u32>(heads + LIST_SECOND);
  while (at) {
    const next: usize = load<u32>(at, BLOCK_PAGE2_NEXT);
    if (<u32>load<u16>(at, BLOCK_LENGTH) - firstPart(at) > first) {
      kill(at);
      killed++;
    }
    at = next;
  }
  return killed;
}

/** Kills every block that has a byte in the range of RAM offsets; returns how many. */
export function invalidateRange(ramAt: u32, length: u32): i32 {
  if (length == 0) return 0;
  const end = ramAt + length - 1;
  let killed = 0;
  for (let page = ramAt >>> 12; page <= end >>> 12; page++) {
    const bits = load<u64>(codeBitmap + ((<usize>page) << 3));
    if (bits == 0) continue;
    const first = page == ramAt >>> 12 ? ramAt & 4095 : 0;
    const last = page == end >>> 12 ? end & 4095 : 4095;
    if ((bits & granules(first, last)) != 0) killed += invalidateInPage(page, first, last);
  }
  return killed;
}

/** Takes the headers from `start` to `end` out of a singly linked list; returns how many. */
function unlinkRange(head: usize, start: usize, end: usize, next: usize): u32 {
  let link = head;
  let count: u32 = 0;
  while (true) {
    const at: usize = load<u32>(link);
    if (!at) return count;
    if (at >= start && at < end) {
      store<u32>(link, load<u32>(at + next));
      count++;
    } else link = at + next;
  }
}

/** Clears the direct links that a block has to micro-ops from `start` to `end`. */
function clearLinks(header: usize, start: usize, end: usize): void {
  const count = <usize>load<u16>(header, BLOCK_UOPS);
  for (let i: usize = 0; i < count; i++) {
    const uop = header + BLOCK_SIZE + i * UOP_SIZE;
    const link: usize = load<u32>(uop, UOP_LINK);
    if (link >= start && link < end) store<u32>(uop, 0, UOP_LINK);
  }
}

/** Forgets the blocks of a page whose headers are in a range of addresses, and links there: also those to dead ones. */
function forgetInPage(page: u32, start: usize, end: usize): void {
  const heads = pageBlocks + ((<usize>page) << 3);
  const count =
    unlinkRange(heads + LIST_START, start, end, BLOCK_PAGE_NEXT) +
    unlinkRange(heads + LIST_SECOND, start, end, BLOCK_PAGE2_NEXT);
  for (let at: usize = load<u32>(heads + LIST_START); at; at = load<u32>(at, BLOCK_PAGE_NEXT)) {
    clearLinks(at, start, end);
  }
  if (count != 0) recomputePage(page);
}

/**
 * Forgets a block that may be dead, and others of its pages whose headers are in the same range of addresses, which may
 * be used for others then. Links lead to blocks of the same page only, so that those of other pages need not be looked at.
 */
export function forgetBlock(header: usize, start: usize, end: usize): void {
  const ramAt = load<u32>(header, BLOCK_PHYS);
  unlinkRange(hashSlot(ramAt, load<u32>(header, BLOCK_MODE)), start, end, BLOCK_HASH_NEXT);
  forgetInPage(ramAt >>> 12, start, end);
  const page2 = load<u32>(header, BLOCK_PAGE2);
  if (page2 != BLOCK_NO_PAGE) forgetInPage(page2, start, end);
}

/** Forgets all blocks. */
export function flushBlocks(): void {
  memory.fill(BLOCK_HASH_BASE, 0, BLOCK_HASH_ENTRIES << 2);
  memory.fill(pageBlocks, 0, ramPages << 3);
  memory.fill(codeBitmap, 0, ramPages << 3);
  memory.fill(MISSES_BASE, 0, MISSES_ENTRIES << 1);
  flushJumpCache();
}
