/** Jumps, calls, returns, loops and the stack. */
import { STATE } from '../layout.ts';
import { defineUop } from './define.ts';
import type { Emitter, Push, Width } from './emitter.ts';

import { loadAt, RBP, RCX, RSP, storeAt, truncate, WORD_WIDTHS } from './operands.ts';

/** Op 0 must stay the first: an invalidated block's first micro-op is overwritten with it. */
defineUop('relookup', (e) => e.relookup());
/** Replaces the first micro-op of a block that has been compiled. */
defineUop('region', (e) => e.enterRegion());
/** Ends a block: goes on at the next instruction, which is RIP = page + IMM. */
defineUop('next', (e) => e.jump());
/** The same after instructions that can make an interrupt possible: by a look-up, which takes it. */
defineUop('next.check', (e) => e.leave());
/** The same behind the instruction that STI or MOV SS shields from interrupts. */
defineUop('next.unshadow', (e) => {
  e.setState(STATE.INTR_SHADOW, 'i32', () => e.w.i32(0));
  e.leave();
});
defineUop('nop', () => {});
defineUop('jmp', (e) => e.jump());
for (let code = 0; code < 16; code++) {
  defineUop(`jcc${code}`, (e) => {
    e.flags.pushCondition(code);
    e.jumpIf();
  });
}
/** A near transfer to an address that is not canonical faults itself, before anything changes. */
function checkTarget(e: Emitter, target: number): void {
  e.w.get(target);
  e.w.i64(16);
  e.w.op('i64.shl');
  e.w.i64(16);
  e.w.op('i64.shr_s');
  e.w.get(target);
  e.w.op('i64.ne');
  e.w.if(undefined, 'unlikely');
  e.fault(GENERAL_PROTECTION, 0);
  e.w.end();
}

for (const width of WORD_WIDTHS) {
  defineUop(`jmp${width}.r`, (e) => {
    const target = e.i64[0];
    e.reg('b', width);
    e.w.set(target);
    if (width === 64) checkTarget(e, target);
    e.w.get(target);
    e.jumpIndirect();
  });
  /** JCXZ, JECXZ, JRCXZ and LOOP, LOOPE, LOOPNE by the width of the counter. */
  defineUop(`jcxz${width}`, (e) => {
    e.fixed(RCX, width);
    e.w.op('i64.eqz');
    e.jumpIf();
  });
  for (const [name, condition] of [
    ['loop', undefined],
    ['loope', 4],
    ['loopne', 5],
  ] as const) {
    defineUop(`${name}${width}`, (e) => loop(e, width, condition));
  }
}

function loop(e: Emitter, width: Width, condition: number | undefined): void {
  const count = e.i64[0];
  e.fixed(RCX, width);
  e.w.i64(1);
  e.w.op('i64.sub');
  truncate(e, width);
  e.w.set(count);
  e.setFixed(RCX, width, () => e.w.get(count));
  e.w.get(count);
  e.w.i64(0);
  e.w.op('i64.ne');
  if (condition !== undefined) {
    e.flags.pushCondition(condition);
    e.w.op('i32.and');
  }
  e.jumpIf();
}

/** How wide the stack pointer is: 64 in 64-bit mode (flat), else by SS.B, with SS's base. */
const STACKS: readonly Width[] = [64, 32, 16];
const GENERAL_PROTECTION = 13;
const SS_BASE = STATE.SEG_BASE + 2 * 8;

/** Pushes the linear address of an offset from a stack register. */
function stackAddress(e: Emitter, stack: Width, register: number, offset: number): void {
  e.fixed(register, stack);
  if (offset !== 0) {
    e.w.i64(offset);
    e.w.op('i64.add');
  }
  if (stack === 64) return;
  truncate(e, stack);
  e.state(SS_BASE, 'i64');
  e.w.op('i64.add');
  truncate(e, 32);
}

function moveStack(e: Emitter, stack: Width, by: Push): void {
  e.setFixed(RSP, stack, () => {
    e.fixed(RSP, stack);
    by();
    e.w.op('i64.add');
  });
}

/** Stores `value` below the stack top and moves RSP; `leave` as in `Emitter.store`. */
function push(e: Emitter, stack: Width, width: Width, value: Push, leave: boolean): void {
  const bytes = width / 8;
  stackAddress(e, stack, RSP, -bytes);
  e.store(width, value, () => moveStack(e, stack, () => e.w.i64(-bytes)), leave);
}

/** Pushes the value at the stack's top. */
function top(e: Emitter, stack: Width, width: Width): void {
  stackAddress(e, stack, RSP, 0);
  e.readPointer(width / 8);
  loadAt(e, width);
}

for (const stack of STACKS) {
  for (const width of WORD_WIDTHS) {
    if ((stack === 64) !== (width === 64) && !(stack === 64 && width === 16)) continue;
    const suffix = `${width}.${stack}`;
    const bytes = width / 8;
    defineUop(`push${suffix}.r`, (e) => {
      push(e, stack, width, () => e.reg('b', width), true);
    });
    // As one of several stores of an instruction: the block is not left between them.
    defineUop(`push${suffix}.part`, (e) => {
      push(e, stack, width, () => e.reg('b', width), false);
    });
    defineUop(`push${suffix}.i`, (e) => {
      push(e, stack, width, () => e.imm(), true);
    });
    defineUop(`pop${suffix}.r`, (e) => {
      top(e, stack, width);
      e.w.set(e.i64[0]);
      moveStack(e, stack, () => e.w.i64(bytes));
      e.setReg('a', width, () => e.w.get(e.i64[0]));
    });
    // The address of the memory operand is computed with the moved RSP; the decoder has put that in.
    defineUop(`pop${suffix}.m`, (e) => {
      top(e, stack, width);
      e.w.set(e.i64[0]);
      e.address();
      e.writePointer(bytes, false);
      e.w.get(e.i64[0]);
      storeAt(e, width);
      moveStack(e, stack, () => e.w.i64(bytes));
      e.commit();
    });
    defineUop(`call${suffix}`, (e) => {
      push(e, stack, width, () => e.nextRip(), false);
      e.jump();
    });
    defineUop(`call${suffix}.r`, (e) => {
      const target = e.i64[0];
      e.reg('b', width);
      e.w.set(target);
      if (width === 64) checkTarget(e, target);
      push(e, stack, width, () => e.nextRip(), false);
      e.w.get(target);
      e.jumpIndirect();
    });
    // IMM: bytes of parameters to drop.
    defineUop(`ret${suffix}`, (e) => {
      top(e, stack, width);
      e.w.set(e.i64[0]);
      if (width === 64) checkTarget(e, e.i64[0]);
      moveStack(e, stack, () => {
        e.imm();
        e.w.i64(bytes);
        e.w.op('i64.add');
      });
      e.w.get(e.i64[0]);
      e.jumpBack();
    });
    defineUop(`leave${suffix}`, (e) => {
      stackAddress(e, stack, RBP, 0);
      e.readPointer(bytes);
      loadAt(e, width);
      e.w.set(e.i64[0]);
      e.setFixed(RSP, stack, () => {
        e.fixed(RBP, stack);
        e.w.i64(bytes);
        e.w.op('i64.add');
      });
      e.setFixed(RBP, width, () => e.w.get(e.i64[0]));
    });
    defineUop(`popf${suffix}`, (e) => {
      top(e, stack, width);
      e.w.set(e.i64[0]);
      e.systemCall(
        'popf',
        () => {
          e.w.get(e.i64[0]);
          e.w.i32(bytes);
          e.nextRip();
        },
        () => moveStack(e, stack, () => e.w.i64(bytes)),
      );
    });
    // IMM: segment number.
    defineUop(`popseg${suffix}`, (e) => {
      top(e, stack, width);
      e.w.set(e.i64[0]);
      e.systemCall(
        'loadSegment',
        () => {
          e.imm();
          e.w.op('i32.wrap_i64');
          e.w.get(e.i64[0]);
          e.w.op('i32.wrap_i64');
          e.w.i32(0xffff);
          e.w.op('i32.and');
          e.nextRip();
        },
        () => moveStack(e, stack, () => e.w.i64(bytes)),
      );
    });
  }
  // The far end of what PUSHA writes and POPA reads, so that these cannot fault half way.
  for (const bytes of [16, 32]) {
    defineUop(`probepush${bytes}.${stack}`, (e) => {
      stackAddress(e, stack, RSP, -bytes);
      e.writePointer(1, true);
      e.w.op('drop');
    });
    defineUop(`probepop${bytes}.${stack}`, (e) => {
      stackAddress(e, stack, RSP, bytes - 1);
      e.readPointer(1);
      e.w.op('drop');
    });
  }
}
