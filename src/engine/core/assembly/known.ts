// Instructions that were decoded before, by their bytes: some four in five are there and are copied. Of jumps the
// displacement does not count. What an instruction becomes depends on nothing but its bytes, the mode and, in ways that
// are known here, its place. The guest's RAM may be written to beside this: each byte of an instruction is read once.
import {
  CPU,
  FLOW_NEXT,
  KNOWN_BASE,
  KNOWN_ENTRIES_BITS,
  KNOWN_ENTRY_SHIFT,
  KNOWN_LAST_START,
  KNOWN_LENGTHS,
  KNOWN_LENGTHS_BITS,
  KNOWN_RUN_FLOW,
  KNOWN_RUN_INSTRUCTIONS,
  KNOWN_RUN_RECORDS,
  KNOWN_UNKNOWN,
  STATE_PAGE,
  UOP_BASE,
  UOP_DISP,
  UOP_IMM,
  UOP_INDEX,
  UOP_NEXT_PC,
  UOP_PC,
  UOP_SIZE,
} from './layout';

/** The longest instruction that is kept, and how many micro-ops it may become. */
const BYTES_MAX: u32 = 12;
const RECORDS_MAX: u32 = 2;

// An entry: the bytes that count, what they are, and each record's words before PC, with DONE 0.
const ENTRY_HIGH: usize = 8;
const ENTRY_META: usize = 12;
const ENTRY_RECORDS: usize = 16;
const RECORD_BYTES: usize = UOP_PC;

// Bits of META: the mode below LENGTH. 0 is no instruction.
const META_LENGTH: u32 = 9;
const META_KEY: u32 = 0x1fff;
const META_COUNT: u32 = 13;
const META_FLOW: u32 = 15;

/** Bits of the word with the index register that are not DONE. */
const BEFORE_DONE: u32 = 0xffffff;

/** Bytes of the jump or call that begins with a word; 0 for others. */
function jumpLength(word: u32): u32 {
  const first = word & 0xff;
  if ((first & 0xf0) == 0x70 || first == 0xeb) return 2;
  if ((first & 0xfe) == 0xe8) return 5;
  return (word & 0xf0ff) == 0x800f ? 6 : 0;
}

/** How many of them are before the displacement. */
function opcodeBytes(jump: u32): u32 {
  return jump == 6 ? 2 : 1;
}

/** The displacement of a jump, in the first eight of its bytes. */
function displacement(low: u64, jump: u32): i32 {
  return jump == 2 ? <i32>(<i8>(low >> 8)) : <i32>(low >> (8 * opcodeBytes(jump)));
}

// The bytes of an instruction that count, as two words; the others are 0.

function keyLow(low: u64, bytes: u32): u64 {
  return bytes < 8 ? low & (((<u64>1) << (8 * bytes)) - 1) : low;
}

function keyHigh(high: u32, bytes: u32): u32 {
  if (bytes <= 8) return 0;
  return bytes < BYTES_MAX ? high & ((1 << (8 * (bytes - 8))) - 1) : high;
}

function hash(word: u32, bits: i32): u32 {
  return (word * 0x9e3779b1) >>> (32 - bits);
}

/**
 * Where the length is kept of what begins with a word. Of one that is shorter the bytes behind it do not count, so that it
 * has one place whatever follows it.
 */
function lengthSlot(word: u32, length: u32): usize {
  const own = length < 4 ? word & ((1 << (8 * length)) - 1) : word;
  return KNOWN_BASE + KNOWN_LENGTHS + hash(own, KNOWN_LENGTHS_BITS);
}

/** Where the instruction with a key is, if it is known. */
function entryOf(low: u64, high: u32, mode: u32): usize {
  const others = (<u32>(low >>> 32) * 0x85ebca6b) ^ ((high ^ mode) * 0xc2b2ae35);
  return KNOWN_BASE + ((<usize>hash(<u32>low ^ others, KNOWN_ENTRIES_BITS)) << KNOWN_ENTRY_SHIFT);
}

/** Whether what is kept at an entry has a key. */
function isThis(entry: usize, low: u64, high: u32, mode: u32, length: u32): bool {
  return (
    (load<u32>(entry, ENTRY_META) & META_KEY) == (mode | (length << META_LENGTH)) &&
    load<u64>(entry) == low &&
    load<u32>(entry, ENTRY_HIGH) == high
  );
}

/** Where the instruction of a length is, of which some bytes count; 0 if it is not known. */
function findLength(low: u64, high: u32, mode: u32, length: u32, bytes: u32): usize {
  const key = keyLow(low, bytes);
  const keyEnd = keyHigh(high, bytes);
  const entry = entryOf(key, keyEnd, mode);
  return isThis(entry, key, keyEnd, mode, length) ? entry : 0;
}

/** Where the instruction that begins with these bytes is; 0 if it is not known. */
function find(low: u64, high: u32, mode: u32): usize {
  const jump = jumpLength(<u32>low);
  if (jump != 0) return findLength(low, high, mode, jump, opcodeBytes(jump));
  // No instruction begins with another one: it does not matter which is tried first.
  for (let bytes: u32 = 4; bytes > 0; bytes--) {
    const length: u32 = load<u8>(lengthSlot(<u32>low, bytes));
    if (bytes == 4 ? length < 4 : length != bytes) continue;
    const entry = findLength(low, high, mode, length, length);
    if (entry != 0) return entry;
  }
  return 0;
}

/** Appends a record that was kept, for its place. */
function copyRecord(from: usize, to: usize, done: u32, pc: u32, next: u32): void {
  const operands = load<u64>(from);
  // RIP-relative.
  const base = operands >>> 48 == <u64>(STATE_PAGE - CPU) ? next : 0;
  store<u64>(to, operands);
  store<u32>(to, load<u32>(from, UOP_INDEX) | (done << 24), UOP_INDEX);
  store<u32>(to, load<u32>(from, UOP_DISP) + base, UOP_DISP);
  store<u64>(to, load<u64>(from, UOP_IMM), UOP_IMM);
  // No link.
  store<u64>(to, pc | (next << 16), UOP_PC);
}

/**
 * Copies instructions in a row, up to one that is not known, that goes on elsewhere, or that may reach into the next page.
 * The bytes of one that is not known are then at KNOWN.UNKNOWN.
 * @param page address of the page's first byte
 * @param at where they begin in it
 * @param to where records go: two an instruction at most
 * @param mode of 64-bit code
 * @param done instructions of the block before them
 * @param count how many at most: 127
 * @returns how far it went, see KNOWN.RUN_*
 */
export function copyKnown(page: usize, at: u32, to: usize, mode: u32, done: u32, count: u32): u32 {
  let instructions: u32 = 0;
  let records: u32 = 0;
  let flow: u32 = FLOW_NEXT;
  while (instructions < count && flow == FLOW_NEXT && at <= <u32>KNOWN_LAST_START) {
    const low = load<u64>(page + at);
    const high = load<u64>(page + at, 8);
    const entry = find(low, <u32>high, mode);
    if (entry == 0) {
      store<u64>(KNOWN_BASE + KNOWN_UNKNOWN, low);
      store<u64>(KNOWN_BASE + KNOWN_UNKNOWN, high, 8);
      break;
    }
    const meta = load<u32>(entry, ENTRY_META);
    const next = at + ((meta >>> META_LENGTH) & 15);
    const own = (meta >>> META_COUNT) & 3;
    for (let n: usize = 0; n < own; n++) {
      const from = entry + ENTRY_RECORDS + n * RECORD_BYTES;
      copyRecord(from, to, done + instructions, at, next);
      to += UOP_SIZE;
    }
    const jump = jumpLength(<u32>low);
    if (jump != 0) store<i64>(to - UOP_SIZE, <i64>(<i32>next + displacement(low, jump)), UOP_IMM);
    flow = (meta >>> META_FLOW) & 3;
    records += own;
    instructions += 1;
    at = next;
  }
  return (
    at | (instructions << KNOWN_RUN_INSTRUCTIONS) | (records << KNOWN_RUN_RECORDS) | (flow << KNOWN_RUN_FLOW)
  );
}

/**
 * Keeps the instruction whose bytes are at KNOWN.UNKNOWN, if that is possible.
 * @param records how many records it has become; they are at `from`
 * @param flow what it says about what follows
 * @param placeMatters what it has become depends on its place by more than PC, NEXT_PC and RIP-relative addresses
 */
export function keepKnown(
  length: u32,
  mode: u32,
  from: usize,
  records: u32,
  flow: u32,
  placeMatters: i32,
): void {
  const low = load<u64>(KNOWN_BASE + KNOWN_UNKNOWN);
  const high = load<u32>(KNOWN_BASE + KNOWN_UNKNOWN, 8);
  const jump = jumpLength(<u32>low);
  // Of jumps it is known how their place matters.
  const isKnown = jump == 0 ? placeMatters == 0 : records == 1 && length == jump;
  if (length > BYTES_MAX || records > RECORDS_MAX || !isKnown) return;
  if (jump == 0) store<u8>(lengthSlot(<u32>low, length), length);
  const bytes = jump == 0 ? length : opcodeBytes(jump);
  const key = keyLow(low, bytes);
  const keyEnd = keyHigh(high, bytes);
  const entry = entryOf(key, keyEnd, mode);
  store<u64>(entry, key);
  store<u32>(entry, keyEnd, ENTRY_HIGH);
  const meta = mode | (length << META_LENGTH) | (records << META_COUNT) | (flow << META_FLOW);
  store<u32>(entry, meta, ENTRY_META);
  for (let n: usize = 0; n < records; n++) {
    keepRecord(from + n * UOP_SIZE, entry + ENTRY_RECORDS + n * RECORD_BYTES);
  }
}

/** Takes a record without what depends on where it is: DONE, and the RIP that an address is relative to. */
function keepRecord(from: usize, to: usize): void {
  memory.copy(to, from, RECORD_BYTES);
  store<u32>(to, load<u32>(from, UOP_INDEX) & BEFORE_DONE, UOP_INDEX);
  if (load<u16>(from, UOP_BASE) != <u16>(STATE_PAGE - CPU)) return;
  store<u32>(to, load<u32>(from, UOP_DISP) - load<u16>(from, UOP_NEXT_PC), UOP_DISP);
}
