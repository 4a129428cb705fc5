// Integer operations that WebAssembly has no instruction for: wide division,
// rotates through carry, BCD adjustments, CRC32.
import {
  STATE_FAULT_ERROR,
  STATE_FAULT_VECTOR,
  STATE_FLAG_CARRY,
  STATE_FLAG_RESULT,
  STATE_REGS,
} from './layout';

const RAX: usize = STATE_REGS;
const RDX: usize = STATE_REGS + 16;

/** #DE: code 2. */
function divideError(): i32 {
  store<i32>(STATE_FAULT_VECTOR, 0);
  store<u32>(STATE_FAULT_ERROR, 0);
  return 1;
}

let quotient128: u64 = 0;
let remainder128: u64 = 0;

/** (high:low) / divisor with high < divisor, by 64 steps of shift and subtract. */
function divideWide(high: u64, low: u64, divisor: u64): void {
  if (high == 0) {
    quotient128 = low / divisor;
    remainder128 = low % divisor;
    return;
  }
  let rest = high;
  let quotient = low;
  for (let i = 0; i < 64; i++) {
    const carry = rest >> 63;
    rest = (rest << 1) | (quotient >> 63);
    quotient <<= 1;
    if (carry || rest >= divisor) {
      rest -= divisor;
      quotient |= 1;
    }
  }
  quotient128 = quotient;
  remainder128 = rest;
}

/** DIV with `width` 8…64 bits, operand zero-extended: 0, or not 0 with #DE pending. */
export function divideUnsigned(width: i32, divisor: u64): i32 {
  if (divisor == 0) return divideError();
  if (width == 8) {
    const dividend = <u64>load<u16>(RAX);
    const quotient = dividend / divisor;
    if (quotient > 0xff) return divideError();
    store<u8>(RAX, <u8>quotient);
    store<u8>(RAX + 1, <u8>(dividend % divisor));
  } else if (width == 16) {
    const dividend = ((<u64>load<u16>(RDX)) << 16) | <u64>load<u16>(RAX);
    const quotient = dividend / divisor;
    if (quotient > 0xffff) return divideError();
    store<u16>(RAX, <u16>quotient);
    store<u16>(RDX, <u16>(dividend % divisor));
  } else if (width == 32) {
    const dividend = ((<u64>load<u32>(RDX)) << 32) | <u64>load<u32>(RAX);
    const quotient = dividend / divisor;
    if (quotient > 0xffffffff) return divideError();
    store<u64>(RAX, quotient);
    store<u64>(RDX, dividend % divisor);
  } else {
    const high = load<u64>(RDX);
    if (high >= divisor) return divideError();
    divideWide(high, load<u64>(RAX), divisor);
    store<u64>(RAX, quotient128);
    store<u64>(RDX, remainder128);
  }
  return 0;
}

/** IDIV with `width` 8…64 bits, operand sign-extended: 0, or not 0 with #DE pending. */
export function divideSigned(width: i32, divisor: i64): i32 {
  if (divisor == 0) return divideError();
  if (width == 8) {
    const dividend = <i64>load<i16>(RAX);
    const quotient = dividend / divisor;
    if (quotient != <i64>(<i8>quotient)) return divideError();
    store<i8>(RAX, <i8>quotient);
    store<i8>(RAX + 1, <i8>(dividend % divisor));
  } else if (width == 16) {
    const dividend = <i64>(<i32>(((<u32>load<u16>(RDX)) << 16) | <u32>load<u16>(RAX)));
    const quotient = dividend / divisor;
    if (quotient != <i64>(<i16>quotient)) return divideError();
    store<i16>(RAX, <i16>quotient);
    store<i16>(RDX, <i16>(dividend % divisor));
  } else if (width == 32) {
    const dividend = <i64>(((<u64>load<u32>(RDX)) << 32) | <u64>load<u32>(RAX));
    if (dividend == i64.MIN_VALUE && divisor == -1) return divideError();
    const quotient = dividend / divisor;
    if (quotient != <i64>(<i32>quotient)) return divideError();
    store<u64>(RAX, <u64>(<u32>quotient));
    store<u64>(RDX, <u64>(<u32>(dividend % divisor)));
  } else {
    return divideSigned64(divisor);
  }
  return 0;
}

function divideSigned64(divisor: i64): i32 {
  let high = load<u64>(RDX);
  let low = load<u64>(RAX);
  const negative = <i64>high < 0;
  if (negative) {
    low = ~low + 1;
    high = ~high + (low == 0 ? 1 : 0);
  }
  const magnitude: u64 = divisor < 0 ? <u64>-divisor : <u64>divisor;
  if (high >= magnitude) return divideError();
  divideWide(high, low, magnitude);
  const negativeQuotient = negative != divisor < 0;
  const limit: u64 = negativeQuotient ? 0x8000000000000000 : 0x7fffffffffffffff;
  if (quotient128 > limit) return divideError();
  store<u64>(RAX, negativeQuotient ? ~quotient128 + 1 : quotient128);
  store<u64>(RDX, negative ? ~remainder128 + 1 : remainder128);
  return 0;
}

function setCarryOverflow(carry: bool, overflow: bool): void {
  let flags = load<u64>(STATE_FLAG_CARRY) & 0x3fffffffffffffff;
  if (carry) flags |= 0x8000000000000000;
  if (carry != overflow) flags |= 0x4000000000000000;
  store<u64>(STATE_FLAG_CARRY, flags);
}

/** RCL of the low `width` bits; count already masked to 5 or 6 bits. Sets CF and OF. */
export function rotateCarryLeft(width: i32, value: u64, count: i32): u64 {
  let carry: u64 = load<u64>(STATE_FLAG_CARRY) >> 63;
  const steps = count % (width + 1);
  if (count == 0) return value;
  let result = value;
  const top = <u64>(width - 1);
  const mask: u64 = width == 64 ? u64.MAX_VALUE : ((<u64>1) << (<u64>width)) - 1;
  for (let i = 0; i < steps; i++) {
    const out = (result >> top) & 1;
    result = ((result << 1) | carry) & mask;
    carry = out;
  }
  const sign = (result >> top) & 1;
  setCarryOverflow(carry != 0, (sign ^ carry) != 0);
  return result;
}

/** RCR, as `rotateCarryLeft`. */
export function rotateCarryRight(width: i32, value: u64, count: i32): u64 {
  let carry: u64 = load<u64>(STATE_FLAG_CARRY) >> 63;
  const steps = count % (width + 1);
  if (count == 0) return value;
  let result = value;
  const top = <u64>(width - 1);
  for (let i = 0; i < steps; i++) {
    const out = result & 1;
    result = (result >> 1) | (carry << top);
    carry = out;
  }
  const high = (result >> top) & 1;
  const next = (result >> (top - 1)) & 1;
  setCarryOverflow(carry != 0, (high ^ next) != 0);
  return result;
}

/** SHLD and SHRD: `value` shifted by count (masked, not 0) with bits from `fill`; sets the flags. */
export function shiftDouble(left: i32, width: i32, value: u64, fill: u64, count: i32): u64 {
  if (count == 0) return value;
  const bits = <u64>width;
  const n = <u64>count;
  const mask: u64 = width == 64 ? u64.MAX_VALUE : ((<u64>1) << bits) - 1;
  let result: u64;
  let carry: u64;
  if (width == 16) {
    // Counts above 16 are undefined; processors rotate the concatenation with the value again.
    if (left) {
      const wide = (value << 32) | (fill << 16) | value;
      const shifted = wide << n;
      result = (shifted >> 32) & mask;
      carry = n <= 16 ? (value >> (16 - n)) & 1 : (fill >> (32 - n)) & 1;
    } else {
      const wide = (value << 32) | (fill << 16) | value;
      result = (wide >> n) & mask;
      carry = (wide >> (n - 1)) & 1;
    }
  } else if (left) {
    result = ((value << n) | (fill >> (bits - n))) & mask;
    carry = (value >> (bits - n)) & 1;
  } else {
    result = ((value >> n) | (fill << (bits - n))) & mask;
    carry = (value >> (n - 1)) & 1;
  }
  const signChanged = ((result ^ value) >> (bits - 1)) & 1;
  let flags: u64 = 0;
  if (carry) flags |= 0x8000000000000000;
  if (carry != signChanged) flags |= 0x4000000000000000;
  store<u64>(STATE_FLAG_CARRY, flags);
  const unused = 64 - bits;
  store<i64>(STATE_FLAG_RESULT, <i64>(result << unused) >> unused);
  return result;
}

/** CRC32 instruction: polynomial 0x11EDC6F41, reflected; `bytes` low bytes of data. */
export function crc32c(crc: u32, data: u64, bytes: i32): u32 {
  let sum = crc;
  for (let i = 0; i < bytes; i++) {
    sum ^= <u32>((data >> (<u64>i * 8)) & 0xff);
    for (let bit = 0; bit < 8; bit++) sum = (sum >> 1) ^ (0x82f63b78 & (0 - (sum & 1)));
  }
  return sum;
}

// ---- decimal adjustments (not in 64-bit mode) ----

function carryFlag(): bool {
  return <i64>load<u64>(STATE_FLAG_CARRY) < 0;
}
function auxiliaryFlag(): bool {
  return (load<u64>(STATE_FLAG_CARRY) & 8) != 0;
}
function setDecimalFlags(result: i32, carry: bool, auxiliary: bool): void {
  store<i64>(STATE_FLAG_RESULT, <i64>(<i8>result));
  let flags: u64 = auxiliary ? 8 : 0;
  if (carry) flags |= 0xc000000000000000;
  store<u64>(STATE_FLAG_CARRY, flags);
}

/** DAA (`subtract` 0) and DAS (1). */
export function decimalAdjust(subtract: i32): void {
  const old = <i32>load<u8>(RAX);
  const oldCarry = carryFlag();
  let value = old;
  let carry = false;
  let auxiliary = false;
  if ((old & 15) > 9 || auxiliaryFlag()) {
    carry = oldCarry || (subtract ? old < 6 : old > 0xf9);
    value += subtract ? -6 : 6;
    auxiliary = true;
  }
  if (old > 0x99 || oldCarry) {
    value += subtract ? -0x60 : 0x60;
    carry = true;
  } else if (!subtract) {
    carry = false;
  }
  store<u8>(RAX, <u8>value);
  setDecimalFlags(value & 0xff, carry, auxiliary);
}

/** AAA (`subtract` 0) and AAS (1). */
export function asciiAdjust(subtract: i32): void {
  const adjust = (<i32>load<u8>(RAX) & 15) > 9 || auxiliaryFlag();
  if (adjust) {
    if (subtract) {
      store<u16>(RAX, <u16>(load<u16>(RAX) - 6));
      store<u8>(RAX + 1, <u8>(load<u8>(RAX + 1) - 1));
    } else {
      store<u16>(RAX, <u16>(load<u16>(RAX) + 0x106));
    }
  }
  store<u8>(RAX, load<u8>(RAX) & 15);
  setDecimalFlags(<i32>load<u8>(RAX), adjust, adjust);
}

/** AAM: not 0 with #DE pending for base 0. */
export function asciiAdjustMultiply(base: i32): i32 {
  if (base == 0) return divideError();
  const value = <i32>load<u8>(RAX);
  store<u8>(RAX + 1, <u8>(value / base));
  store<u8>(RAX, <u8>(value % base));
  setDecimalFlags(value % base, false, false);
  return 0;
}

/** AAD. */
export function asciiAdjustDivide(base: i32): void {
  const value = (<i32>load<u8>(RAX) + <i32>load<u8>(RAX + 1) * base) & 0xff;
  store<u16>(RAX, <u16>value);
  setDecimalFlags(value, false, false);
}
