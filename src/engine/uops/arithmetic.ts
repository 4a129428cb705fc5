/** Two-operand integer arithmetic, INC, DEC, NEG, NOT, and their read-modify-write forms. */
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';

import { loadAt, loadOperand, storeAt, truncate, WIDTHS } from './operands.ts';

/** Locals: a and b are the zero-extended operands, r the result. */
const A = 0;
const B = 1;
const R = 2;

interface Operation {
  readonly name: string;
  /** False for CMP and TEST. */
  readonly writes: boolean;
  /** Pushes the result from locals A and B; what is above its width does not matter. */
  compute(e: Emitter, width: Width): void;
  flags(e: Emitter, width: Width): void;
}

type Binary = 'add' | 'sub' | 'and' | 'or' | 'xor';

/** Of 32 bits as i32, whose upper half the processor clears by itself. */
function binary(op: Binary): (e: Emitter, width: Width) => void {
  return (e, width) => {
    for (const operand of [A, B]) {
      e.w.get(e.i64[operand]);
      if (width === 32) e.w.op('i32.wrap_i64');
    }
    e.w.op(width === 32 ? `i32.${op}` : `i64.${op}`);
    if (width === 32) e.w.op('i64.extend_i32_u');
  };
}

/** With the carry that leaves the width. */
function wideBinary(op: Binary, e: Emitter): void {
  e.w.get(e.i64[A]);
  e.w.get(e.i64[B]);
  e.w.op(`i64.${op}`);
}
const addFlags = (e: Emitter, width: Width): void => e.flags.add(width, e.i64[A], e.i64[B], e.i64[R]);
const subFlags = (e: Emitter, width: Width): void => e.flags.sub(width, e.i64[A], e.i64[B], e.i64[R]);
const compareFlags = (e: Emitter, width: Width): void => e.flags.compare(width, e.i64[A], e.i64[B], e.i64[R]);
const adcFlags = (e: Emitter, width: Width): void => e.flags.add(width, e.i64[A], e.i64[B], e.i64[R], true);
const sbbFlags = (e: Emitter, width: Width): void => e.flags.sub(width, e.i64[A], e.i64[B], e.i64[R], true);
const logicFlags = (e: Emitter, width: Width): void => e.flags.logic(width, e.i64[R]);

const OPERATIONS: readonly Operation[] = [
  { name: 'add', writes: true, compute: binary('add'), flags: addFlags },
  { name: 'or', writes: true, compute: binary('or'), flags: logicFlags },
  {
    name: 'adc',
    writes: true,
    compute(e) {
      wideBinary('add', e);
      e.flags.pushCarry();
      e.w.op('i64.add');
    },
    flags: adcFlags,
  },
  {
    name: 'sbb',
    writes: true,
    compute(e) {
      wideBinary('sub', e);
      e.flags.pushCarry();
      e.w.op('i64.sub');
    },
    flags: sbbFlags,
  },
  { name: 'and', writes: true, compute: binary('and'), flags: logicFlags },
  { name: 'sub', writes: true, compute: binary('sub'), flags: subFlags },
  { name: 'xor', writes: true, compute: binary('xor'), flags: logicFlags },
  { name: 'cmp', writes: false, compute: binary('sub'), flags: compareFlags },
  { name: 'test', writes: false, compute: binary('and'), flags: logicFlags },
];

function operate(e: Emitter, op: Operation, width: Width, a: Push, b: Push): void {
  a();
  e.w.set(e.i64[A]);
  b();
  e.w.set(e.i64[B]);
  op.compute(e, width);
  e.w.set(e.i64[R]);
}

/** Immediates are stored sign-extended; flags want them zero-extended to the width. */
function immediate(e: Emitter, width: Width): void {
  e.imm();
  truncate(e, width);
}

function registerForm(op: Operation, width: Width, b: (e: Emitter) => void): (e: Emitter) => void {
  return (e) => {
    operate(
      e,
      op,
      width,
      () => e.reg('a', width),
      () => b(e),
    );
    if (op.writes) e.setReg('a', width, () => e.w.get(e.i64[R]));
    op.flags(e, width);
  };
}

function memoryForm(op: Operation, width: Width, b: (e: Emitter) => void): (e: Emitter) => void {
  return (e) => {
    const pointer = e.i32[0];
    e.address();
    if (op.writes) e.writePointer(width / 8, true);
    else e.readPointer(width / 8);
    e.w.set(pointer);
    const load = (): void => {
      e.w.get(pointer);
      loadAt(e, width);
    };
    operate(e, op, width, load, () => b(e));
    if (op.writes) {
      e.w.get(pointer);
      e.w.get(e.i64[R]);
      storeAt(e, width);
    }
    op.flags(e, width);
    if (op.writes) e.commit();
  };
}

for (const width of WIDTHS) {
  for (const op of OPERATIONS) {
    const name = `${op.name}${width}`;
    defineUop(
      `${name}.rr`,
      registerForm(op, width, (e) => e.reg('b', width)),
    );
    defineUop(
      `${name}.ri`,
      registerForm(op, width, (e) => immediate(e, width)),
    );
    defineUop(`${name}.rm`, (e) => {
      loadOperand(e, width);
      e.w.set(e.i64[B]);
      registerForm(op, width, () => e.w.get(e.i64[B]))(e);
    });
    defineUop(
      `${name}.mr`,
      memoryForm(op, width, (e) => e.reg('b', width)),
    );
    defineUop(
      `${name}.mi`,
      memoryForm(op, width, (e) => immediate(e, width)),
    );
  }
  defineUnary(width);
}

function defineUnary(width: Width): void {
  for (const [name, add] of [
    ['inc', true],
    ['dec', false],
  ] as const) {
    const step: Operation = {
      name,
      writes: true,
      compute: binary(add ? 'add' : 'sub'),
      flags: (e) => e.flags.step(width, add, e.i64[A], e.i64[B], e.i64[R]),
    };
    defineUop(
      `${name}${width}.r`,
      registerForm(step, width, (e) => e.w.i64(1)),
    );
    defineUop(
      `${name}${width}.m`,
      memoryForm(step, width, (e) => e.w.i64(1)),
    );
  }
  defineUop(`neg${width}.r`, (e) => {
    operate(
      e,
      OPERATIONS[5],
      width,
      () => e.w.i64(0),
      () => e.reg('a', width),
    );
    e.setReg('a', width, () => e.w.get(e.i64[R]));
    subFlags(e, width);
  });
  defineUop(`not${width}.r`, (e) =>
    e.setReg('a', width, () => {
      e.reg('a', width);
      e.w.i64(-1);
      e.w.op('i64.xor');
    }),
  );
  // XADD: the sum to A, the old A to B (A and B may be the same register: the sum wins).
  defineUop(`xadd${width}.rr`, (e) => {
    operate(
      e,
      OPERATIONS[0],
      width,
      () => e.reg('a', width),
      () => e.reg('b', width),
    );
    e.setReg('b', width, () => e.w.get(e.i64[A]));
    e.setReg('a', width, () => e.w.get(e.i64[R]));
    addFlags(e, width);
  });
}
