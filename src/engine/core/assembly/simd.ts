// Vector integer instructions that WebAssembly's SIMD cannot express in a few operations.
// Pointers are addresses of 16-byte operands; `a` is source and destination.
import { STATE_FLAG_CARRY, STATE_FLAG_RESULT, STATE_REGS, STATE_SCRATCH, STATE_XMM } from './layout';
import { writeBlock } from './mmu';

/** MPSADBW: eight sums of absolute differences of 4 bytes, block of b and start in a chosen by imm. */
export function mpsadbw(imm: i32, a: usize, b: usize): void {
  const start = a + ((imm >> 2) & 1) * 4;
  const block = b + (imm & 3) * 4;
  let low: u64 = 0;
  let high: u64 = 0;
  for (let n = 0; n < 8; n++) {
    let sum: i32 = 0;
    for (let k = 0; k < 4; k++) {
      const difference = <i32>load<u8>(start + n + k) - <i32>load<u8>(block + k);
      sum += difference < 0 ? -difference : difference;
    }
    if (n < 4) low |= (<u64>sum) << (<u64>n * 16);
    else high |= (<u64>sum) << (<u64>(n - 4) * 16);
  }
  store<u64>(a, low);
  store<u64>(a, high, 8);
}

/** PHMINPOSUW: the smallest word of b and its index. */
export function phminposuw(imm: i32, a: usize, b: usize): void {
  let smallest: u32 = load<u16>(b);
  let at = 0;
  for (let n = 1; n < 8; n++) {
    const value: u32 = load<u16>(b + n * 2);
    if (value < smallest) {
      smallest = value;
      at = n;
    }
  }
  store<u64>(a, <u64>smallest | ((<u64>at) << 16));
  store<u64>(a, 0, 8);
}

export function blendps(imm: i32, a: usize, b: usize): void {
  for (let n = 0; n < 4; n++) if ((imm >> n) & 1) store<u32>(a + n * 4, load<u32>(b + n * 4));
}
export function blendpd(imm: i32, a: usize, b: usize): void {
  for (let n = 0; n < 2; n++) if ((imm >> n) & 1) store<u64>(a + n * 8, load<u64>(b + n * 8));
}
export function pblendw(imm: i32, a: usize, b: usize): void {
  for (let n = 0; n < 8; n++) if ((imm >> n) & 1) store<u16>(a + n * 2, load<u16>(b + n * 2));
}

/** INSERTPS: element imm[7:6] of b (a memory operand has its value in element 0 and bits 7:6 clear) to imm[5:4], imm[3:0] cleared. */
export function insertps(imm: i32, a: usize, b: usize): void {
  const value = load<u32>(b + ((imm >> 6) & 3) * 4);
  store<u32>(a + ((imm >> 4) & 3) * 4, value);
  for (let n = 0; n < 4; n++) if ((imm >> n) & 1) store<u32>(a + n * 4, 0);
}

// ---- PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM volume 2, section 4.1) ----

function element(at: usize, format: i32, n: i32): i32 {
  if (format == 0) return <i32>load<u8>(at + n);
  if (format == 1) return <i32>load<u16>(at + n * 2);
  if (format == 2) return <i32>load<i8>(at + n);
  return <i32>load<i16>(at + n * 2);
}

function explicitLength(register: i32, wide: i32, count: i32): i32 {
  const raw: i64 = wide ? load<i64>(STATE_REGS + register * 8) : <i64>load<i32>(STATE_REGS + register * 8);
  if (raw == i64.MIN_VALUE) return count;
  const length = raw < 0 ? -raw : raw;
  return length > <i64>count ? count : <i32>length;
}

function implicitLength(at: usize, format: i32, count: i32): i32 {
  let n = 0;
  while (n < count && element(at, format, n) != 0) n++;
  return n;
}

/** Bit j of the intermediate result: is element j of b matched, in the aggregation `mode`. */
function aggregate(mode: i32, format: i32, a: usize, la: i32, b: usize, lb: i32, count: i32, j: i32): bool {
  if (mode == 0) {
    if (j >= lb) return false;
    const value = element(b, format, j);
    for (let i = 0; i < la; i++) if (element(a, format, i) == value) return true;
    return false;
  }
  if (mode == 1) {
    if (j >= lb) return false;
    const value = element(b, format, j);
    for (let i = 0; i + 1 < la; i += 2) {
      if (value >= element(a, format, i) && value <= element(a, format, i + 1)) return true;
    }
    return false;
  }
  if (mode == 2) {
    if (j >= la || j >= lb) return j >= la && j >= lb;
    return element(a, format, j) == element(b, format, j);
  }
  for (let i = 0; i < count - j; i++) {
    if (i >= la) return true;
    if (j + i >= lb) return false;
    if (element(a, format, i) != element(b, format, j + i)) return false;
  }
  return true;
}

/** `control`: bits 0–7 the immediate, 8 explicit lengths, 9 64-bit lengths, 10 result is a mask in XMM0, else an index in ECX. */
export function compareStrings(control: i32, a: usize, b: usize): void {
  const format = control & 3;
  const count = format & 1 ? 8 : 16;
  const explicit = (control >> 8) & 1;
  const wide = (control >> 9) & 1;
  const la = explicit ? explicitLength(0, wide, count) : implicitLength(a, format, count);
  const lb = explicit ? explicitLength(2, wide, count) : implicitLength(b, format, count);
  const mode = (control >> 2) & 3;
  let bits: u32 = 0;
  for (let j = 0; j < count; j++) {
    if (aggregate(mode, format, a, la, b, lb, count, j)) bits |= (<u32>1) << j;
  }
  const all: u32 = count == 16 ? 0xffff : 0xff;
  const polarity = (control >> 4) & 3;
  if (polarity == 1) bits ^= all;
  else if (polarity == 3) bits ^= lb == 16 ? 0xffff : (((<u32>1) << lb) - 1) & all;
  if (control & 0x400) storeMask(bits, count, control & 0x40);
  else {
    const none = bits == 0;
    const index = none ? <u32>count : control & 0x40 ? 31 - clz(bits) : ctz(bits);
    store<u64>(STATE_REGS + 8, <u64>index);
  }
  setStringFlags(bits, la < count, lb < count);
}

function storeMask(bits: u32, count: i32, expand: i32): void {
  let low: u64 = bits;
  let high: u64 = 0;
  if (expand) {
    low = 0;
    const size: u64 = count == 16 ? 8 : 16;
    const ones: u64 = count == 16 ? 0xff : 0xffff;
    const half = count >> 1;
    for (let n = 0; n < count; n++) {
      if (!((bits >> n) & 1)) continue;
      if (n < half) low |= ones << (<u64>n * size);
      else high |= ones << (<u64>(n - half) * size);
    }
  }
  store<u64>(STATE_XMM, low);
  store<u64>(STATE_XMM, high, 8);
}

/** CF = any bit, ZF = b is short, SF = a is short, OF = bit 0, AF = PF = 0. */
function setStringFlags(bits: u32, aShort: bool, bShort: bool): void {
  let carry: u64 = bShort ? 1 : 0; // a result of 0 would show PF
  const cf = bits != 0;
  const overflow = (bits & 1) != 0;
  if (cf) carry |= 0x8000000000000000;
  if (cf != overflow) carry |= 0x4000000000000000;
  if (aShort) carry |= 2; // inverts SF
  store<u64>(STATE_FLAG_CARRY, carry);
  store<i64>(STATE_FLAG_RESULT, bShort ? 0 : 1);
}

/** MASKMOVDQU: stores the bytes of STATE_SCRATCH whose bit in `mask` is set. 0, or 2 with a fault pending. */
export function maskedStore(address: i64, mask: i32): i32 {
  for (let n = 0; n < 16; n++) {
    if (!((mask >> n) & 1)) continue;
    const code = writeBlock(address + n, STATE_SCRATCH + n, 1);
    if (code) return code;
  }
  return 0;
}
