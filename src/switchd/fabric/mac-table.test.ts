import { expect, test } from 'vitest';
import {
  FORGED,
  LEARNED,
  MAC_AGEING_SECONDS,
  MAC_TABLE_MAX,
  MacTable,
  TOO_MANY,
  UNKNOWN,
} from './mac-table.ts';

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
  expect(table.learn(9, -5, 4, MAC_AGEING_SECONDS + 2)).toBe(LEARNED);
  expect(table.entries(MAC_AGEING_SECONDS + 2)).toEqual([
    { high: 9, low: -5, slot: 4, ageSeconds: 0, fixed: false },
  ]);
});

test('a fixed station stays where it is and never ages', () => {
  const table = new MacTable();
  table.fix(3, 3, 0);
  expect(table.learn(3, 3, 1, 5)).toBe(FORGED);
  expect(table.learn(3, 3, 0, 5)).toBe(LEARNED);
  expect(table.lookup(3, 3, 1e9)).toBe(0);
});

test('a port has no more stations than it may, and others only when some have aged', () => {
  const table = new MacTable();
  table.setLimit(1, 2);
  expect([1, 2, 3].map((low) => table.learn(5, low, 1, 0))).toEqual([LEARNED, LEARNED, TOO_MANY]);
  table.learn(5, 9, 2, 0);
  expect(table.learn(5, 9, 1, 1)).toBe(TOO_MANY);
  expect(table.lookup(5, 9, 1)).toBe(2);
  const later = MAC_AGEING_SECONDS + 10;
  expect(table.learn(5, 2, 1, MAC_AGEING_SECONDS)).toBe(LEARNED);
  expect([3, 4].map((low) => table.learn(5, low, 1, later))).toEqual([LEARNED, TOO_MANY]);
  table.forget(1);
  expect(table.learn(5, 4, 1, later)).toBe(LEARNED);
});

test('the same address in another VLAN is another station', () => {
  const table = new MacTable();
  table.learn((1 << 16) | 3, 3, 1, 0);
  table.learn((2 << 16) | 3, 3, 2, 0);
  expect([table.lookup((1 << 16) | 3, 3, 0), table.lookup((2 << 16) | 3, 3, 0)]).toEqual([1, 2]);
});
