import { expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';

function board(): TestBoard {
  const made = new TestBoard();
  made.initPic();
  return made;
}

const EOI = 0x20;

test('an edge is delivered once with the programmed vector', () => {
  const { interrupts, ...rest } = { interrupts: board().interrupts };
  expect(rest).toEqual({});
  const line = interrupts.line(4);
  expect(interrupts.pending).toBe(false);
  line.set(true);
  expect(interrupts.pending).toBe(true);
  expect(interrupts.acknowledge()).toBe(0x24);
  expect(interrupts.pending).toBe(false);
});

test('a lower priority waits for the end of interrupt', () => {
  const made = board();
  made.irq(1).set(true);
  made.irq(7).set(true);
  expect(made.interrupts.acknowledge()).toBe(0x21);
  expect(made.interrupts.pending).toBe(false);
  made.irq(0).set(true);
  expect(made.interrupts.acknowledge()).toBe(0x20);
  made.out(0x20, EOI);
  expect(made.interrupts.pending).toBe(false);
  made.out(0x20, EOI);
  expect(made.interrupts.acknowledge()).toBe(0x27);
});

test('the slave comes in through the cascade and nests above the master', () => {
  const made = board();
  made.irq(8).set(true);
  expect(made.interrupts.acknowledge()).toBe(0x28);
  made.out(0x20, 0x0b);
  expect(made.in(0x20)).toBe(0x04);
  made.irq(12).set(true);
  expect(made.interrupts.pending).toBe(false);
  made.out(0xa0, EOI);
  made.out(0x20, EOI);
  expect(made.interrupts.acknowledge()).toBe(0x2c);
});

test('masked inputs wait, and a request that goes away before acknowledgement is spurious', () => {
  const made = board();
  made.out(0x21, 0xff);
  const line = made.irq(3);
  line.set(true);
  expect(made.interrupts.pending).toBe(false);
  made.out(0x21, 0x00);
  expect(made.interrupts.pending).toBe(true);
  line.set(false);
  expect(made.interrupts.pending).toBe(false);
  expect(made.interrupts.pic.acknowledge()).toBe(0x27);
});

test('a level-triggered input asks again until it is low', () => {
  const made = board();
  made.out(0x4d1, 0x02);
  const line = made.irq(9);
  line.set(true);
  expect(made.interrupts.acknowledge()).toBe(0x29);
  made.out(0xa0, EOI);
  made.out(0x20, EOI);
  expect(made.interrupts.acknowledge()).toBe(0x29);
  line.set(false);
  made.out(0xa0, EOI);
  made.out(0x20, EOI);
  expect(made.interrupts.pending).toBe(false);
  expect(made.in(0x4d1)).toBe(0x02);
});

test('the timer, keyboard and cascade inputs cannot be made level-triggered', () => {
  const made = board();
  made.out(0x4d0, 0xff);
  made.out(0x4d1, 0xff);
  expect([made.in(0x4d0), made.in(0x4d1)]).toEqual([0xf8, 0xde]);
});

test('poll mode acknowledges on a read', () => {
  const made = board();
  made.irq(5).set(true);
  made.out(0x20, 0x0c);
  expect(made.in(0x20)).toBe(0x85);
  expect(made.interrupts.pending).toBe(false);
});

test('the local APIC cuts INTR off when LINT0 is masked', () => {
  const made = board();
  made.irq(4).set(true);
  made.mmio.write(0xfee0_0350, 4, 0x1_0700);
  expect(made.interrupts.pending).toBe(false);
});
