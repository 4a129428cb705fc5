import { beforeEach, expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';

const LAPIC = 0xfee0_0000;
const REG = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  PPR: 0xa0,
  EOI: 0xb0,
  SVR: 0xf0,
  ISR: 0x100,
  IRR: 0x200,
  ESR: 0x280,
  ICR: 0x300,
  LVT_TIMER: 0x320,
  LVT_LINT0: 0x350,
  INITIAL: 0x380,
  CURRENT: 0x390,
  DIVIDE: 0x3e0,
} as const;
const DIVIDE_BY_1 = 0xb;
const PERIODIC = 0x2_0000;
const DEADLINE = 0x4_0000;
const IOAPIC = 0xfec0_0000;

let board: TestBoard;
const read = (offset: number): number => board.mmio.read(LAPIC + offset, 4);
const write = (offset: number, value: number): void => board.mmio.write(LAPIC + offset, 4, value);
const pending = (): boolean => board.interrupts.pending;
const acknowledge = (): number => board.interrupts.acknowledge();
function redirect(pin: number, low: number): void {
  board.mmio.write(IOAPIC, 4, 0x10 + pin * 2);
  board.mmio.write(IOAPIC + 0x10, 4, low);
}

beforeEach(() => {
  board = new TestBoard();
  write(REG.SVR, 0x1ff);
  write(REG.LVT_LINT0, 0x1_0000);
  write(REG.DIVIDE, DIVIDE_BY_1);
});

test('version, and registers that do not exist set the error register', () => {
  expect(read(REG.VERSION)).toBe(0x0005_0014);
  write(0x3a0, 1);
  write(REG.ESR, 0);
  expect(read(REG.ESR)).toBe(0x80);
});

test('a one-shot timer fires once when its count has run out', () => {
  write(REG.LVT_TIMER, 0x40);
  write(REG.INITIAL, 1000);
  board.advance(400);
  expect(read(REG.CURRENT)).toBe(600);
  expect(pending()).toBe(false);
  board.advance(600);
  expect(read(REG.CURRENT)).toBe(0);
  expect(acknowledge()).toBe(0x40);
  write(REG.EOI, 0);
  board.advance(10_000);
  expect(pending()).toBe(false);
});

test('the divider slows the count down', () => {
  write(REG.DIVIDE, 0x3); // by 16
  write(REG.LVT_TIMER, 0x40);
  write(REG.INITIAL, 100);
  board.advance(1599);
  expect(pending()).toBe(false);
  board.advance(1);
  expect(pending()).toBe(true);
});

test('a periodic timer fires again and again, and ticks slept through are lost', () => {
  write(REG.LVT_TIMER, PERIODIC | 0x41);
  write(REG.INITIAL, 100_000);
  for (let i = 0; i < 3; i++) {
    board.advance(100_000);
    expect(acknowledge()).toBe(0x41);
    write(REG.EOI, 0);
    expect(pending()).toBe(false);
  }
  board.time.ns += 1_000_050;
  board.clock.fireDue();
  expect(acknowledge()).toBe(0x41);
  write(REG.EOI, 0);
  expect(pending()).toBe(false);
  expect(read(REG.CURRENT)).toBe(100_000 - 50);
});

test('the TSC deadline arms by MSR and reads 0 when it has passed', () => {
  write(REG.LVT_TIMER, DEADLINE | 0x42);
  const { lapic } = board.interrupts;
  expect(lapic.writeMsr(0x6e0, 5000n)).toBe(true);
  expect(lapic.readMsr(0x6e0)).toBe(5000n);
  board.advance(4999);
  expect(pending()).toBe(false);
  board.advance(1);
  expect(acknowledge()).toBe(0x42);
  expect(lapic.readMsr(0x6e0)).toBe(0n);
  lapic.writeMsr(0x6e0, 9000n);
  lapic.writeMsr(0x6e0, 0n);
  write(REG.EOI, 0);
  board.advance(10_000);
  expect(pending()).toBe(false);
});

test('the TSC deadline is of the guest’s own time-stamp counter', () => {
  board.cpu.tscOffset = 1_000_000n;
  write(REG.LVT_TIMER, DEADLINE | 0x42);
  board.interrupts.lapic.writeMsr(0x6e0, 1_005_000n);
  board.advance(4999);
  expect(pending()).toBe(false);
  board.advance(1);
  expect(acknowledge()).toBe(0x42);
});

test('a masked timer counts without interrupting', () => {
  write(REG.LVT_TIMER, 0x1_0040);
  write(REG.INITIAL, 10);
  board.advance(100);
  expect(pending()).toBe(false);
});

test('priorities: in service, task priority and CR8', () => {
  board.msi(0xfee0_0000, 0x55);
  expect(acknowledge()).toBe(0x55);
  expect(read(REG.PPR)).toBe(0x50);
  board.msi(0xfee0_0000, 0x5f);
  expect(pending()).toBe(false);
  board.msi(0xfee0_0000, 0x61);
  expect(acknowledge()).toBe(0x61);
  write(REG.EOI, 0);
  write(REG.EOI, 0);
  expect(acknowledge()).toBe(0x5f);
  write(REG.EOI, 0);
  board.cpu.cr8 = 7;
  board.msi(0xfee0_0000, 0x7f);
  expect(pending()).toBe(false);
  expect(read(REG.TPR)).toBe(0x70);
  write(REG.TPR, 0x65);
  expect(board.cpu.cr8).toBe(6);
  expect(read(REG.TPR)).toBe(0x65);
  expect(acknowledge()).toBe(0x7f);
});

test('MSI destinations: physical, broadcast, logical flat and others', () => {
  board.msi(0xfee0_1000, 0x50);
  expect(pending()).toBe(false);
  board.msi(0xfeef_f000, 0x51);
  expect(acknowledge()).toBe(0x51);
  write(REG.EOI, 0);
  write(0xd0, 0x0200_0000);
  board.msi(0xfee0_1004, 0x52);
  expect(pending()).toBe(false);
  board.msi(0xfee0_3004, 0x53 | (1 << 8));
  expect(acknowledge()).toBe(0x53);
});

test('an IPI to self, and NMI by message', () => {
  write(REG.ICR, 0x4_0000 | 0x66);
  expect(acknowledge()).toBe(0x66);
  board.msi(0xfee0_0000, 4 << 8);
  expect(board.nmis).toEqual([0]);
});

test('vectors below 16 are errors, not interrupts', () => {
  board.msi(0xfee0_0000, 0x05);
  write(REG.ICR, 0x4_0000 | 0x06);
  expect(pending()).toBe(false);
  write(REG.ESR, 0);
  expect(read(REG.ESR)).toBe(0x60);
});

test('x2APIC: registers move to MSRs, and only legal transitions are allowed', () => {
  const { lapic } = board.interrupts;
  expect(lapic.readMsr(0x802)).toBeUndefined();
  expect(lapic.readMsr(0x1b)).toBe(0xfee0_0900n);
  expect(lapic.writeMsr(0x1b, 0xfee0_0d00n)).toBe(true);
  expect(lapic.readMsr(0x802)).toBe(0n);
  expect(lapic.readMsr(0x80d)).toBe(1n);
  expect(lapic.writeMsr(0x83f, 0x77n)).toBe(true);
  expect(acknowledge()).toBe(0x77);
  expect(lapic.readMsr(0x80b)).toBeUndefined();
  expect(lapic.writeMsr(0x80b, 1n)).toBe(false);
  expect(lapic.writeMsr(0x80b, 0n)).toBe(true);
  expect(lapic.readMsr(0x80e)).toBeUndefined();
  expect(lapic.writeMsr(0x830, (0xffff_ffffn << 32n) | 0x78n)).toBe(true);
  expect(acknowledge()).toBe(0x78);
  expect(lapic.writeMsr(0x1b, 0xfee0_0900n)).toBe(false);
  expect(lapic.writeMsr(0x1b, 0xfee0_0100n)).toBe(true);
  expect(lapic.writeMsr(0x1b, 0xfee0_0d00n)).toBe(false);
});

test('an edge on the IOAPIC, and one while masked is lost', () => {
  const line = board.irq(4);
  redirect(4, 0x1_0031);
  line.set(true);
  redirect(4, 0x31);
  expect(pending()).toBe(false);
  line.set(false);
  line.set(true);
  expect(acknowledge()).toBe(0x31);
});

test('a level on the IOAPIC comes back after EOI until it is low', () => {
  redirect(16, 0x8000 | 0x32);
  const line = board.irq(16);
  line.set(true);
  expect(acknowledge()).toBe(0x32);
  expect(pending()).toBe(false);
  write(REG.EOI, 0);
  expect(acknowledge()).toBe(0x32);
  line.set(false);
  write(REG.EOI, 0);
  expect(pending()).toBe(false);
});

test('the timer interrupt is at input 2 of the IOAPIC', () => {
  redirect(2, 0x33);
  board.irq(0).set(true);
  expect(acknowledge()).toBe(0x33);
});

test('lines that share an interrupt are wired together', () => {
  redirect(16, 0x8000 | 0x34);
  const first = board.interrupts.sharedLine(16);
  const second = board.interrupts.sharedLine(16);
  first.set(true);
  second.set(true);
  first.set(false);
  expect(acknowledge()).toBe(0x34);
  write(REG.EOI, 0);
  expect(pending()).toBe(true);
  second.set(false);
  acknowledge();
  write(REG.EOI, 0);
  expect(pending()).toBe(false);
});
