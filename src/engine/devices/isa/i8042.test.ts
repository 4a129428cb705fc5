import { beforeEach, expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { I8042 } from './i8042.ts';

let board: TestBoard;
let controller: I8042;
function readAll(): number[] {
  const bytes: number[] = [];
  while ((board.in(0x64) & 1) !== 0) bytes.push(board.in(0x60));
  return bytes;
}

beforeEach(() => {
  board = new TestBoard();
  controller = new I8042(board);
  board.initPic();
});

test('the controller passes its self-test and has no auxiliary port', () => {
  board.out(0x64, 0xaa);
  expect(readAll()).toEqual([0x55]);
  board.out(0x64, 0xa9);
  expect(readAll()).toEqual([0x01]);
  board.out(0x64, 0xa8);
  board.out(0x64, 0x20);
  expect(readAll()[0]! & 0x20).toBe(0x20);
});

test('the keyboard answers what a driver asks at start', () => {
  const ask = (byte: number): number[] => {
    board.out(0x60, byte);
    return readAll();
  };
  board.out(0x64, 0x60);
  board.out(0x60, 0x00); // no translation, no interrupt
  expect(ask(0xff)).toEqual([0xfa, 0xaa]);
  expect(ask(0xf2)).toEqual([0xfa, 0xab, 0x83]);
  expect(ask(0xed)).toEqual([0xfa]);
  expect(ask(0x02)).toEqual([0xfa]);
  expect(ask(0xee)).toEqual([0xee]);
  expect(ask(0xf0)).toEqual([0xfa]);
  expect(ask(0x00)).toEqual([0xfa, 0x02]);
  expect(ask(0x77)).toEqual([0xfe]);
});

test('Ctrl-Alt-Del arrives in set 1, each byte with an interrupt', () => {
  controller.ctrlAltDelete();
  const bytes: number[] = [];
  while (board.interrupts.pending) {
    expect(board.interrupts.acknowledge()).toBe(0x21);
    bytes.push(board.in(0x60));
    board.out(0x20, 0x20);
  }
  expect(bytes).toEqual([0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d]);
});

test('SysRq with a letter, and a character without a key', () => {
  expect(controller.sysRq('h')).toBe(true);
  expect(readAll()).toEqual([0x38, 0x54, 0x23, 0xa3, 0xd4, 0xb8]);
  expect(controller.sysRq('ü')).toBe(false);
});

test('keys wait while the keyboard is disabled', () => {
  board.out(0x64, 0xad);
  controller.chord([0x1c]);
  expect(readAll()).toEqual([]);
  board.out(0x64, 0xae);
  expect(readAll()).toEqual([0x1e, 0x9e]);
});

test('three ways to reset', () => {
  board.out(0x64, 0xfe);
  board.out(0x92, 0x01);
  board.out(0x64, 0xd1);
  board.out(0x60, 0xfe);
  expect(board.events).toEqual([{ kind: 'reset' }, { kind: 'reset' }, { kind: 'reset' }]);
});

test('a guest that never reads makes nothing grow', () => {
  for (let i = 0; i < 1000; i++) {
    board.out(0x64, 0x20);
    board.out(0x60, 0xf2);
    controller.ctrlAltDelete();
  }
  expect(readAll().length).toBeLessThan(200);
});
