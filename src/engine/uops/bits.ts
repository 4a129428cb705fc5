/** Bit tests and scans, POPCNT, flag instructions, multiplication and division, CMPXCHG, CRC32, BCD. */
import { STATE } from '../layout.ts';
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';
import { signExtend } from './flags.ts';
import { pushProductHigh } from './wide-product.ts';
import { RAX, RDX, WIDTHS, WORD_WIDTHS } from './operands.ts';

/** BT, BTS, BTR, BTC on a register; the bit number is taken modulo the width. */
const BIT_OPERATIONS: Readonly<Record<string, string | undefined>> = {
  bt: undefined,
  bts: 'i64.or',
  btr: 'i64.and',
  btc: 'i64.xor',
};
for (const width of WORD_WIDTHS) {
  for (const [name, change] of Object.entries(BIT_OPERATIONS)) {
    for (const [form, index] of [
      ['rr', (e: Emitter) => e.reg('b', width)],
      ['ri', (e: Emitter) => e.imm()],
    ] as const) {
      defineUop(`${name}${width}.${form}`, (e) => bitOperation(e, width, change, () => index(e)));
    }
  }
}

function bitOperation(e: Emitter, width: Width, change: string | undefined, index: Push): void {
  const { w } = e;
  const [value, place, mask] = e.i64;
  e.reg('a', width);
  w.set(value);
  index();
  w.i64(BigInt(width - 1));
  w.op('i64.and');
  w.set(place);
  if (change !== undefined) {
    w.i64(1n);
    w.get(place);
    w.op('i64.shl');
    w.set(mask);
    e.setReg('a', width, () => {
      w.get(value);
      w.get(mask);
      if (change === 'i64.and') {
        w.i64(-1n);
        w.op('i64.xor');
      }
      w.op(change);
    });
  }
  w.get(value);
  w.get(place);
  w.op('i64.shr_u');
  w.set(place);
  e.flags.setCarry(place, 0);
}

for (const width of WORD_WIDTHS) {
  // A zero source sets ZF and leaves the destination alone, as processors do.
  for (const [name, scan] of [
    ['bsf', (e: Emitter) => e.w.op('i64.ctz')],
    [
      'bsr',
      (e: Emitter) => {
        e.w.op('i64.clz');
        e.w.i64(63n);
        e.w.op('i64.xor');
      },
    ],
  ] as const) {
    defineUop(`${name}${width}`, (e) => {
      const source = e.i64[0];
      e.reg('b', width);
      e.w.tee(source);
      e.w.i64(0n);
      e.w.op('i64.ne');
      e.w.if();
      e.setReg('a', width, () => {
        e.w.get(source);
        scan(e);
      });
      e.w.end();
      e.flags.logic(width, source);
    });
  }
  defineUop(`popcnt${width}`, (e) => {
    const count = e.i64[0];
    e.reg('b', width);
    e.w.tee(e.i64[1]);
    e.w.op('i64.popcnt');
    e.w.set(count);
    e.setReg('a', width, () => e.w.get(count));
    // ZF only: PF and the others are clear. A count is never negative; its parity must not show.
    e.flags.set(
      () => {
        e.w.get(e.i64[1]);
        e.w.i64(0n);
        e.w.op('i64.ne');
        e.w.op('i64.extend_i32_u');
      },
      () => {
        e.w.get(e.i64[1]);
        e.w.op('i64.eqz');
        e.w.op('i64.extend_i32_u');
      },
    );
  });
}

for (const width of WIDTHS) {
  defineUop(`imul${width}.one`, (e) => multiplyWide(e, width, true));
  defineUop(`mul${width}.one`, (e) => multiplyWide(e, width, false));
  defineUop(`div${width}`, (e) => {
    e.w.i32(width);
    e.reg('b', width);
    e.call('divideUnsigned');
    e.faultIf();
  });
  defineUop(`idiv${width}`, (e) => {
    e.w.i32(width);
    signExtend(e, width, () => e.reg('b', width));
    e.call('divideSigned');
    e.faultIf();
  });
  defineUop(`cmpxchg${width}`, (e) => compareExchange(e, width));
}

/** MUL and IMUL with one operand: RDX:RAX (AX for bytes) = accumulator * B. CF = OF = the upper half matters. */
function multiplyWide(e: Emitter, width: Width, signed: boolean): void {
  const { w } = e;
  const [a, b, low, high] = e.i64;
  const operand = (value: Push): void => (signed ? signExtend(e, width, value) : value());
  operand(() => e.fixed(RAX, width));
  w.set(a);
  operand(() => e.reg('b', width));
  w.set(b);
  w.get(a);
  w.get(b);
  w.op('i64.mul');
  w.set(low);
  if (width === 64) {
    pushProductHigh(e, a, b, signed);
  } else {
    w.get(low);
    w.i64(BigInt(width));
    w.op(signed ? 'i64.shr_s' : 'i64.shr_u');
  }
  w.set(high);
  if (width === 8) {
    e.setFixed(RAX, 16, () => w.get(low));
  } else {
    e.setFixed(RAX, width, () => w.get(low));
    e.setFixed(RDX, width, () => w.get(high));
  }
  multiplyFlags(e, width, low, () => {
    w.get(high);
    if (signed) {
      signExtend(e, width, () => w.get(low));
      w.i64(63n);
      w.op('i64.shr_s');
    } else w.i64(0n);
    w.op('i64.ne');
  });
}

/** CF = OF = `lost` (i32); the others, undefined, follow the low half of the product. */
function multiplyFlags(e: Emitter, width: Width, low: number, lost: Push): void {
  e.flags.set(
    () => signExtend(e, width, () => e.w.get(low)),
    () => {
      lost();
      e.w.op('i64.extend_i32_u');
      e.w.i64(63n);
      e.w.op('i64.shl');
    },
  );
}

for (const width of WORD_WIDTHS) {
  // Two and three-operand IMUL: A = B * (A or IMM).
  for (const [form, other] of [
    ['rr', (e: Emitter) => e.reg('a', width)],
    ['rri', (e: Emitter) => e.imm()],
  ] as const) {
    defineUop(`imul${width}.${form}`, (e) => multiplyTruncating(e, width, () => other(e)));
  }
}

function multiplyTruncating(e: Emitter, width: Width, other: Push): void {
  const { w } = e;
  const [a, b, low] = e.i64;
  signExtend(e, width, other);
  w.set(a);
  signExtend(e, width, () => e.reg('b', width));
  w.set(b);
  w.get(a);
  w.get(b);
  w.op('i64.mul');
  w.set(low);
  e.setReg('a', width, () => w.get(low));
  e.flags.product(width, a, b);
}

/** CMPXCHG with destination A, source B; the accumulator gets the old destination when they differ. */
function compareExchange(e: Emitter, width: Width): void {
  const { w } = e;
  const [accumulator, destination, difference] = e.i64;
  e.fixed(RAX, width);
  w.set(accumulator);
  e.reg('a', width);
  w.set(destination);
  w.get(accumulator);
  w.get(destination);
  w.op('i64.sub');
  w.set(difference);
  w.get(accumulator);
  w.get(destination);
  w.op('i64.eq');
  w.if();
  e.setReg('a', width, () => e.reg('b', width));
  w.else();
  e.setFixed(RAX, width, () => w.get(destination));
  w.end();
  e.flags.compare(width, accumulator, destination, difference);
}

for (const width of WIDTHS) {
  defineUop(`crc32.${width}`, (e) =>
    e.setReg('a', 32, () => {
      e.reg('a', 32);
      e.w.op('i32.wrap_i64');
      e.reg('b', width);
      e.w.i32(width / 8);
      e.call('crc32c');
      e.w.op('i64.extend_i32_u');
    }),
  );
}

/** CF operations. */
defineUop('clc', (e) => {
  e.w.i64(0n);
  e.w.set(e.i64[0]);
  e.flags.setCarry(e.i64[0], 0);
});
defineUop('stc', (e) => {
  e.w.i64(1n);
  e.w.set(e.i64[0]);
  e.flags.setCarry(e.i64[0], 0);
});
defineUop('cmc', (e) =>
  e.setState(STATE.FLAG_CARRY, 'i64', () => {
    e.state(STATE.FLAG_CARRY, 'i64');
    e.w.i64(3n << 62n);
    e.w.op('i64.xor');
  }),
);

const DIRECTION = 0x400n;
defineUop('cld', (e) =>
  e.setState(STATE.RFLAGS, 'i64', () => {
    e.state(STATE.RFLAGS, 'i64');
    e.w.i64(~DIRECTION);
    e.w.op('i64.and');
  }),
);
defineUop('std', (e) =>
  e.setState(STATE.RFLAGS, 'i64', () => {
    e.state(STATE.RFLAGS, 'i64');
    e.w.i64(DIRECTION);
    e.w.op('i64.or');
  }),
);

const AH = RAX + 1;
defineUop('lahf', (e) =>
  e.setFixed(AH, 8, () => {
    e.call('getFlags');
  }),
);
/** SAHF sets SF ZF AF PF CF and keeps OF. */
defineUop('sahf', (e) => {
  e.call('getFlags');
  e.w.i64(0x800n);
  e.w.op('i64.and');
  e.fixed(AH, 8);
  e.w.i64(0xd5n);
  e.w.op('i64.and');
  e.w.op('i64.or');
  e.call('setArithmeticFlags');
});

for (const [name, core, argument] of [
  ['daa', 'decimalAdjust', 0],
  ['das', 'decimalAdjust', 1],
  ['aaa', 'asciiAdjust', 0],
  ['aas', 'asciiAdjust', 1],
] as const) {
  defineUop(name, (e) => {
    e.w.i32(argument);
    e.call(core);
  });
}
defineUop('aam', (e) => {
  e.imm();
  e.w.op('i32.wrap_i64');
  e.call('asciiAdjustMultiply');
  e.faultIf();
});
defineUop('aad', (e) => {
  e.imm();
  e.w.op('i32.wrap_i64');
  e.call('asciiAdjustDivide');
});
/** SALC: AL = CF ? FF : 0. */
defineUop('salc', (e) =>
  e.setFixed(RAX, 8, () => {
    e.state(STATE.FLAG_CARRY, 'i64');
    e.w.i64(63n);
    e.w.op('i64.shr_s');
  }),
);

/** ARPL: raises A's RPL to B's and sets ZF if it was lower, else clears ZF. */
defineUop('arpl', (e) => {
  const { w } = e;
  const rpl = (field: 'a' | 'b'): void => {
    e.reg(field, 16);
    w.i64(3n);
    w.op('i64.and');
  };
  const lower = e.i32[0];
  rpl('a');
  rpl('b');
  w.op('i64.lt_u');
  w.set(lower);
  e.setReg('a', 16, () => {
    e.reg('a', 16);
    w.i64(~3n);
    w.op('i64.and');
    rpl('b');
    w.op('i64.or');
    e.reg('a', 16);
    w.get(lower);
    w.op('select');
  });
  e.call('getFlags');
  w.i64(~0x40n);
  w.op('i64.and');
  w.get(lower);
  w.op('i64.extend_i32_u');
  w.i64(6n);
  w.op('i64.shl');
  w.op('i64.or');
  e.call('setArithmeticFlags');
});
