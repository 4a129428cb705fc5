import { expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';

test('the time page tells that system time is the TSC', () => {
  const board = new TestBoard();
  expect(board.cpuHooks.writeMsr(0x4b56_4d01, 0x3001n)).toBe(true);
  const bytes = board.memory.readable(0x3000, 32);
  const view = new DataView(bytes.buffer, bytes.byteOffset, 32);
  expect(view.getUint32(0, true) % 2).toBe(0);
  const scale = (tsc: bigint): bigint =>
    ((tsc << BigInt(view.getInt8(28))) * BigInt(view.getUint32(24, true))) >> 32n;
  expect(scale(123_456_789_012n)).toBe(123_456_789_012n);
  expect(view.getUint8(29) & 1).toBe(1);
  expect(board.cpuHooks.readMsr(0x4b56_4d01)).toBe(0x3001n);
});

test('a guest that has set its TSC is told from where it counts', () => {
  const board = new TestBoard();
  board.cpu.tscOffset = -5n;
  expect(board.cpuHooks.writeMsr(0x4b56_4d01, 0x3001n)).toBe(true);
  const bytes = board.memory.readable(0x3000, 32);
  expect(new DataView(bytes.buffer, bytes.byteOffset, 32).getBigInt64(8, true)).toBe(-5n);
});

test('the wall clock is that of system time 0', () => {
  const board = new TestBoard();
  board.advance(5_250_000_000);
  expect(board.cpuHooks.writeMsr(0x4b56_4d00, 0x3000n)).toBe(true);
  expect(board.memory.readU32(0x3004)).toBe(board.time.originMs / 1000);
  expect(board.memory.readU32(0x3008)).toBe(0);
});

test('a page outside RAM and unknown registers raise #GP', () => {
  const board = new TestBoard();
  expect(board.cpuHooks.writeMsr(0x4b56_4d01, 0x8000_0001n)).toBe(false);
  expect(board.cpuHooks.writeMsr(0x4b56_4d02, 1n)).toBe(false);
  expect(board.cpuHooks.readMsr(0x1234)).toBeUndefined();
});
