// RFLAGS from and to the lazy form.
//
// FLAG_RESULT is the last result sign-extended from the operand width, FLAG_CARRY the carry-out vector:
// CF = carry bit 63, OF = bit 63 ^ bit 62, AF = bit 3, ZF = (result == 0), SF = (result < 0) ^ carry bit 1,
// PF = even parity of the result's low byte ^ carry bit 0.
import {
  FLAG_KIND_ADC,
  FLAG_KIND_ADD,
  FLAG_KIND_APART,
  FLAG_KIND_BIT_SHIFT,
  FLAG_KIND_COMPARE,
  FLAG_KIND_EXPLICIT,
  FLAG_KIND_OPERATION_MASK,
  FLAG_KIND_PRODUCT,
  FLAG_KIND_SBB,
  FLAG_KIND_SUB,
  FLAG_KIND_WIDTH_SHIFT,
  STATE_FLAG_APART,
  STATE_FLAG_CARRY,
  STATE_FLAG_KIND,
  STATE_FLAG_RESULT,
  STATE_FLAG_THIRD,
  STATE_INTR_PENDING,
} from './layout';
import {
  DONE,
  FLAG_AC,
  FLAG_AF,
  FLAG_CF,
  FLAG_DF,
  FLAG_ID,
  FLAG_IF,
  FLAG_IOPL,
  FLAG_NT,
  FLAG_OF,
  FLAG_PF,
  FLAG_RF,
  FLAG_SF,
  FLAG_TF,
  FLAG_VM,
  FLAG_ZF,
  LOOKUP,
  VECTOR_GP,
  cpl,
  fault,
  iopl,
  setRip,
  setSystemFlags,
  systemFlags,
  virtual8086,
} from './state';
import { updateMode } from './mode';

const ARITHMETIC: i64 = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF;
const INVERT_PF: i64 = 1;
const INVERT_SF: i64 = 2;

/** RFLAGS from lazy and stored flags. */
export function getFlags(): i64 {
  const result = load<i64>(STATE_FLAG_RESULT);
  const carry = load<i64>(STATE_FLAG_CARRY);
  let flags = systemFlags();
  if (carry < 0) flags |= FLAG_CF;
  if ((carry ^ (carry << 1)) < 0) flags |= FLAG_OF;
  if (carry & 8) flags |= FLAG_AF;
  if (result == 0) flags |= FLAG_ZF;
  if (result < 0 != ((carry & INVERT_SF) != 0)) flags |= FLAG_SF;
  if (((popcnt(result & 0xff) ^ carry) & 1) == 0) flags |= FLAG_PF;
  return flags;
}

/** Bit 63: carries out of each bit of sum = a + b (+ carry). */
function carries(a: i64, b: i64, sum: i64): i64 {
  return (a & b) | ((a | b) & ~sum);
}

/** Bit 63: borrows into the bit above each bit of difference = a - b (- borrow). */
function borrows(a: i64, b: i64, difference: i64): i64 {
  return (~a & b) | (~(a ^ b) & difference);
}

/** Whether the product of sign-extended operands of `width` bits is more than that many bits hold. */
function productIsWider(a: i64, b: i64, width: i64): bool {
  const low = a * b;
  if (width < 64) return low != (low << (64 - width)) >> (64 - width);
  if (a == 0) return false;
  return (a == -1 && b == i64.MIN_VALUE) || low / a != b;
}

/** FLAG_CARRY of an operation that compiled code has left, `vector` being its carries. */
function carryWord(vector: i64, width: i64): i64 {
  return ((vector << (64 - width)) & ((<i64>3) << 62)) | (vector & 8);
}

/** Makes the flags that a compiled region has left explicit; the kinds are those of `jit/lazy-flags.ts`. */
export function settleFlags(): void {
  const kind = load<u32>(STATE_FLAG_KIND);
  const operation = kind & FLAG_KIND_OPERATION_MASK;
  const width: i64 = 8 << ((kind >> FLAG_KIND_WIDTH_SHIFT) & 3);
  const unused = 64 - width;
  const x = load<i64>(STATE_FLAG_RESULT);
  const y = load<i64>(STATE_FLAG_CARRY);
  let result = x;
  let carry: i64 = 0;
  if (operation == FLAG_KIND_EXPLICIT) carry = y;
  else if (operation == FLAG_KIND_ADD) carry = carryWord(carries(x - y, y, x), width);
  else if (operation == FLAG_KIND_SUB) carry = carryWord(borrows(x + y, y, x), width);
  else if (operation == FLAG_KIND_ADC) carry = carryWord(carries(load<i64>(STATE_FLAG_THIRD), y, x), width);
  else if (operation == FLAG_KIND_SBB) carry = carryWord(borrows(load<i64>(STATE_FLAG_THIRD), y, x), width);
  else if (operation == FLAG_KIND_COMPARE) {
    result = x - y;
    carry = carryWord(borrows(x, y, result), width);
  } else if (operation == FLAG_KIND_PRODUCT) {
    result = x * y;
    carry = productIsWider(x, y, width) ? (<i64>1) << 63 : 0;
  }
  if (operation != FLAG_KIND_EXPLICIT) result = (result << unused) >> unused;
  if (kind & FLAG_KIND_APART) {
    const bit = <i64>((kind >> FLAG_KIND_BIT_SHIFT) & 63);
    const cf = (load<i64>(STATE_FLAG_APART) >> bit) << 63;
    // OF is the XOR of the upper two bits: it stays
    carry ^= ((carry ^ cf) >> 63) & ((<i64>3) << 62);
  }
  store<i64>(STATE_FLAG_RESULT, result);
  store<i64>(STATE_FLAG_CARRY, carry);
  store<u32>(STATE_FLAG_KIND, FLAG_KIND_EXPLICIT);
}

/** Sets CF PF AF ZF SF OF from an RFLAGS image. */
export function setArithmeticFlags(value: i64): void {
  const zero = (value & FLAG_ZF) != 0;
  const sign = (value & FLAG_SF) != 0;
  // Not zero: bit 8 keeps the low byte (parity) even and the value positive.
  const result: i64 = zero ? 0 : sign ? -256 : 256;
  let carry: i64 = 0;
  if (zero && sign) carry |= INVERT_SF;
  if ((value & FLAG_PF) == 0) carry |= INVERT_PF;
  if (value & FLAG_AF) carry |= 8;
  const cf = (value & FLAG_CF) != 0;
  if (cf) carry |= (<i64>1) << 63;
  if (cf != ((value & FLAG_OF) != 0)) carry |= (<i64>1) << 62;
  store<i64>(STATE_FLAG_RESULT, result);
  store<i64>(STATE_FLAG_CARRY, carry);
}

/** Sets ZF and leaves the other flags. */
export function setZero(zero: bool): void {
  const flags = getFlags();
  setArithmeticFlags(zero ? flags | FLAG_ZF : flags & ~FLAG_ZF);
}

/** Flags of a comparison `a - b` of sign-extended operands of `width` bytes. */
export function setCompareFlags(a: i64, b: i64, width: i32): void {
  const shift = <i64>(64 - width * 8);
  const difference = ((a - b) << shift) >> shift;
  const borrow = (~a & b) | (~(a ^ b) & (a - b));
  store<i64>(STATE_FLAG_RESULT, difference);
  store<i64>(STATE_FLAG_CARRY, ((borrow << shift) & ((<i64>3) << 62)) | (borrow & 8));
}

/** Replaces the bits in `mask` by those of an RFLAGS image, arithmetic flags included. Does not update the mode. */
export function replaceFlags(image: i64, mask: i64): void {
  const system = mask & ~ARITHMETIC & ~FLAG_RF;
  setSystemFlags((systemFlags() & ~system) | (image & system) | 2);
  setArithmeticFlags((getFlags() & ~mask) | (image & mask));
}

/** Which flags POPF and IRET may change at the present privilege. */
export function writableFlags(opSize: i32): i64 {
  let mask = ARITHMETIC | FLAG_TF | FLAG_DF | FLAG_NT;
  if (opSize > 2) mask |= FLAG_AC | FLAG_ID;
  if (cpl() <= iopl()) mask |= FLAG_IF;
  if (cpl() == 0) mask |= FLAG_IOPL;
  return mask;
}

/** The image that PUSHF stores. */
export function pushf(): i64 {
  if (virtual8086() && iopl() < 3) {
    fault(VECTOR_GP, 0);
    return 0;
  }
  return getFlags() & ~(FLAG_VM | FLAG_RF);
}

/** POPF; see exports.ts. */
export function popf(value: i64, opSize: i32, next: i64): i32 {
  if (virtual8086() && iopl() < 3) return fault(VECTOR_GP, 0);
  const before = systemFlags();
  replaceFlags(value, writableFlags(opSize));
  const after = systemFlags();
  const enabled = after & ~before & FLAG_IF;
  const attend = enabled != 0 && load<u32>(STATE_INTR_PENDING) != 0;
  if (((before ^ after) & (FLAG_TF | FLAG_AC)) == 0 && !attend) return DONE;
  updateMode();
  setRip(next);
  return LOOKUP;
}
