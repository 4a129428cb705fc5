/**
 * Lazy arithmetic flags. Two i64 hold all six:
 *
 * - FLAG_RESULT: the result, sign-extended from the operand width. ZF = (result == 0), SF = (result < 0),
 *   PF = even parity of its low byte.
 * - FLAG_CARRY: CF = bit 63, OF = bit 63 XOR bit 62, AF = bit 3; bit 0 inverts PF and bit 1 inverts SF, for the
 *   combinations that POPF, SAHF and UCOMISD can make and no result has.
 *
 * Because the representation does not depend on the operation, a condition needs no dispatch.
 */
import { STATE } from '../layout.ts';
import type { Emitter, FlagRecorder, Push, Width } from './emitter.ts';
import { pushProductHigh } from './wide-product.ts';

const result = (e: Emitter): void => e.state(STATE.FLAG_RESULT, 'i64');
const carry = (e: Emitter): void => e.state(STATE.FLAG_CARRY, 'i64');

/** Pushes `value` sign-extended from `width`. */
export function signExtend(e: Emitter, width: Width, value: Push): void {
  value();
  if (width !== 64) e.w.op(`i64.extend${width}_s`);
}

function setResult(e: Emitter, width: Width, value: Push): void {
  e.setState(STATE.FLAG_RESULT, 'i64', () => signExtend(e, width, value));
}

/** Pops a vector of carries out of each bit, pushes it in FLAG_CARRY's form for `width`. */
function normalizeCarries(e: Emitter, width: Width, vector: number): void {
  const { w } = e;
  w.set(vector);
  if (width === 64) {
    w.get(vector);
    w.i64(-4n);
    w.op('i64.and');
    return;
  }
  w.get(vector);
  w.i64(64 - width);
  w.op('i64.shl');
  w.get(vector);
  w.i64(8n);
  w.op('i64.and');
  w.op('i64.or');
}

/** Carries of sum = a + b (+ carry): (a & b) | ((a | b) & ~sum). */
function addCarries(e: Emitter, width: Width, a: number, b: number, sum: number): void {
  const { w } = e;
  w.get(a);
  w.get(b);
  w.op('i64.and');
  w.get(a);
  w.get(b);
  w.op('i64.or');
  w.get(sum);
  w.i64(-1n);
  w.op('i64.xor');
  w.op('i64.and');
  w.op('i64.or');
  normalizeCarries(e, width, e.i64[7]);
}

/** Borrows of difference = a - b (- borrow): (~a & b) | (~(a ^ b) & difference). */
function subBorrows(e: Emitter, width: Width, a: number, b: number, difference: number): void {
  const { w } = e;
  w.get(a);
  w.i64(-1n);
  w.op('i64.xor');
  w.get(b);
  w.op('i64.and');
  w.get(a);
  w.get(b);
  w.op('i64.xor');
  w.i64(-1n);
  w.op('i64.xor');
  w.get(difference);
  w.op('i64.and');
  w.op('i64.or');
  normalizeCarries(e, width, e.i64[7]);
}

/** Flags of an addition; operands zero-extended in locals a, b, the sum in `sum` (upper bits ignored). Uses i64[7]. */
function flagsAdd(e: Emitter, width: Width, a: number, b: number, sum: number): void {
  e.setState(STATE.FLAG_CARRY, 'i64', () => addCarries(e, width, a, b, sum));
  setResult(e, width, () => e.w.get(sum));
}

/** Flags of a subtraction. Uses i64[7]. */
function flagsSub(e: Emitter, width: Width, a: number, b: number, difference: number): void {
  e.setState(STATE.FLAG_CARRY, 'i64', () => subBorrows(e, width, a, b, difference));
  setResult(e, width, () => e.w.get(difference));
}

/** Flags of AND, OR, XOR, TEST: CF, OF and AF clear. */
function flagsLogic(e: Emitter, width: Width, value: number): void {
  e.setState(STATE.FLAG_CARRY, 'i64', () => e.w.i64(0n));
  setResult(e, width, () => e.w.get(value));
}

/** Flags of IMUL: CF = OF = the product of sign-extended operands is wider. Uses i64[3]…i64[7]. */
function flagsProduct(e: Emitter, width: Width, a: number, b: number): void {
  const { w } = e;
  const low = e.i64[3];
  w.get(a);
  w.get(b);
  w.op('i64.mul');
  w.set(low);
  e.setState(STATE.FLAG_CARRY, 'i64', () => {
    if (width === 64) {
      pushProductHigh(e, a, b, true);
      w.get(low);
      w.i64(63n);
      w.op('i64.shr_s');
    } else {
      w.get(low);
      signExtend(e, width, () => w.get(low));
    }
    w.op('i64.ne');
    w.op('i64.extend_i32_u');
    w.i64(63n);
    w.op('i64.shl');
  });
  setResult(e, width, () => w.get(low));
}

/** Flags of INC (`add`) and DEC: CF stays. `one` holds 1. Uses i64[6], i64[7]. */
function flagsIncDec(e: Emitter, width: Width, add: boolean, a: number, one: number, value: number): void {
  const { w } = e;
  const vector = e.i64[6];
  if (add) addCarries(e, width, a, one, value);
  else subBorrows(e, width, a, one, value);
  w.set(vector);
  // vector ^ ((vector ^ old) >> 63 << 62…): flip bits 63 and 62 together where CF differs, so that OF stays.
  e.setState(STATE.FLAG_CARRY, 'i64', () => {
    w.get(vector);
    w.get(vector);
    carry(e);
    w.op('i64.xor');
    w.i64(63n);
    w.op('i64.shr_s');
    w.i64(3n << 62n);
    w.op('i64.and');
    w.op('i64.xor');
  });
  setResult(e, width, () => w.get(value));
}

/**
 * Sets CF and OF from i32 booleans (0 or 1), AF cleared, and the result flags.
 * @param overflowXorCarry pushes CF XOR OF
 */
export function flagsShift(e: Emitter, width: Width, cf: Push, overflowXorCarry: Push, value: number): void {
  e.flags.set(
    () => signExtend(e, width, () => e.w.get(value)),
    () => packCarry(e, cf, overflowXorCarry),
  );
}

function packCarry(e: Emitter, cf: Push, overflowXorCarry: Push): void {
  const { w } = e;
  cf();
  w.op('i64.extend_i32_u');
  w.i64(63n);
  w.op('i64.shl');
  overflowXorCarry();
  w.op('i64.extend_i32_u');
  w.i64(62n);
  w.op('i64.shl');
  w.op('i64.or');
}

/** Sets CF and OF only (rotates). */
export function flagsRotate(e: Emitter, cf: Push, overflowXorCarry: Push): void {
  e.setState(STATE.FLAG_CARRY, 'i64', () => {
    carry(e);
    e.w.i64(0x3fff_ffff_ffff_ffffn);
    e.w.op('i64.and');
    packCarry(e, cf, overflowXorCarry);
    e.w.op('i64.or');
  });
}

/** Sets CF only, keeping OF, to a bit of an i64 local. */
function setCarryFlag(e: Emitter, value: number, bit: number): void {
  const { w } = e;
  e.setState(STATE.FLAG_CARRY, 'i64', () => {
    carry(e);
    // flip bits 63 and 62 when CF changes: OF is their XOR and stays
    carry(e);
    w.get(value);
    w.i64(63 - bit);
    w.op('i64.shl');
    w.op('i64.xor');
    w.i64(63n);
    w.op('i64.shr_s');
    w.i64(3n << 62n);
    w.op('i64.and');
    w.op('i64.xor');
  });
}

/** Pushes CF as i64 0 or 1. */
function pushCarry64(e: Emitter): void {
  carry(e);
  e.w.i64(63n);
  e.w.op('i64.shr_u');
}

const isNegative = (e: Emitter): void => {
  e.w.i64(0n);
  e.w.op('i64.lt_s');
};

function pushZero(e: Emitter): void {
  result(e);
  e.w.op('i64.eqz');
}

/** Pushes an i64 whose sign bit is SF. */
function pushSignVector(e: Emitter): void {
  result(e);
  carry(e);
  e.w.i64(62n);
  e.w.op('i64.shl');
  e.w.op('i64.xor');
}

/** Pushes an i64 whose sign bit is OF. */
function pushOverflowVector(e: Emitter): void {
  carry(e);
  carry(e);
  e.w.i64(1n);
  e.w.op('i64.shl');
  e.w.op('i64.xor');
}

function pushLess(e: Emitter): void {
  pushSignVector(e);
  pushOverflowVector(e);
  e.w.op('i64.xor');
  isNegative(e);
}

const POSITIVE_CONDITIONS: readonly ((e: Emitter) => void)[] = [
  (e) => {
    pushOverflowVector(e);
    isNegative(e);
  },
  (e) => {
    carry(e);
    isNegative(e);
  },
  pushZero,
  (e) => {
    pushZero(e);
    carry(e);
    isNegative(e);
    e.w.op('i32.or');
  },
  (e) => {
    pushSignVector(e);
    isNegative(e);
  },
  (e) => {
    // parity of the low byte, inverted by FLAG_CARRY's bit 0: even → 1
    result(e);
    e.w.i64(0xffn);
    e.w.op('i64.and');
    e.w.op('i64.popcnt');
    carry(e);
    e.w.op('i64.xor');
    e.w.op('i32.wrap_i64');
    e.w.i32(1);
    e.w.op('i32.and');
    e.w.op('i32.eqz');
  },
  pushLess,
  (e) => {
    pushZero(e);
    pushLess(e);
    e.w.op('i32.or');
  },
];

/** Pushes condition code 0…15 (the low nibble of Jcc, SETcc, CMOVcc) as i32 0 or 1. */
function pushCondition(e: Emitter, code: number): void {
  POSITIVE_CONDITIONS[code >> 1](e);
  if (code & 1) e.w.op('i32.eqz');
}

/** Computes the flags at once into the two state fields. */
export class EagerFlags implements FlagRecorder {
  readonly #e: Emitter;

  constructor(e: Emitter) {
    this.#e = e;
  }

  conditionally(condition: Push, change: Push, otherwise?: Push): void {
    const { w } = this.#e;
    condition();
    w.if();
    change();
    if (otherwise !== undefined) {
      w.else();
      otherwise();
    }
    w.end();
  }

  add(width: Width, a: number, b: number, sum: number): void {
    flagsAdd(this.#e, width, a, b, sum);
  }
  sub(width: Width, a: number, b: number, difference: number): void {
    flagsSub(this.#e, width, a, b, difference);
  }
  compare(width: Width, a: number, b: number, difference: number): void {
    flagsSub(this.#e, width, a, b, difference);
  }
  logic(width: Width, value: number): void {
    flagsLogic(this.#e, width, value);
  }
  product(width: Width, a: number, b: number): void {
    flagsProduct(this.#e, width, a, b);
  }
  set(result: Push, carry: Push): void {
    this.#e.setState(STATE.FLAG_CARRY, 'i64', carry);
    this.#e.setState(STATE.FLAG_RESULT, 'i64', result);
  }
  step(width: Width, add: boolean, a: number, one: number, value: number): void {
    flagsIncDec(this.#e, width, add, a, one, value);
  }
  setCarry(value: number, bit: number): void {
    setCarryFlag(this.#e, value, bit);
  }
  pushCarry(): void {
    pushCarry64(this.#e);
  }
  pushCondition(code: number): void {
    pushCondition(this.#e, code);
  }
}
