import { beforeEach, describe, expect, it } from 'vitest';
import { CoreHarness, EXIT, MODE, PTE, SELECTOR, STATE, TABLES } from './core-harness.ts';

const RSP = 4;
let h: CoreHarness;
beforeEach(() => {
  h = new CoreHarness();
  h.longMode();
  h.setReg(RSP, 0x1f008n);
  h.set64(STATE.RIP, 0x10010n);
});

/** The saved frame at RSP: five or, with an error code, six words. */
const frame = (words: number): bigint[] =>
  Array.from({ length: words }, (_, i) => h.ram64(Number(h.reg(RSP)) + i * 8));

describe('delivery in long mode', () => {
  it('saves the frame on the aligned stack, with RF for faults, and masks interrupts', () => {
    h.gate(13, 0x12345n);
    h.set64(STATE.RFLAGS, 0x202n);
    h.core.raise(13, 0x18);
    expect(h.core.deliverFault()).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x12345n);
    expect(frame(6)).toEqual([0x18n, 0x10010n, 8n, 0x10202n, 0x1f008n, 0x10n]);
    expect(h.reg(RSP)).toBe(0x1f000n - 48n);
    expect(h.get64(STATE.RFLAGS)).toBe(2n);
    expect(h.get32(STATE.FAULT_VECTOR)).toBe(-1);
  });

  it('leaves IF alone in a trap gate', () => {
    h.gate(3, 0x12345n, { type: 0xf });
    h.set64(STATE.RFLAGS, 0x202n);
    expect(h.core.softwareInterrupt(3, 0x10011n)).toBe(1);
    expect(h.get64(STATE.RFLAGS)).toBe(0x202n);
    expect(frame(3)).toEqual([0x10011n, 8n, 0x202n]);
  });

  it('switches to RSP0 from user mode, and IRETQ goes back', () => {
    h.setRam64(TABLES.tss + 4, 0x1e000n);
    h.gate(0x20, 0x12000n);
    h.userMode();
    h.set64(STATE.RFLAGS, 0x202n);
    h.core.setArithmeticFlags(0x8d5n);
    expect(h.core.interrupt(0x20)).toBe(1);
    expect(h.get32(STATE.CPL)).toBe(0);
    expect(h.get32(STATE.SEG_SEL + 8)).toBe(0);
    expect(frame(5)).toEqual([0x10010n, 0x2bn, 0xad7n, 0x1f008n, 0x23n]);
    h.core.setArithmeticFlags(0n);
    expect(h.core.iret(8, 0n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x10010n);
    expect(h.reg(RSP)).toBe(0x1f008n);
    expect(h.get32(STATE.CPL)).toBe(3);
    expect([h.get32(STATE.SEG_SEL + 4), h.get32(STATE.SEG_SEL + 8)]).toEqual([0x2b, 0x23]);
    expect(h.core.getFlags()).toBe(0xad7n);
    expect(h.get32(STATE.MODE)).toBe(MODE.CODE64 | MODE.USER | MODE.FLAT | MODE.SSE_OFF);
  });

  it('uses the IST stack at every privilege', () => {
    h.setRam64(TABLES.tss + 0x24 + 2 * 8, 0x1d000n);
    h.gate(2, 0x12000n, { ist: 3 });
    expect(h.core.interrupt(2)).toBe(1);
    expect(h.reg(RSP)).toBe(0x1d000n - 40n);
    expect(h.get32(STATE.SEG_SEL + 8)).toBe(SELECTOR.data);
  });

  it('checks the gate: DPL, presence, type, limit', () => {
    h.userMode();
    h.gate(0x30, 0x12000n);
    expect(h.core.softwareInterrupt(0x30, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0x182 });
    h.setRam64(TABLES.idt + 0x310, 0n);
    expect(h.core.softwareInterrupt(0x31, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0x18a });
    h.set32(STATE.IDTR_LIMIT, 0x1ff);
    expect(h.core.softwareInterrupt(0x20, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0x102 });
  });

  it('turns a fault in the delivery of a page fault into a double fault', () => {
    h.gate(8, 0x13000n, { ist: 1 });
    h.setRam64(TABLES.tss + 0x24, 0x1d000n);
    h.setReg(RSP, 0x180000n);
    h.gate(14, 0x12000n);
    h.mapPage(0x17f000, 0n);
    h.core.slowRead(0x0000_7000_0000_0000n, 1);
    expect(h.core.deliverFault()).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x13000n);
    expect(frame(2)).toEqual([0n, 0x10010n]);
    expect(h.get64(STATE.CR2)).toBe(0x180000n - 48n);
  });

  it('delivers serially what is not contributory: #UD, then #PF on the stack', () => {
    h.gate(6, 0x12000n);
    h.gate(14, 0x13000n, { ist: 1 });
    h.setRam64(TABLES.tss + 0x24, 0x1d000n);
    h.setReg(RSP, 0x180000n);
    h.mapPage(0x17f000, 0n);
    h.core.raise(6, 0);
    expect(h.core.deliverFault()).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x13000n);
  });

  it('shuts down on the third fault', () => {
    h.set32(STATE.IDTR_LIMIT, 0);
    h.core.raise(6, 0);
    expect(h.core.deliverFault()).toBe(3);
    expect(h.get32(STATE.EXIT_REASON)).toBe(EXIT.SHUTDOWN);
  });

  it('single-steps with DR6.BS', () => {
    h.gate(1, 0x12000n);
    h.set64(STATE.RFLAGS, 0x102n);
    h.core.updateMode();
    expect(h.get32(STATE.MODE) & MODE.SINGLE_STEP).not.toBe(0);
    expect(h.core.singleStep()).toBe(1);
    expect(h.get64(STATE.DR + 48)).toBe(0xffff4ff0n);
    expect(frame(3)[2]).toBe(0x102n);
    expect(h.get32(STATE.MODE) & MODE.SINGLE_STEP).toBe(0);
  });
});

describe('real mode', () => {
  it('goes through the vector table and back', () => {
    h = new CoreHarness();
    h.core.farJump(0x100, 0x20n, 2, 0n);
    h.setReg(RSP, 0x800n);
    h.view.setUint32(h.map.ram + 0x21 * 4, 0x0200_0030, true);
    h.set64(STATE.RFLAGS, 0x202n);
    expect(h.core.softwareInterrupt(0x21, 0x22n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x30n);
    expect(h.get64(STATE.SEG_BASE + 8)).toBe(0x2000n);
    expect(h.reg(RSP)).toBe(0x7fan);
    expect(h.core.iret(2, 0n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x22n);
    expect(h.get64(STATE.SEG_BASE + 8)).toBe(0x1000n);
    expect(h.get64(STATE.RFLAGS)).toBe(0x202n);
  });
});

describe('protected mode', () => {
  /** Leaves long mode for 32-bit code without paging. */
  function protectedMode(): void {
    h.set64(STATE.CR0, 1n);
    h.set64(STATE.EFER, 0n);
    h.segment(1, 0x08, 0xc09b);
    h.segment(2, 0x10, 0xc093);
    h.setRam64(TABLES.gdt + 8, 0xcf9b000000ffffn);
    h.core.flushTlb();
    h.core.updateMode();
  }

  it('changes stacks through a 32-bit TSS and returns outward, dropping inner data segments', () => {
    protectedMode();
    h.setRam64(TABLES.idt + 0x40 * 8, 0x0000_ee00_0008_2000n);
    h.setRam64(TABLES.tss + 4, 0x0010_0000_1e00n);
    h.set32(STATE.CPL, 3);
    h.segment(1, 0x1b, 0xc0fb);
    h.segment(2, 0x23, 0xc0f3);
    h.core.updateMode();
    expect(h.core.softwareInterrupt(0x40, 0x10012n)).toBe(1);
    expect(h.get32(STATE.CPL)).toBe(0);
    expect(h.get32(STATE.SEG_SEL + 8)).toBe(0x10);
    expect(h.reg(RSP)).toBe(0x1e00n - 20n);
    expect(h.view.getUint32(h.map.ram + 0x1e00 - 20, true)).toBe(0x10012);
    expect(h.core.loadSegment(3, 0x10, 0n) & 2).toBe(0);
    expect(h.core.iret(4, 0n)).toBe(1);
    expect(h.get32(STATE.CPL)).toBe(3);
    expect(h.reg(RSP)).toBe(0x1f008n);
    expect(h.get32(STATE.SEG_SEL + 3 * 4)).toBe(0);
    expect(h.get32(STATE.MODE) & (MODE.CODE_SIZE_MASK | MODE.STACK32 | MODE.USER)).toBe(
      MODE.CODE32 | MODE.STACK32 | MODE.USER,
    );
  });

  it('calls through a gate to an inner level with parameters, and returns', () => {
    protectedMode();
    // Gate: selector 8, offset 0x2000, two parameters, DPL 3.
    h.setRam64(TABLES.gdt + 0x38, 0x0000_ec02_0008_2000n);
    h.setRam64(TABLES.tss + 4, 0x0010_0000_1e00n);
    h.set32(STATE.CPL, 3);
    h.segment(1, 0x1b, 0xc0fb);
    h.segment(2, 0x23, 0xc0f3);
    h.core.updateMode();
    h.setRam64(0x1f008, 0x2222_0000_1111n);
    expect(h.core.farCall(0x3b, 0n, 4, 0x10020n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x2000n);
    expect(h.get32(STATE.CPL)).toBe(0);
    const stack = Array.from({ length: 6 }, (_, i) =>
      h.view.getUint32(h.map.ram + 0x1e00 - 24 + i * 4, true),
    );
    expect(stack).toEqual([0x10020, 0x1b, 0x1111, 0x2222, 0x1f008, 0x23]);
    expect(h.core.farReturn(4, 8)).toBe(1);
    expect([h.get64(STATE.RIP), h.reg(RSP)]).toEqual([0x10020n, 0x1f010n]);
    expect(h.get32(STATE.CPL)).toBe(3);
  });

  it('enters virtual-8086 mode by IRET and leaves it by an interrupt', () => {
    protectedMode();
    h.setRam64(TABLES.idt + 0x20 * 8, 0x0000_8e00_0008_2000n);
    h.setRam64(TABLES.tss + 4, 0x0010_0000_1e00n);
    const words = [0x30, 0x100, 0x20202, 0x800, 0x200, 0x300, 0x400, 0x500, 0x600];
    for (const [i, word] of words.entries()) h.view.setUint32(h.map.ram + 0x1f008 + i * 4, word, true);
    expect(h.core.iret(4, 0n)).toBe(1);
    expect(h.get32(STATE.MODE)).toBe(MODE.REAL | MODE.USER | MODE.SSE_OFF);
    expect(h.get64(STATE.SEG_BASE + 3 * 8)).toBe(0x4000n);
    expect(h.core.softwareInterrupt(0x21, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0 });
    expect(h.core.interrupt(0x20)).toBe(1);
    expect(h.get32(STATE.CPL)).toBe(0);
    const stack = Array.from({ length: 9 }, (_, i) =>
      h.view.getUint32(h.map.ram + 0x1e00 - 36 + i * 4, true),
    );
    expect(stack).toEqual(words);
    expect(h.get32(STATE.SEG_SEL + 3 * 4)).toBe(0);
    expect(h.get32(STATE.MODE) & MODE.REAL).toBe(0);
    expect(h.core.iret(4, 0n)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x30n);
  });

  it('jumps far into 64-bit code once long mode is on', () => {
    protectedMode();
    h.setRam64(TABLES.gdt + 8, 0xaf9b000000ffffn);
    h.setReg(1, 0xc0000080n);
    h.setReg(0, 0x100n);
    h.setReg(2, 0n);
    expect(h.core.wrmsr(0x10012n)).toBe(1);
    expect(h.core.movToCr(0, 0x80000001n, 0x10020n)).toBe(1);
    expect(h.get64(STATE.EFER)).toBe(0x500n);
    expect(h.get32(STATE.MODE) & MODE.CODE_SIZE_MASK).toBe(MODE.CODE32);
    expect(h.core.farJump(0x08, 0x10030n, 4, 0n)).toBe(1);
    expect(h.get32(STATE.MODE) & MODE.CODE_SIZE_MASK).toBe(MODE.CODE64);
    expect(h.get64(STATE.RIP)).toBe(0x10030n);
  });
});

describe('far transfers in long mode', () => {
  it('calls far and returns', () => {
    expect(h.core.farCall(SELECTOR.code, 0x12000n, 8, 0x10020n)).toBe(1);
    expect(frame(2)).toEqual([0x10020n, 8n]);
    expect(h.core.farReturn(8, 16)).toBe(1);
    expect(h.get64(STATE.RIP)).toBe(0x10020n);
    expect(h.reg(RSP)).toBe(0x1f018n);
  });

  it('refuses what the descriptors forbid and changes nothing', () => {
    expect(h.core.farJump(0, 0n, 8, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0 });
    expect(h.core.farJump(SELECTOR.userCode, 0n, 8, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0x28 });
    expect(h.core.loadSegment(2, SELECTOR.userData, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0x20 });
    expect(h.core.loadSegment(3, 0x200, 0n)).toBe(2);
    expect(h.takeFault()).toMatchObject({ vector: 13, error: 0x200 });
    expect(h.get64(STATE.RIP)).toBe(0x10010n);
  });

  it('returns to 32-bit user code with IRETQ', () => {
    for (const [i, value] of [0x8000n, 0x1bn, 0x202n, 0x9000n, 0x23n].entries())
      h.setRam64(0x1f008 + i * 8, value);
    h.mapPage(0x8000, 0x8000n | PTE.P | PTE.U);
    expect(h.core.iret(8, 0n)).toBe(1);
    expect(h.get32(STATE.MODE) & MODE.CODE_SIZE_MASK).toBe(MODE.CODE32);
    expect(h.reg(RSP)).toBe(0x9000n);
  });
});
