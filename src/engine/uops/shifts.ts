/** Shifts and rotates. Counts are masked here; a count of 0 leaves flags and (but for the 32-bit clear) the operand alone. */
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';
import { flagsRotate, flagsShift, signExtend } from './flags.ts';
import { RCX, WIDTHS, WORD_WIDTHS } from './operands.ts';

/** Locals: value, count, result (i64). */
const VALUE = 0;
const COUNT = 1;
const RESULT = 2;

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

type Shift = (e: Emitter, width: Width) => void;

/** Each computes RESULT from VALUE and COUNT (not 0) and sets the flags. */
const SHIFTS: Readonly<Record<string, Shift>> = {
  shl(e, width) {
    const { w } = e;
    w.get(e.i64[VALUE]);
    w.get(e.i64[COUNT]);
    w.op('i64.shl');
    w.set(e.i64[RESULT]);
    // CF is the last bit shifted out; with more than `width` places it is 0.
    const cf = (): void => {
      if (width === 64) {
        bit(e, e.i64[VALUE], () => {
          w.i64(64n);
          w.get(e.i64[COUNT]);
          w.op('i64.sub');
        });
      } else bit(e, e.i64[RESULT], constant(e, width));
    };
    flagsShift(e, width, cf, () => bit(e, e.i64[RESULT], constant(e, width - 1)), e.i64[RESULT]);
  },
  shr(e, width) {
    const { w } = e;
    w.get(e.i64[VALUE]);
    w.get(e.i64[COUNT]);
    w.op('i64.shr_u');
    w.set(e.i64[RESULT]);
    const cf = (): void => lastOut(e);
    flagsShift(
      e,
      width,
      cf,
      () => {
        cf();
        bit(e, e.i64[VALUE], constant(e, width - 1));
        w.op('i32.xor');
      },
      e.i64[RESULT],
    );
  },
  sar(e, width) {
    const { w } = e;
    signExtend(e, width, () => w.get(e.i64[VALUE]));
    w.set(e.i64[VALUE]);
    w.get(e.i64[VALUE]);
    w.get(e.i64[COUNT]);
    w.op('i64.shr_s');
    w.set(e.i64[RESULT]);
    const cf = (): void => {
      // an arithmetic shift: beyond the width the sign keeps coming out
      w.get(e.i64[VALUE]);
      w.get(e.i64[COUNT]);
      w.i64(1n);
      w.op('i64.sub');
      w.op('i64.shr_s');
      w.op('i32.wrap_i64');
      w.i32(1);
      w.op('i32.and');
    };
    flagsShift(e, width, cf, cf, e.i64[RESULT]);
  },
  rol(e, width) {
    rotate(e, width, 'left');
    const low = (): void => bit(e, e.i64[RESULT], constant(e, 0));
    flagsRotate(e, low, () => bit(e, e.i64[RESULT], constant(e, width - 1)));
  },
  ror(e, width) {
    rotate(e, width, 'right');
    const high = (): void => bit(e, e.i64[RESULT], constant(e, width - 1));
    flagsRotate(e, high, () => bit(e, e.i64[RESULT], constant(e, width - 2)));
    // CF = MSB and OF = MSB ^ next bit, so CF ^ OF = the next bit.
  },
  rcl: (e, width) => throughCarry(e, width, 'rotateCarryLeft'),
  rcr: (e, width) => throughCarry(e, width, 'rotateCarryRight'),
};

/** Pushes bit COUNT - 1 of VALUE: the last bit that a right shift moves out. */
function lastOut(e: Emitter): void {
  bit(e, e.i64[VALUE], () => {
    e.w.get(e.i64[COUNT]);
    e.w.i64(1n);
    e.w.op('i64.sub');
  });
}

function rotate(e: Emitter, width: Width, direction: 'left' | 'right'): void {
  const { w } = e;
  if (width >= 32) {
    const prefix = width === 64 ? 'i64' : 'i32';
    for (const local of [VALUE, COUNT]) {
      w.get(e.i64[local]);
      if (width === 32) w.op('i32.wrap_i64');
    }
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

for (const [name, shift] of Object.entries(SHIFTS)) {
  for (const width of WIDTHS) {
    // By an immediate, which the decoder has masked and found not 0.
    defineUop(`${name}${width}.ri`, (e) => {
      e.reg('a', width);
      e.w.set(e.i64[VALUE]);
      e.imm();
      e.w.set(e.i64[COUNT]);
      shift(e, width);
      e.setReg('a', width, () => e.w.get(e.i64[RESULT]));
    });
    defineUop(`${name}${width}.rc`, (e) => {
      e.reg('a', width);
      e.w.tee(e.i64[VALUE]);
      e.w.set(e.i64[RESULT]);
      e.fixed(RCX, 8);
      maskCount(e, width);
      e.w.tee(e.i64[COUNT]);
      e.w.i64(0n);
      e.w.op('i64.ne');
      e.w.if();
      e.flags.conditionally(() => shift(e, width));
      e.w.end();
      e.setReg('a', width, () => e.w.get(e.i64[RESULT]));
    });
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
