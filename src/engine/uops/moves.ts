/** Moves, extensions, address computation, conditional moves, exchanges. */
import { defineUop } from './define.ts';
import type { Emitter, Width } from './emitter.ts';
import { signExtend } from './flags.ts';
import {
  loadAt,
  loadOperand,
  RAX,
  RDX,
  storeAt,
  storeOperand,
  truncate,
  WIDTHS,
  WORD_WIDTHS,
} from './operands.ts';

for (const width of WIDTHS) {
  defineUop(`mov${width}.rr`, (e) => e.setReg('a', width, () => e.reg('b', width)));
  defineUop(`mov${width}.ri`, (e) => e.setReg('a', width, () => e.imm()));
  defineUop(`mov${width}.rm`, (e) => {
    e.setReg('a', width, () => loadOperand(e, width));
  });
  defineUop(`mov${width}.mr`, (e) => storeOperand(e, width, () => e.reg('b', width)));
  defineUop(`mov${width}.mi`, (e) => storeOperand(e, width, () => e.imm()));
  // Checks that the operand is writable.
  defineUop(`probe${width}`, (e) => {
    e.address();
    e.writePointer(width / 8, false);
    e.w.op('drop');
  });
  // First half of a read-modify-write: checks that the operand is writable, then loads it.
  defineUop(`rmw${width}.rm`, (e) => {
    e.address();
    e.writePointer(width / 8, true);
    loadAt(e, width);
    e.w.set(e.i64[0]);
    e.setReg('a', width, () => e.w.get(e.i64[0]));
  });
  defineUop(`xchg${width}.rr`, (e) => {
    e.reg('a', width);
    e.w.set(e.i64[0]);
    e.setReg('a', width, () => e.reg('b', width));
    e.setReg('b', width, () => e.w.get(e.i64[0]));
  });
  defineUop(`xchg${width}.mr`, (e) => {
    const pointer = e.i32[0];
    e.address();
    e.writePointer(width / 8, true);
    e.w.tee(pointer);
    loadAt(e, width);
    e.w.set(e.i64[0]);
    e.w.get(pointer);
    e.reg('b', width);
    storeAt(e, width);
    e.setReg('b', width, () => e.w.get(e.i64[0]));
    e.commit();
  });
}

const EXTENSIONS: readonly (readonly [Width, Width])[] = [
  [16, 8],
  [32, 8],
  [64, 8],
  [32, 16],
  [64, 16],
  [64, 32],
  [16, 16],
];
for (const [to, from] of EXTENSIONS) {
  defineUop(`movsx${to}.${from}.rr`, (e) =>
    e.setReg('a', to, () => signExtend(e, from, () => e.reg('b', from))),
  );
  defineUop(`movsx${to}.${from}.rm`, (e) => {
    e.setReg('a', to, () => signExtend(e, from, () => loadOperand(e, from)));
  });
  defineUop(`movzx${to}.${from}.rr`, (e) => e.setReg('a', to, () => e.reg('b', from)));
  defineUop(`movzx${to}.${from}.rm`, (e) => {
    e.setReg('a', to, () => loadOperand(e, from));
  });
}

for (const width of WORD_WIDTHS) {
  defineUop(`lea${width}`, (e) => e.setReg('a', width, () => e.address()));
  for (let code = 0; code < 16; code++) {
    // A 32-bit CMOV clears the upper half even when the condition is false.
    defineUop(`cmov${code}.${width}`, (e) =>
      e.setReg('a', width, () => {
        e.reg('b', width);
        e.reg('a', width);
        e.flags.pushCondition(code);
        e.w.op('select');
      }),
    );
  }
}
for (let code = 0; code < 16; code++) {
  defineUop(`set${code}.r`, (e) =>
    e.setReg('a', 8, () => {
      e.flags.pushCondition(code);
      e.w.op('i64.extend_i32_u');
    }),
  );
}

/**
 * Linear addresses that are more than base + index * scale + displacement go through TEMP-like operand A
 * first; B is the state offset of a segment base.
 */
function defineAddress(name: string, width: Width, linear: Width): void {
  defineUop(name, (e) =>
    e.setReg('a', 64, () => {
      e.address();
      truncate(e, width);
      e.reg('b', 64);
      e.w.op('i64.add');
      truncate(e, linear);
    }),
  );
}
defineAddress('ea64', 64, 64);
defineAddress('ea32.64', 32, 64);
defineAddress('ea32', 32, 32);
defineAddress('ea16', 16, 32);

/** Address of the operand-sized unit that a bit offset in register B falls into, relative to the address in A. */
for (const width of WORD_WIDTHS) {
  defineUop(`bitaddress${width}`, (e) =>
    e.setReg('a', 64, () => {
      const unit = BigInt(width / 8);
      e.reg('a', 64);
      signExtend(e, width, () => e.reg('b', width));
      e.w.i64(width === 64 ? 6n : width === 32 ? 5n : 4n);
      e.w.op('i64.shr_s');
      e.w.i64(unit);
      e.w.op('i64.mul');
      e.w.op('i64.add');
    }),
  );
}

/** CBW, CWDE, CDQE and CWD, CDQ, CQO. */
for (const width of WORD_WIDTHS) {
  const half = (width / 2) as Width;
  defineUop(`extendA${width}`, (e) =>
    e.setFixed(RAX, width, () => signExtend(e, half, () => e.fixed(RAX, half))),
  );
  defineUop(`extendD${width}`, (e) =>
    e.setFixed(RDX, width, () => {
      signExtend(e, width, () => e.fixed(RAX, width));
      e.w.i64(63n);
      e.w.op('i64.shr_s');
    }),
  );
}

for (const width of [32, 64] as const) {
  defineUop(`bswap${width}`, (e) => e.setReg('a', width, () => byteSwap(e, width)));
}

function byteSwap(e: Emitter, width: 32 | 64): void {
  const { w } = e;
  const value = e.i64[0];
  e.reg('a', width);
  if (width === 32) {
    w.i64(32n);
    w.op('i64.shl');
  }
  w.set(value);
  const mix = (mask: bigint, shift: bigint): void => {
    w.get(value);
    w.i64(mask);
    w.op('i64.and');
    w.i64(shift);
    w.op('i64.shl');
    w.get(value);
    w.i64(shift);
    w.op('i64.shr_u');
    w.i64(mask);
    w.op('i64.and');
    w.op('i64.or');
    w.set(value);
  };
  mix(0x00ff_00ff_00ff_00ffn, 8n);
  mix(0x0000_ffff_0000_ffffn, 16n);
  w.get(value);
  w.i64(32n);
  w.op('i64.rotl');
}
