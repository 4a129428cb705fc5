/** System instructions: calls into the core runtime. */
import { STATE } from '../layout.ts';
import { defineUop } from './define.ts';
import type { Emitter, Width } from './emitter.ts';
import { RAX, RDX } from './operands.ts';

/** Arguments of a core call, pushed in order. */
type Argument = (e: Emitter) => void;

const register =
  (field: 'a' | 'b', width: Width): Argument =>
  (e) =>
    e.reg(field, width);
const register32 =
  (field: 'a' | 'b', width: Width): Argument =>
  (e) => {
    e.reg(field, width);
    e.w.op('i32.wrap_i64');
  };
const next: Argument = (e) => e.nextRip();
const address: Argument = (e) => e.address();
/** Bits of IMM as i32. */
const immBits =
  (shift: number, bits: number): Argument =>
  (e) => {
    e.imm();
    if (shift > 0) {
      e.w.i64(BigInt(shift));
      e.w.op('i64.shr_u');
    }
    e.w.op('i32.wrap_i64');
    if (bits < 32) {
      e.w.i32((1 << bits) - 1);
      e.w.op('i32.and');
    }
  };

function system(name: string, core: string, ...args: readonly Argument[]): void {
  defineUop(name, (e) =>
    e.systemCall(core, () => {
      for (const argument of args) argument(e);
    }),
  );
}

/** A core call that yields a value and may fault: the value goes to register A. */
function systemValue(
  name: string,
  core: string,
  width: Width,
  wide: boolean,
  ...args: readonly Argument[]
): void {
  defineUop(name, (e) => {
    for (const argument of args) argument(e);
    e.call(core);
    if (!wide) e.w.op('i64.extend_i32_u');
    e.w.set(e.i64[0]);
    faultIfPending(e);
    e.setReg('a', width, () => e.w.get(e.i64[0]));
  });
}

function faultIfPending(e: Emitter): void {
  e.state(STATE.FAULT_VECTOR, 'i32');
  e.w.i32(0);
  e.w.op('i32.ge_s');
  e.faultIf();
}

// IMM = segment number; B = selector.
system('loadsegment', 'loadSegment', immBits(0, 8), register32('b', 16), next);
/** LDS, LES, LSS, LFS, LGS: offset in B's temporary is written to A when the selector (TEMP2) was loaded. */
for (const width of [16, 32, 64] as const) {
  defineUop(`loadfar${width}`, (e) =>
    e.systemCall(
      'loadSegment',
      () => {
        e.imm();
        e.w.op('i32.wrap_i64');
        e.state(STATE.TEMP2, 'i64');
        e.w.op('i32.wrap_i64');
        e.nextRip();
      },
      () => e.setReg('a', width, () => e.reg('b', width)),
    ),
  );
}
// Direct far transfers. IMM: bits 0–31 offset, 32–47 selector, 48–55 operand size in bytes.
const farTarget: readonly Argument[] = [
  immBits(32, 16),
  (e) => {
    e.imm();
    e.w.i64(0xffff_ffffn);
    e.w.op('i64.and');
  },
  immBits(48, 8),
  next,
];
system('farjmp', 'farJump', ...farTarget);
system('farcall', 'farCall', ...farTarget);
// Indirect ones: offset in A, selector in B, IMM = operand size.
system('farjmp.r', 'farJump', register32('b', 16), register('a', 64), immBits(0, 8), next);
system('farcall.r', 'farCall', register32('b', 16), register('a', 64), immBits(0, 8), next);
// IMM: bits 0–15 parameter bytes, 16–23 operand size.
system('farret', 'farReturn', immBits(16, 8), immBits(0, 16));
system('iret', 'iret', immBits(0, 8), next);
system('int', 'softwareInterrupt', immBits(0, 8), next);
system('into', 'into', next);
system('icebp', 'icebp', next);
system('syscall', 'syscall', next);
system('sysret', 'sysret', immBits(0, 1));
system('sysenter', 'sysenter');
system('sysexit', 'sysexit', immBits(0, 1));
system('hlt', 'hlt', next);
system('cli', 'cli');
defineUop('sti', (e) => {
  e.systemCall('sti', () => {});
  e.shieldNext();
});
system('stac', 'stac');
system('clac', 'clac');
system('clts', 'clts', next);
system('swapgs', 'swapgs');
system('wbinvd', 'wbinvd');
system('rdmsr', 'rdmsr');
system('wrmsr', 'wrmsr', next);
system('rdtsc', 'rdtsc');
system('rdtscp', 'rdtscp');
system('rdpmc', 'rdpmc');
system('cpuid', 'cpuid');
system('lmsw', 'lmsw', register('b', 64), next);
system('invlpg', 'invlpg', address, next);
system('invpcid', 'invpcid', register('a', 64), address, next);
system('lldt', 'lldt', register32('b', 16));
system('ltr', 'ltr', register32('b', 16));
system('verr', 'verr', register32('b', 16));
system('verw', 'verw', register32('b', 16));
for (const table of ['sgdt', 'sidt', 'lgdt', 'lidt']) system(table, table, address, immBits(0, 8));
// IMM = control or debug register number.
system('mov.cr.r', 'movToCr', immBits(0, 8), register('b', 64), next);
system('mov.dr.r', 'movToDr', immBits(0, 8), register('b', 64));
systemValue('mov.r.cr', 'movFromCr', 64, true, immBits(0, 8));
systemValue('mov.r.dr', 'movFromDr', 64, true, immBits(0, 8));
systemValue('sldt', 'sldt', 64, false);
systemValue('str', 'str', 64, false);
systemValue('smsw', 'smsw', 64, true);
systemValue('pushf', 'pushf', 64, true);
for (const width of [32, 64] as const) {
  systemValue(`rdsegbase${width}`, 'readSegmentBase', width, true, immBits(0, 8));
  system(`wrsegbase${width}`, 'writeSegmentBase', immBits(0, 8), register('b', width));
}
for (const width of [16, 32, 64] as const) {
  for (const name of ['lar', 'lsl']) {
    defineUop(`${name}${width}`, (e) => {
      register32('b', 16)(e);
      e.call(name);
      e.w.set(e.i64[0]);
      faultIfPending(e);
      e.w.get(e.i64[0]);
      e.w.i64(0n);
      e.w.op('i64.ge_s');
      e.w.if();
      e.setReg('a', width, () => e.w.get(e.i64[0]));
      e.w.end();
    });
  }
  system(`enter${width}`, 'enter', immBits(0, 16), immBits(16, 8), (e) => e.w.i32(width / 8));
  system(`bound${width}`, 'bound', register32('a', width), address, (e) => e.w.i32(width / 8));
}
system('cmpxchg8b', 'cmpxchg8b', address);
system('cmpxchg16b', 'cmpxchg16b', address);
system('fxsave', 'fxsave', address, immBits(0, 1));
system('fxrstor', 'fxrstor', address, immBits(0, 1));
system('ldmxcsr', 'ldmxcsr', register32('b', 32));
defineUop('stmxcsr', (e) =>
  e.setReg('a', 32, () => {
    e.state(STATE.MXCSR, 'i32');
    e.w.op('i64.extend_i32_u');
  }),
);

// String instructions. IMM: bits 0–7 element bytes, 8–15 address bytes, 16–17 repeat; B = source segment's base.
for (const name of ['movs', 'stos', 'lods', 'cmps', 'scas', 'ins', 'outs']) {
  system(name, name, immBits(0, 8), immBits(8, 8), register('b', 64), immBits(16, 2), next);
}

/** IN and OUT through DX or an immediate port (IMM). */
for (const width of [8, 16, 32] as const) {
  for (const [form, port] of [
    ['i', immBits(0, 8)],
    [
      'd',
      ((e) => {
        e.fixed(RDX, 16);
        e.w.op('i32.wrap_i64');
      }) as Argument,
    ],
  ] as const) {
    defineUop(`in${width}.${form}`, (e) => {
      port(e);
      e.w.i32(width / 8);
      e.call('portIn');
      e.w.op('i64.extend_i32_u');
      e.w.set(e.i64[0]);
      faultIfPending(e);
      e.setFixed(RAX, width, () => e.w.get(e.i64[0]));
    });
    defineUop(`out${width}.${form}`, (e) =>
      e.systemCall('portOut', () => {
        port(e);
        e.w.i32(width / 8);
        e.fixed(RAX, width);
        e.w.op('i32.wrap_i64');
      }),
    );
  }
}

/** Raises the exception IMM: bits 0–7 vector, 8–23 error code. */
defineUop('fault', (e) => {
  e.setState(STATE.FAULT_VECTOR, 'i32', () => immBits(0, 8)(e));
  e.setState(STATE.FAULT_ERROR, 'i32', () => immBits(8, 16)(e));
  e.w.i32(1);
  e.faultIf();
});

/** IMM = number of the trace point, which is told before the instruction that is there, and may send the CPU elsewhere. */
system('trace', 'tracePoint', immBits(0, 32));
