/** Shifts and rotates. Counts are masked here; a count of 0 leaves flags and (but for the 32-bit clear) the operand alone. */
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';
import { flagsRotate, flagsShift, signExtend } from './flags.ts';
import { RCX, WIDTHS, WORD_WIDTHS } from './operands.ts';

/** Locals: value, count, result, what the last bit out is taken from (i64). */
const VALUE = 0;
const COUNT = 1;
const RESULT = 2;
const LAST = 3;

/** Pushes bit `index` (pushed as i64) of a local as i32. */
function bit(e: Emitter, local: number, index: Push): void {
  e.w.get(local);
  index();
  e.w.op('i64.shr_u');
  e.w.op('i32.wrap_i64');
  e.w.i32(1);
  e.w.op('i32.and');
}
const constant = (e: Emitter, value: number): Push => {
  return () => e.w.i64(BigInt(value));
};

/** A bit of an i64 local. */
interface Bit {
  readonly local: number;
  readonly index: number;
}

/** A shift or rotate of VALUE by COUNT, which is not 0. */
interface Shift {
  /** A rotate changes CF and OF only. */
  readonly rotates: boolean;
  /** Computes RESULT. */
  result(e: Emitter, width: Width): void;
  /** Where CF, the last bit shifted out, is. */
  carry(e: Emitter, width: Width): Bit;
  /** Pushes CF ^ OF, where the count is 1. */
  overflow(e: Emitter, width: Width, carry: Bit): void;
  /** All flags after a shift by 1 as those of other operations, which is less to do. */
  flagsOfOne?(e: Emitter, width: Width): void;
}

const SHIFTS: Readonly<Record<string, Shift>> = {
  shl: {
    rotates: false,
    result(e) {
      e.w.get(e.i64[VALUE]);
      e.w.get(e.i64[COUNT]);
      e.w.op('i64.shl');
      e.w.set(e.i64[RESULT]);
    },
    carry(e, width) {
      // With more than `width` places it is 0.
      if (width !== 64) return { local: e.i64[RESULT], index: width };
      e.w.get(e.i64[VALUE]);
      e.w.i64(64);
      e.w.get(e.i64[COUNT]);
      e.w.op('i64.sub');
      e.w.op('i64.shr_u');
      return lowBit(e);
    },
    overflow: (e, width) => bit(e, e.i64[RESULT], constant(e, width - 1)),
    flagsOfOne: (e, width) => e.flags.add(width, e.i64[VALUE], e.i64[VALUE], e.i64[RESULT]),
  },
  shr: {
    rotates: false,
    result: (e, width) => shiftRight(e, width, 'shr_u'),
    carry: (e) => lastOut(e, 'i64.shr_u'),
    overflow(e, width, carry) {
      pushBit(e, carry);
      bit(e, e.i64[VALUE], constant(e, width - 1));
      e.w.op('i32.xor');
    },
    // OF is the old sign: that of sign + (result | sign).
    flagsOfOne(e, width) {
      const { w } = e;
      const [value, , result, sum, sign] = e.i64;
      w.get(value);
      w.i64(BigInt.asIntN(64, 1n << BigInt(width - 1)));
      w.op('i64.and');
      w.tee(sign);
      w.get(result);
      w.op('i64.or');
      w.set(sum);
      e.flags.add(width, sum, sign, result);
      e.flags.setCarry(value, 0);
    },
  },
  sar: {
    rotates: false,
    result(e, width) {
      signExtend(e, width, () => e.w.get(e.i64[VALUE]));
      e.w.set(e.i64[VALUE]);
      shiftRight(e, width, 'shr_s');
    },
    // Beyond the width the sign keeps coming.
    carry: (e) => lastOut(e, 'i64.shr_s'),
    overflow: (e, _width, carry) => pushBit(e, carry),
    flagsOfOne(e, width) {
      e.flags.logic(width, e.i64[RESULT]);
      e.flags.setCarry(e.i64[VALUE], 0);
    },
  },
  rol: {
    rotates: true,
    result: (e, width) => rotate(e, width, 'left'),
    carry: (e) => ({ local: e.i64[RESULT], index: 0 }),
    overflow: (e, width) => bit(e, e.i64[RESULT], constant(e, width - 1)),
  },
  ror: {
    rotates: true,
    result: (e, width) => rotate(e, width, 'right'),
    carry: (e, width) => ({ local: e.i64[RESULT], index: width - 1 }),
    // CF = MSB and OF = MSB ^ next bit, so CF ^ OF = the next bit.
    overflow: (e, width) => bit(e, e.i64[RESULT], constant(e, width - 2)),
  },
};

const pushBit = (e: Emitter, { local, index }: Bit): void => bit(e, local, constant(e, index));

/** Pops an i64 whose low bit is CF. */
function lowBit(e: Emitter): Bit {
  e.w.set(e.i64[LAST]);
  return { local: e.i64[LAST], index: 0 };
}

/** The last bit that a right shift moves out: bit COUNT - 1 of VALUE. */
function lastOut(e: Emitter, op: string): Bit {
  e.w.get(e.i64[VALUE]);
  e.w.get(e.i64[COUNT]);
  e.w.i64(1);
  e.w.op('i64.sub');
  e.w.op(op);
  return lowBit(e);
}

/** Shifts with all flags as for a count of 1. */
function shiftWithOverflow(e: Emitter, width: Width, shift: Shift): void {
  shift.result(e, width);
  const carryBit = shift.carry(e, width);
  const carry = (): void => pushBit(e, carryBit);
  const overflow = (): void => shift.overflow(e, width, carryBit);
  if (shift.rotates) flagsRotate(e, carry, overflow);
  else flagsShift(e, width, carry, overflow, e.i64[RESULT]);
}

function shiftByOne(e: Emitter, width: Width, shift: Shift): void {
  if (shift.flagsOfOne === undefined) {
    shiftWithOverflow(e, width, shift);
    return;
  }
  shift.result(e, width);
  shift.flagsOfOne(e, width);
}

/** Shifts by more than 1, where OF is not defined: it stays, or is clear. */
function shiftWithoutOverflow(e: Emitter, width: Width, shift: Shift): void {
  shift.result(e, width);
  const { local, index } = shift.carry(e, width);
  if (!shift.rotates) e.flags.logic(width, e.i64[RESULT]);
  e.flags.setCarry(local, index);
}

/** Pushes VALUE and COUNT, of 32 bits as i32. */
function valueAndCount(e: Emitter, width: Width): void {
  for (const local of [VALUE, COUNT]) {
    e.w.get(e.i64[local]);
    if (width === 32) e.w.op('i32.wrap_i64');
  }
}

function shiftRight(e: Emitter, width: Width, op: 'shr_u' | 'shr_s'): void {
  valueAndCount(e, width);
  e.w.op(width === 32 ? `i32.${op}` : `i64.${op}`);
  if (width === 32) e.w.op('i64.extend_i32_u');
  e.w.set(e.i64[RESULT]);
}

function rotate(e: Emitter, width: Width, direction: 'left' | 'right'): void {
  const { w } = e;
  if (width >= 32) {
    const prefix = width === 64 ? 'i64' : 'i32';
    valueAndCount(e, width);
    w.op(`${prefix}.${direction === 'left' ? 'rotl' : 'rotr'}`);
    if (width === 32) w.op('i64.extend_i32_u');
    w.set(e.i64[RESULT]);
    return;
  }
  // Fill 32 bits with copies of the value, then a 32-bit rotate is right for any count.
  w.get(e.i64[VALUE]);
  w.i64(width === 8 ? 0x0101_0101n : 0x0001_0001n);
  w.op('i64.mul');
  w.op('i32.wrap_i64');
  w.get(e.i64[COUNT]);
  w.op('i32.wrap_i64');
  w.op(direction === 'left' ? 'i32.rotl' : 'i32.rotr');
  w.op('i64.extend_i32_u');
  w.set(e.i64[RESULT]);
}

function throughCarry(e: Emitter, width: Width, name: string): void {
  e.w.i32(width);
  e.w.get(e.i64[VALUE]);
  e.w.get(e.i64[COUNT]);
  e.w.op('i32.wrap_i64');
  e.call(name);
  e.w.set(e.i64[RESULT]);
}

function maskCount(e: Emitter, width: Width): void {
  e.w.i64(width === 64 ? 63n : 31n);
  e.w.op('i64.and');
}

type Operation = (e: Emitter, width: Width) => void;

/** By an immediate, which the decoder has masked and found not 0. */
function defineImmediate(name: string, width: Width, operate: Operation): void {
  defineUop(name, (e) => {
    e.reg('a', width);
    e.w.set(e.i64[VALUE]);
    e.imm();
    e.w.set(e.i64[COUNT]);
    operate(e, width);
    e.setReg('a', width, () => e.w.get(e.i64[RESULT]));
  });
}

/** By CL. */
function defineCounted(name: string, width: Width, operate: Operation): void {
  defineUop(name, (e) => {
    e.reg('a', width);
    e.w.tee(e.i64[VALUE]);
    e.w.set(e.i64[RESULT]);
    e.fixed(RCX, 8);
    maskCount(e, width);
    e.w.set(e.i64[COUNT]);
    const isNotZero = (): void => {
      e.w.get(e.i64[COUNT]);
      e.w.i64(0);
      e.w.op('i64.ne');
    };
    e.flags.conditionally(isNotZero, () => operate(e, width));
    e.setReg('a', width, () => e.w.get(e.i64[RESULT]));
  });
}

for (const width of WIDTHS) {
  for (const [name, shift] of Object.entries(SHIFTS)) {
    const byOne: Operation = (e) => shiftWithOverflow(e, width, shift);
    defineImmediate(`${name}${width}.ri`, width, (e) => shiftByOne(e, width, shift));
    defineImmediate(`${name}${width}.rn`, width, (e) => shiftWithoutOverflow(e, width, shift));
    defineCounted(`${name}${width}.rc`, width, byOne);
  }
  for (const [name, core] of [
    ['rcl', 'rotateCarryLeft'],
    ['rcr', 'rotateCarryRight'],
  ] as const) {
    defineImmediate(`${name}${width}.ri`, width, (e) => throughCarry(e, width, core));
    defineCounted(`${name}${width}.rc`, width, (e) => throughCarry(e, width, core));
  }
}

for (const width of WORD_WIDTHS) {
  for (const [name, left] of [
    ['shld', 1],
    ['shrd', 0],
  ] as const) {
    for (const [form, count] of [
      ['ri', (e: Emitter) => e.imm()],
      ['rc', (e: Emitter) => e.fixed(RCX, 8)],
    ] as const) {
      defineUop(`${name}${width}.${form}`, (e) =>
        e.setReg('a', width, () => {
          e.w.i32(left);
          e.w.i32(width);
          e.reg('a', width);
          e.reg('b', width);
          count(e);
          maskCount(e, width);
          e.w.op('i32.wrap_i64');
          e.call('shiftDouble');
        }),
      );
    }
  }
}
