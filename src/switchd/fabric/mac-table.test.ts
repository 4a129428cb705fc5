import { expect, test } from 'vitest';
import { MAC_AGEING_SECONDS, MAC_TABLE_MAX, MacTable, UNKNOWN } from './mac-table.ts';

test('remembers where a station is, follows it, and forgets it when it is silent', () => {
  const table = new MacTable();
  table.learn(0x0100, 5, 1, 0);
  expect(table.lookup(0x0100, 5, MAC_AGEING_SECONDS)).toBe(1);
  expect(table.lookup(0x0101, 5, 1)).toBe(UNKNOWN);
  table.learn(0x0100, 5, 2, 50);
  expect(table.lookup(0x0100, 5, 150)).toBe(2);
  expect(table.lookup(0x0100, 5, 150.5)).toBe(UNKNOWN);
});

test('forgets the stations of a port', () => {
  const table = new MacTable();
  table.learn(1, 1, 1, 0);
  table.learn(2, 2, 2, 0);
  table.forget(1);
  expect([table.lookup(1, 1, 0), table.lookup(2, 2, 0)]).toEqual([UNKNOWN, 2]);
});

test('a flood of made-up stations is bounded and dislodges nobody', () => {
  const table = new MacTable(1);
  table.learn(7, -1, 3, 0);
  for (let low = 0; low < 20 * MAC_TABLE_MAX; low++) table.learn(9, low, 4, 1);
  expect(table.entries(1).length).toBe(MAC_TABLE_MAX);
  expect(table.lookup(7, -1, 1)).toBe(3);
  expect(table.learn(9, -5, 4, MAC_AGEING_SECONDS + 2)).toBe(true);
  expect(table.entries(MAC_AGEING_SECONDS + 2)).toEqual([
    { high: 9, low: -5, slot: 4, ageSeconds: 0, fixed: false },
  ]);
});

test('a fixed station stays where it is and never ages', () => {
  const table = new MacTable();
  table.fix(3, 3, 0);
  expect(table.learn(3, 3, 1, 5)).toBe(false);
  expect(table.learn(3, 3, 0, 5)).toBe(true);
  expect(table.lookup(3, 3, 1e9)).toBe(0);
});
