import { beforeEach, expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { Pit } from './pit.ts';

const HZ = 1_193_182;
const ticks = (count: number): number => Math.ceil((count * 1e9) / HZ) + 1;

let board: TestBoard;
const pending = (): boolean => board.interrupts.pending;
function acknowledge(): number {
  const vector = board.interrupts.acknowledge();
  board.out(0x20, 0x20);
  return vector;
}
function load(channel: number, mode: number, count: number): void {
  board.out(0x43, (channel << 6) | 0x30 | (mode << 1));
  board.out(0x40 + channel, count & 0xff);
  board.out(0x40 + channel, count >>> 8);
}
function count(channel: number): number {
  board.out(0x43, channel << 6);
  return board.in(0x40 + channel) | (board.in(0x40 + channel) << 8);
}

beforeEach(() => {
  board = new TestBoard();
  new Pit(board);
  board.initPic();
});

test('mode 2 interrupts at its rate', () => {
  load(0, 2, 11_932); // 100 Hz
  let interrupts = 0;
  for (let ms = 0; ms < 1000; ms++) {
    board.advance(1_000_000);
    if (pending() && acknowledge() === 0x20) interrupts++;
  }
  expect(interrupts).toBeGreaterThanOrEqual(99);
  expect(interrupts).toBeLessThanOrEqual(100);
});

test('mode 0 interrupts once, and mode 4 too', () => {
  for (const mode of [0, 4]) {
    load(0, mode, 1000);
    while (pending()) acknowledge();
    board.advance(ticks(990));
    expect(pending()).toBe(false);
    board.advance(ticks(11));
    expect(acknowledge()).toBe(0x20);
    board.advance(ticks(70_000));
    expect(pending()).toBe(false);
  }
});

test('a latched count stands still, and counts down otherwise', () => {
  load(0, 2, 50_000);
  board.advance(ticks(10_000));
  board.out(0x43, 0x00);
  board.advance(ticks(5000));
  const latched = board.in(0x40) | (board.in(0x40) << 8);
  expect(Math.abs(latched - 40_000)).toBeLessThan(5);
  expect(Math.abs(count(0) - 35_000)).toBeLessThan(5);
});

test('read-back gives status and count of several channels', () => {
  load(0, 3, 0x1000);
  load(2, 0, 0x2000);
  board.out(0x43, 0xc0 | 0x02 | 0x08);
  expect(board.in(0x40) & 0x3f).toBe(0x36);
  expect(board.in(0x42)).toBe(0x30);
});

test('channel 2 runs with its gate, and its output shows at port 0x61', () => {
  board.out(0x61, 0x01);
  load(2, 0, 500);
  expect(board.in(0x61) & 0x20).toBe(0);
  board.advance(ticks(501));
  expect(board.in(0x61) & 0x21).toBe(0x21);
});

test('a BCD count counts in decimal', () => {
  board.out(0x43, 0x35);
  board.out(0x40, 0x00);
  board.out(0x40, 0x10); // 1000
  board.advance(ticks(1));
  board.out(0x43, 0x00);
  expect([board.in(0x40), board.in(0x40)]).toEqual([0x99, 0x09]);
});
