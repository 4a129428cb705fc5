/** Exceptions and saved state of the x87 and of SSE. */
import { beforeEach, describe, expect, it } from 'vitest';
import { coreInstance } from '../../../test/support/core-instance.ts';
import { canRunNative, runNative } from '../../../test/support/native-elf.ts';
import { CPU, STATE } from '../layout.ts';

const MEMORY = 0x20_0000;
const VECTOR_UD = 6;
const VECTOR_GP = 13;
const VECTOR_MF = 16;
const VECTOR_XM = 19;
const ONE = 0x3ff0_0000_0000_0000n;
const THIRD = 0x3fd5_5555_5555_5555n;

const core = coreInstance();
const { view } = core;
const state = (offset: number): number => view.getUint32(CPU + offset, true);
const setState = (offset: number, value: number): void => view.setUint32(CPU + offset, value, true);
const vector = (): number => view.getInt32(CPU + STATE.FAULT_VECTOR, true);

/** Runs register forms given as two bytes each. */
const run = (...instructions: readonly (readonly [number, number])[]): number[] =>
  instructions.map(([opcode, modrm]) =>
    Number(core.call('x87Register', ((opcode & 7) << 6) | (modrm & 0x3f))),
  );

const FNINIT = [0xdb, 0xe3] as const;
const FNCLEX = [0xdb, 0xe2] as const;
const FNSTSW_AX = [0xdf, 0xe0] as const;
const FLD1 = [0xd9, 0xe8] as const;
const FLDPI = [0xd9, 0xeb] as const;
const FLDZ = [0xd9, 0xee] as const;
const FDIVP = [0xde, 0xf9] as const;
/** Control word with all exceptions but zero-divide masked. */
const ZERO_DIVIDE_UNMASKED = 0x37b;

beforeEach(() => {
  view.setInt32(CPU + STATE.FAULT_VECTOR, -1, true);
  run(FNINIT);
});

describe('x87 exceptions', () => {
  const divideByZero = (): void => {
    view.setUint16(MEMORY, ZERO_DIVIDE_UNMASKED, true);
    core.call('x87MemoryRead', (1 << 3) | 5, MEMORY);
    expect(run(FLD1, FLDZ, FDIVP)).toEqual([0, 0, 0]);
  };

  it('an unmasked exception waits for the next waiting instruction', () => {
    divideByZero();
    expect(vector()).toBe(-1);
    expect(run(FNSTSW_AX)).toEqual([0]);
    expect(view.getUint16(CPU + STATE.REGS, true) & 0x80ff).toBe(0x8084);
    expect(run(FLD1)).toEqual([2]);
    expect(vector()).toBe(VECTOR_MF);
  });

  it('FWAIT raises it too, and FNCLEX drops it', () => {
    divideByZero();
    expect(core.call('x87Wait')).toBe(2);
    view.setInt32(CPU + STATE.FAULT_VECTOR, -1, true);
    expect(run(FNCLEX)).toEqual([0]);
    expect(core.call('x87Wait')).toBe(0);
    expect(state(STATE.FSW) & 0x80ff).toBe(0);
  });

  it('leaves the stack alone when the exception is unmasked', () => {
    divideByZero();
    expect((state(STATE.FSW) >> 11) & 7).toBe(6);
    expect(state(STATE.FTW)).toBe(0xc0);
  });

  it('undefined register forms raise #UD', () => {
    expect(run([0xd9, 0xd1])).toEqual([2]);
    expect(vector()).toBe(VECTOR_UD);
  });

  it('a load of the control word makes an old flag pending', () => {
    expect(run(FLD1, FLDZ, FDIVP)).toEqual([0, 0, 0]);
    view.setUint16(MEMORY, ZERO_DIVIDE_UNMASKED, true);
    expect(core.call('x87MemoryRead', (1 << 3) | 5, MEMORY)).toBe(0);
    expect(core.call('x87Wait')).toBe(2);
  });
});

describe('x87 state in memory', () => {
  const LAYOUTS = [
    { name: '32-bit', is32: 1, header: 28, pointers: 12, prefix: [] },
    { name: '16-bit', is32: 0, header: 14, pointers: 6, prefix: [0x66] },
  ];

  it.skipIf(!canRunNative).each(LAYOUTS)('FNSAVE stores what the processor stores, $name', (layout) => {
    const { is32, header, pointers, prefix } = layout;
    const bytes = header + 80;
    const code = [...FNINIT, ...FLD1, ...FLDPI, ...FLDZ, ...prefix, 0xdd, 0x37, 0xc3];
    const expected = runNative(new Uint8Array(code), new Uint8Array(128), { outputBytes: bytes });
    run(FLD1, FLDPI, FLDZ);
    core.bytes.fill(0, MEMORY, MEMORY + bytes);
    expect(core.call('x87StoreEnvironment', MEMORY, is32, 1)).toBe(0);
    const got = core.bytes.slice(MEMORY, MEMORY + bytes);
    // The instruction and operand pointers differ between the two programs.
    got.fill(0, pointers, header);
    expected.fill(0, pointers, header);
    expect(Buffer.from(got).toString('hex')).toBe(Buffer.from(expected).toString('hex'));
    expect(state(STATE.FCW)).toBe(0x37f);
    expect(state(STATE.FTW)).toBe(0);
  });

  it.each(LAYOUTS)('FRSTOR brings it back, $name', ({ is32 }) => {
    run(FLD1, FLDPI, FLDZ);
    const registers = core.bytes.slice(CPU + STATE.ST, CPU + STATE.ST + 128);
    const before = [state(STATE.FSW), state(STATE.FTW)];
    core.call('x87StoreEnvironment', MEMORY, is32, 1);
    core.bytes.fill(0xaa, CPU + STATE.ST, CPU + STATE.ST + 128);
    expect(core.call('x87LoadEnvironment', MEMORY, is32, 1)).toBe(0);
    expect([state(STATE.FSW), state(STATE.FTW)]).toEqual(before);
    for (let i = 5; i < 8; i++) {
      const at = CPU + STATE.ST + 16 * i;
      expect(core.bytes.slice(at, at + 10)).toEqual(registers.slice(16 * i, 16 * i + 10));
    }
  });

  it('FNSTENV masks all exceptions', () => {
    view.setUint16(MEMORY, 0x340, true);
    core.call('x87MemoryRead', (1 << 3) | 5, MEMORY);
    core.call('x87StoreEnvironment', MEMORY, 1, 0);
    expect(view.getUint16(MEMORY, true)).toBe(0x340);
    expect(state(STATE.FCW)).toBe(0x37f);
  });
});

describe('SSE exceptions', () => {
  const OSXMMEXCPT = 0x400;

  beforeEach(() => {
    setState(STATE.CR4, OSXMMEXCPT);
    expect(core.call('ldmxcsr', 0x1f80)).toBe(0);
  });

  it('inexact under the usual MXCSR sets PE and opens the fast path', () => {
    expect(state(STATE.SSE_FAST)).toBe(0);
    core.call('sseF64', 0, ONE, THIRD);
    expect(state(STATE.MXCSR)).toBe(0x1fa0);
    expect(state(STATE.SSE_FAST)).toBe(1);
    expect(vector()).toBe(-1);
  });

  it.each([0x9fa0, 0x1fe0, 0x3fa0, 0x0fa0, 0x1f80])('no fast path with MXCSR %i', (mxcsr) => {
    expect(core.call('ldmxcsr', mxcsr)).toBe(0);
    expect(state(STATE.SSE_FAST)).toBe(0);
  });

  it('an unmasked exception is #XM, or #UD without OSXMMEXCPT', () => {
    core.call('ldmxcsr', 0x1d80);
    core.call('sseF64', 3, ONE, 0n);
    expect(vector()).toBe(VECTOR_XM);
    expect(state(STATE.MXCSR)).toBe(0x1d84);
    setState(STATE.CR4, 0);
    core.call('sseF64', 3, ONE, 0n);
    expect(vector()).toBe(VECTOR_UD);
  });

  it('a packed operation with an unmasked exception in one element writes nothing', () => {
    core.call('ldmxcsr', 0x1d80);
    view.setBigUint64(MEMORY, ONE, true);
    view.setBigUint64(MEMORY + 8, ONE, true);
    view.setBigUint64(MEMORY + 16, THIRD, true);
    view.setBigUint64(MEMORY + 24, 0n, true);
    expect(core.call('ssePackedF64', 3, MEMORY, MEMORY, MEMORY + 16)).toBe(2);
    expect(view.getBigUint64(MEMORY, true)).toBe(ONE);
    // The division that precedes it did not take place, so it is not inexact either.
    expect(state(STATE.MXCSR)).toBe(0x1d84);
  });

  it('reserved bits of MXCSR are #GP', () => {
    expect(core.call('ldmxcsr', 0x1_0000)).toBe(2);
    expect(vector()).toBe(VECTOR_GP);
    expect(state(STATE.MXCSR)).toBe(0x1f80);
  });

  it('reciprocals are within 1.5 * 2^-12', () => {
    const bits = new DataView(new ArrayBuffer(4));
    const toBits = (value: number): number => {
      bits.setFloat32(0, value);
      return bits.getInt32(0);
    };
    const fromBits = (value: number): number => {
      bits.setInt32(0, value);
      return bits.getFloat32(0);
    };
    for (let x = 1.2e-38; x < 3e38; x *= 1.37) {
      const value = Math.fround(x);
      const reciprocal = fromBits(Number(core.call('sseReciprocalF32', toBits(value))));
      const root = fromBits(Number(core.call('sseReciprocalSqrtF32', toBits(value))));
      if (value <= 2 ** 126) expect(Math.abs(reciprocal * value - 1)).toBeLessThan(1.5 * 2 ** -12);
      expect(Math.abs(root * Math.sqrt(value) - 1)).toBeLessThan(1.5 * 2 ** -12);
    }
  });
});
