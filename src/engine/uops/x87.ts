/** x87: every instruction is a call into the core runtime, with the operand's bytes by pointer. */
import { CPU, STATE } from '../layout.ts';
import { defineUop } from './define.ts';
import type { Emitter } from './emitter.ts';

/** Bit of the status word: an exception that is not masked is pending. */
const SUMMARY = 0x80;
const MATH_FAULT = 16;

const code = (e: Emitter): void => {
  e.imm();
  e.w.op('i32.wrap_i64');
};
/**
 * The address of the last FPU instruction that is not a control instruction is what FNSTENV and FXSAVE report.
 * The upper half of IMM is the instruction's page offset.
 */
function recordInstruction(e: Emitter): void {
  e.setState(STATE.FIP, 'i64', () => {
    e.fixed(STATE.PAGE, 64);
    e.imm();
    e.w.i64(32n);
    e.w.op('i64.shr_u');
    e.w.op('i64.add');
  });
}
/** #MF if an exception is pending, as FWAIT: comes before all else that the instruction does. */
function wait(e: Emitter): void {
  e.state(STATE.FSW, 'i32');
  e.w.i32(SUMMARY);
  e.w.op('i32.and');
  e.w.if();
  e.fault(MATH_FAULT, 0);
  e.w.end();
}

/** IMM = ((opcode & 7) << 6) | (modrm & 63). The core decides whether the instruction waits. */
defineUop('x87.register', (e) => {
  code(e);
  e.call('x87Register');
  e.faultIf();
  recordInstruction(e);
});
defineUop('x87.control', (e) => {
  code(e);
  e.call('x87Register');
  e.faultIf();
});
/** FLDCW, FNSTCW and FNSTSW; the latter two do not wait. */
defineUop('x87.loadcontrol', (e) => {
  const pointer = e.i32[0];
  wait(e);
  e.address();
  e.readPointer(2);
  e.w.set(pointer);
  code(e);
  e.w.get(pointer);
  e.call('x87MemoryRead');
  e.faultIf();
});
defineUop('x87.storecontrol', (e) => {
  const pointer = e.i32[0];
  e.address();
  e.writePointer(2, true);
  e.w.set(pointer);
  code(e);
  e.w.get(pointer);
  e.call('x87MemoryWrite');
  e.faultIf();
  e.commit();
});
/** IMM = ((opcode & 7) << 3) | modrm.reg; operand sizes in bytes. */
for (const size of [2, 4, 8, 10]) {
  defineUop(`x87.read${size}`, (e) => {
    const pointer = e.i32[0];
    wait(e);
    e.address();
    e.readPointer(size);
    e.w.set(pointer);
    recordInstruction(e);
    code(e);
    e.w.get(pointer);
    e.call('x87MemoryRead');
    e.faultIf();
  });
  defineUop(`x87.write${size}`, (e) => {
    const pointer = e.i32[0];
    wait(e);
    e.address();
    e.writePointer(size, true);
    e.w.set(pointer);
    recordInstruction(e);
    code(e);
    e.w.get(pointer);
    e.call('x87MemoryWrite');
    e.faultIf();
    e.commit();
  });
}
/** FLDENV, FNSTENV, FRSTOR, FNSAVE. IMM: bits 0–15 bytes, 16 32-bit layout, 17 with registers. */
const SCRATCH = CPU + STATE.SCRATCH;
const flag = (e: Emitter, bit: number): void => {
  code(e);
  e.w.i32(bit);
  e.w.op('i32.shr_u');
  e.w.i32(1);
  e.w.op('i32.and');
};
const length = (e: Emitter): void => {
  code(e);
  e.w.i32(0xffff);
  e.w.op('i32.and');
};
defineUop('x87.loadenv', (e) => {
  wait(e);
  e.address();
  e.w.i32(SCRATCH);
  length(e);
  e.call('readBlock');
  e.faultIf();
  e.w.i32(SCRATCH);
  flag(e, 16);
  flag(e, 17);
  e.call('x87LoadEnvironment');
  e.faultIf();
});
defineUop('x87.storeenv', (e) => {
  e.systemCall('x87SaveEnvironment', () => {
    e.address();
    length(e);
    flag(e, 16);
    flag(e, 17);
  });
});
defineUop('fwait', (e) => {
  e.call('x87Wait');
  e.faultIf();
});
