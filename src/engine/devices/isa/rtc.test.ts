import { beforeEach, expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { Rtc } from './rtc.ts';

const MIB = 1 << 20;
const SECOND = 1_000_000_000;

let board: TestBoard;
const get = (index: number): number => {
  board.out(0x70, index);
  return board.in(0x71);
};
const put = (index: number, value: number): void => {
  board.out(0x70, index);
  board.out(0x71, value);
};
/** Acknowledges an interrupt of the RTC if there is one. */
function interrupted(): boolean {
  if (!board.interrupts.pending) return false;
  expect(board.interrupts.acknowledge()).toBe(0x28);
  board.out(0xa0, 0x20);
  board.out(0x20, 0x20);
  return true;
}

beforeEach(() => {
  board = new TestBoard();
  new Rtc(board, 8 * MIB);
  board.initPic();
});

test('it tells the time in BCD, in binary and in 12 hours', () => {
  board.advance(61 * SECOND);
  expect([9, 8, 7, 4, 2, 0, 0x32].map(get)).toEqual([0x26, 0x11, 0x23, 0x19, 0x01, 0x01, 0x20]);
  put(0x0b, 0x06);
  expect([9, 8, 7, 4, 2, 0, 6].map(get)).toEqual([26, 11, 23, 19, 1, 1, 2]);
  put(0x0b, 0x00);
  expect(get(4)).toBe(0x87);
});

test('the guest can set it, and it goes on from there', () => {
  put(0x0b, 0x82);
  put(9, 0x30);
  put(8, 0x01);
  put(7, 0x02);
  put(4, 0x03);
  put(2, 0x04);
  put(0, 0x05);
  board.advance(10 * SECOND);
  expect(get(0)).toBe(0x05);
  put(0x0b, 0x02);
  board.advance(2 * SECOND);
  expect([9, 8, 7, 4, 2, 0].map(get)).toEqual([0x30, 0x01, 0x02, 0x03, 0x04, 0x07]);
});

test('the update interrupt comes each second, and reading C acknowledges it', () => {
  put(0x0b, 0x12);
  board.advance(SECOND - 1);
  expect(interrupted()).toBe(false);
  board.advance(1);
  expect(interrupted()).toBe(true);
  board.advance(SECOND);
  expect(interrupted()).toBe(false);
  expect(get(0x0c)).toBe(0x90);
  expect(get(0x0c)).toBe(0x00);
  board.advance(SECOND);
  expect(interrupted()).toBe(true);
});

test('the alarm fires at its time, with wildcards every time', () => {
  put(1, 0x05);
  put(3, 0xff);
  put(5, 0xff);
  put(0x0b, 0x22);
  board.advance(4 * SECOND);
  expect(interrupted()).toBe(false);
  board.advance(SECOND);
  expect(interrupted()).toBe(true);
  expect(get(0x0c) & 0xa0).toBe(0xa0);
  board.advance(60 * SECOND);
  expect(interrupted()).toBe(true);
});

test('the periodic interrupt has the programmed rate', () => {
  put(0x0a, 0x2f); // 2 Hz
  put(0x0b, 0x42);
  let count = 0;
  for (let i = 0; i < 100; i++) {
    board.advance(SECOND / 10);
    if (interrupted()) count++;
    get(0x0c);
  }
  expect(count).toBe(20);
});

test('update in progress shows before the second ends', () => {
  expect(get(0x0a)).toBe(0x26);
  board.advance(SECOND - 100_000);
  expect(get(0x0a)).toBe(0xa6);
});

test('the CMOS memory tells the size of RAM, and keeps the rest', () => {
  expect(get(0x15) | (get(0x16) << 8)).toBe(640);
  expect(get(0x17) | (get(0x18) << 8)).toBe(7 * 1024);
  expect(get(0x34) | (get(0x35) << 8)).toBe(0);
  put(0x40, 0xa7);
  expect(get(0x40)).toBe(0xa7);
});
