import { beforeEach, expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { ACPI_PM, AcpiPm } from './acpi-pm.ts';

let board: TestBoard;
let acpi: AcpiPm;
beforeEach(() => {
  board = new TestBoard();
  acpi = new AcpiPm(board, (port, region) => board.ports.mapByte(port, region));
  board.initPic();
});

test('entering S5 powers off; other sleep types do nothing', () => {
  board.ports.write(ACPI_PM.CONTROL, 2, 0x2000 | (5 << 10));
  expect(board.events).toEqual([]);
  board.ports.write(ACPI_PM.CONTROL, 2, 0x2000);
  expect(board.events).toEqual([{ kind: 'power-off' }]);
  expect(board.ports.read(ACPI_PM.CONTROL, 2) & 1).toBe(1);
});

test('the power button raises the SCI while enabled, until its status is cleared', () => {
  acpi.pressPowerButton();
  expect(board.interrupts.pending).toBe(false);
  board.ports.write(ACPI_PM.EVENT + 2, 2, 0x0100);
  expect(board.interrupts.acknowledge()).toBe(0x29);
  expect(board.ports.read(ACPI_PM.EVENT, 2)).toBe(0x0100);
  board.ports.write(ACPI_PM.EVENT, 2, 0x0100);
  expect(board.ports.read(ACPI_PM.EVENT, 2)).toBe(0);
});

test('each fixed event keeps its enable bit, the RTC’s too', () => {
  board.ports.write(ACPI_PM.EVENT + 2, 2, 0xffff);
  expect(board.ports.read(ACPI_PM.EVENT + 2, 2)).toBe(0x0521);
  expect(board.interrupts.pending).toBe(false);
});

test('the timer counts 24 bits at 3.579545 MHz and reports its carry', () => {
  board.advance(1_000_000_000);
  expect(board.ports.read(ACPI_PM.TIMER, 4)).toBe(3_579_545);
  board.ports.write(ACPI_PM.EVENT + 2, 2, 0x0001);
  board.advance(1_300_000_000);
  expect(board.interrupts.pending).toBe(false);
  board.advance(50_000_000);
  expect(board.interrupts.pending).toBe(true);
  board.advance(2_400_000_000);
  expect(board.ports.read(ACPI_PM.TIMER, 4)).toBeLessThan(2 ** 24);
});

test('the reset register resets', () => {
  board.out(ACPI_PM.RESET, 0x02);
  expect(board.events).toEqual([]);
  board.out(ACPI_PM.RESET, ACPI_PM.RESET_VALUE);
  expect(board.events).toEqual([{ kind: 'reset' }]);
});

test('a general-purpose event raises the SCI while it is enabled, until its status is cleared', () => {
  acpi.raiseGpe(1);
  expect(board.ports.read(ACPI_PM.GPE0, 1)).toBe(2);
  expect(board.interrupts.pending).toBe(false);
  board.ports.write(ACPI_PM.GPE0 + 2, 1, 2);
  expect(board.interrupts.acknowledge()).toBe(0x29);
  board.ports.write(ACPI_PM.GPE0, 1, 2);
  expect(board.ports.read(ACPI_PM.GPE0, 1)).toBe(0);
  expect(board.ports.read(ACPI_PM.GPE0 + 2, 1)).toBe(2);
});
