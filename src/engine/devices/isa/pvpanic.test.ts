import { expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { PVPANIC_PORT, PvPanic } from './pvpanic.ts';

test('says what it knows, and tells a panic once until a reset', () => {
  const board = new TestBoard();
  const device = new PvPanic(board);
  expect(board.in(PVPANIC_PORT)).toBe(3);
  board.ports.write(PVPANIC_PORT, 1, 0x80);
  expect(board.events).toEqual([]);
  for (let count = 0; count < 3; count++) board.ports.write(PVPANIC_PORT, 1, 1);
  expect(board.events).toEqual([{ kind: 'panicked' }]);
  device.reset();
  board.ports.write(PVPANIC_PORT, 1, 2);
  expect(board.events).toHaveLength(2);
});
