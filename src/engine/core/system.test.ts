import { beforeEach, describe, expect, it } from 'vitest';
import { CoreHarness, CPU, EXIT, MODE, STATE } from './core-harness.ts';

const [RAX, RCX, RDX, RBX, RSP, RBP, R11] = [0, 1, 2, 3, 4, 5, 11];
let h: CoreHarness;
beforeEach(() => {
  h = new CoreHarness();
  h.longMode();
});

function writeMsr(index: number, value: bigint): number {
  h.setReg(RCX, BigInt(index));
  h.setReg(RAX, value & 0xffffffffn);
  h.setReg(RDX, value >> 32n);
  return h.core.wrmsr(0n);
}

describe('flags', () => {
  it('represents every combination of the arithmetic flags', () => {
    const bits = [0x1n, 0x4n, 0x10n, 0x40n, 0x80n, 0x800n];
    for (let i = 0; i < 64; i++) {
      const value = bits.reduce((sum, bit, at) => ((i >> at) & 1 ? sum | bit : sum), 2n);
      h.core.setArithmeticFlags(value);
      expect(h.core.getFlags()).toBe(value);
    }
  });

  it('POPF: user mode changes neither IF nor IOPL', () => {
    h.userMode();
    expect(h.core.popf(0x3a02n, 8, 0n)).toBe(0);
    expect(h.core.getFlags()).toBe(0x802n);
  });

  it('POPF: leaves the block when IF becomes set and an interrupt waits', () => {
    expect(h.core.popf(0x202n, 8, 0x10n)).toBe(0);
    h.core.cli();
    h.set32(STATE.INTR_PENDING, 1);
    expect(h.core.popf(0x202n, 8, 0x10n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x10n);
    expect(h.core.popf(0x246n, 8, 0x20n)).toBe(0);
  });

  it('STI holds interrupts off until the shadow is cleared', () => {
    expect(h.core.interruptsPossible()).toBe(0);
    h.core.sti();
    expect(h.core.interruptsPossible()).toBe(0);
    h.set32(STATE.INTR_SHADOW, 0);
    expect(h.core.interruptsPossible()).toBe(1);
    expect(h.core.hlt(0x30n)).toBe(3);
    expect([h.get32(STATE.EXIT_REASON), h.get32(STATE.HALTED)]).toEqual([EXIT.HALT, 1]);
  });
});

describe('SYSCALL and SYSRET', () => {
  beforeEach(() => {
    writeMsr(0xc0000081, (0x1bn << 48n) | (0x8n << 32n));
    writeMsr(0xc0000082, 0xffff_ffff_8100_0000n);
    writeMsr(0xc0000084, 0x700n);
  });

  it('go in and come back', () => {
    h.userMode();
    h.set64(STATE.RFLAGS, 0x202n);
    h.core.setArithmeticFlags(0x41n);
    expect(h.core.syscall(0x4002n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0xffff_ffff_8100_0000n);
    expect([h.reg(RCX), h.reg(R11)]).toEqual([0x4002n, 0x243n]);
    expect(h.get32(STATE.CPL)).toBe(0);
    expect(h.core.getFlags()).toBe(0x43n);
    expect([h.get32(STATE.SEG_SEL + 4), h.get32(STATE.SEG_SEL + 8)]).toEqual([0x8, 0x10]);
    expect(h.core.sysret(1)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x4002n);
    expect(h.core.getFlags()).toBe(0x243n);
    expect([h.get32(STATE.SEG_SEL + 4), h.get32(STATE.SEG_SEL + 8)]).toEqual([0x2b, 0x23]);
    expect(h.get32(STATE.MODE) & (MODE.USER | MODE.CODE_SIZE_MASK)).toBe(MODE.USER | MODE.CODE64);
  });

  it('SYSRET with 32-bit operand goes to compatibility mode', () => {
    h.setReg(RCX, 0x1_0000_4002n);
    h.setReg(R11, 0x202n);
    expect(h.core.sysret(0)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x4002n);
    expect(h.get32(STATE.MODE) & MODE.CODE_SIZE_MASK).toBe(MODE.CODE32);
  });

  it('SYSRET to an address that is not canonical faults in the kernel', () => {
    h.setReg(RCX, 0x8000_0000_0000n);
    expect(h.core.sysret(1)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0 });
    expect(h.get32(STATE.CPL)).toBe(0);
  });
});

describe('registers', () => {
  it('refuses reserved bits', () => {
    expect(h.core.movToCr(4, 0x20n | (1n << 12n), 0n)).toBe(2);
    expect(h.core.movToCr(4, 0n, 0n)).toBe(2);
    expect(h.core.movToCr(0, 0x80000000n, 0n)).toBe(2);
    expect(writeMsr(0xc0000080, 2n)).toBe(2);
    expect(writeMsr(0xc0000100, 0x8000_0000_0000n)).toBe(2);
    expect(writeMsr(0x277, 2n)).toBe(2);
    expect(writeMsr(0x12345, 0n)).toBe(2);
    h.takeFault();
    h.userMode();
    expect(h.core.movToCr(0, 0x80010001n, 0n)).toBe(2);
    expect(h.core.cli()).toBe(2);
    expect(h.core.hlt(0n)).toBe(2);
    expect(h.core.rdmsr()).toBe(2);
  });

  it('counts the TSC in nanoseconds from its own offset', () => {
    h.now = 5_000_000_000;
    h.core.rdtsc();
    expect((h.reg(RDX) << 32n) | h.reg(RAX)).toBe(5_000_000_000n);
    writeMsr(0x10, 7n);
    h.now += 3;
    h.core.rdtscp();
    expect(h.reg(RAX)).toBe(10n);
  });

  it('SWAPGS and the base instructions', () => {
    writeMsr(0xc0000101, 0x1000n);
    writeMsr(0xc0000102, 0xffff_8000_0000_0000n);
    expect(h.core.swapgs()).toBe(0);
    expect(h.get64(STATE.SEG_BASE + 40)).toBe(0xffff_8000_0000_0000n);
    h.core.readSegmentBase(5);
    expect(h.takeFault()?.vector).toBe(6);
    h.core.movToCr(4, 0x10020n, 0n);
    expect(h.core.writeSegmentBase(4, 0x77n)).toBe(0);
    expect(h.core.readSegmentBase(4)).toBe(0x77n);
  });

  it('identifies itself', () => {
    const ask = (leaf: bigint): bigint[] => {
      h.setReg(RAX, leaf);
      h.setReg(RCX, 0n);
      h.core.cpuid();
      return [h.reg(RAX), h.reg(RBX), h.reg(RCX), h.reg(RDX)];
    };
    const text = (words: bigint[]): string =>
      Buffer.from(new Uint32Array(words.map(Number)).buffer).toString();
    const vendor = ask(0n);
    expect(text([vendor[1]!, vendor[3]!, vendor[2]!])).toBe('GenuineIntel');
    const brand = [...ask(0x80000002n), ...ask(0x80000003n), ...ask(0x80000004n)];
    expect(text(brand).replace(/\0+$/, '')).toBe('Umlaut Virtual CPU');
    expect(text(ask(0x40000000n).slice(1))).toBe('KVMKVMKVM\0\0\0');
    expect(ask(1n)[0]).toBe(0x3066an);
  });
});

describe('composite instructions', () => {
  it('CMPXCHG16B exchanges or loads', () => {
    h.setRam64(0x20000, 1n);
    h.setRam64(0x20008, 2n);
    for (const [reg, value] of [
      [RAX, 1n],
      [RDX, 2n],
      [RBX, 3n],
      [RCX, 4n],
    ] as const)
      h.setReg(reg, value);
    expect(h.core.cmpxchg16b(0x20000n)).toBe(0);
    expect([h.ram64(0x20000), h.ram64(0x20008)]).toEqual([3n, 4n]);
    expect(h.core.getFlags() & 0x40n).toBe(0x40n);
    expect(h.core.cmpxchg16b(0x20000n)).toBe(0);
    expect([h.reg(RAX), h.reg(RDX)]).toEqual([3n, 4n]);
    expect(h.core.getFlags() & 0x40n).toBe(0n);
    expect(h.core.cmpxchg16b(0x20008n)).toBe(2);
  });

  it('ENTER builds a frame with display', () => {
    h.setReg(RSP, 0x20100n);
    h.setReg(RBP, 0x20200n);
    h.setRam64(0x201f8, 0xabcn);
    expect(h.core.enter(0x20, 2, 8)).toBe(0);
    expect(h.reg(RBP)).toBe(0x200f8n);
    expect(h.reg(RSP)).toBe(0x200c8n);
    expect([h.ram64(0x200f8), h.ram64(0x200f0), h.ram64(0x200e8)]).toEqual([0x20200n, 0xabcn, 0x200f8n]);
  });

  it('FXSAVE and FXRSTOR keep everything, in stack order', () => {
    h.core.movToCr(4, 0x220n, 0n);
    h.set32(STATE.FSW, 3 << 11);
    h.set32(STATE.FTW, 0x18);
    h.set64(STATE.ST + 3 * 16, 0x8000_0000_0000_0001n);
    h.set32(STATE.ST + 3 * 16 + 8, 0x3fff);
    h.set64(STATE.XMM + 15 * 16, 0x1234n);
    h.core.ldmxcsr(0x1fa0);
    expect(h.get32(STATE.SSE_FAST)).toBe(1);
    h.setRam64(0x20000 + 464, 0x5555n);
    expect(h.core.fxsave(0x20000n, 1)).toBe(0);
    expect(h.ram64(0x20020)).toBe(0x8000_0000_0000_0001n);
    expect(h.ram64(0x20000 + 464)).toBe(0x5555n);
    h.core.ldmxcsr(0x1f80);
    expect(h.get32(STATE.SSE_FAST)).toBe(0);
    h.bytes.fill(0, CPU + STATE.XMM, CPU + STATE.XMM + 0x180);
    h.set32(STATE.FSW, 0);
    expect(h.core.fxrstor(0x20000n, 1)).toBe(0);
    expect(h.get64(STATE.ST + 3 * 16)).toBe(0x8000_0000_0000_0001n);
    expect(h.get64(STATE.XMM + 15 * 16)).toBe(0x1234n);
    expect([h.get32(STATE.FSW), h.get32(STATE.FTW), h.get32(STATE.MXCSR)]).toEqual([3 << 11, 0x18, 0x1fa0]);
    expect(h.core.fxsave(0x20008n, 1)).toBe(2);
  });
});
