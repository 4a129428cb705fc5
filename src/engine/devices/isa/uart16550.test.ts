import { beforeEach, expect, test } from 'vitest';
import type { CharPort } from '../../backends.ts';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { Uart16550 } from './uart16550.ts';

const BASE = 0x3f8;
const IRQ_VECTOR = 0x24;
const LSR = { DATA: 1, OVERRUN: 2, BREAK: 0x10, EMPTY: 0x60, FIFO_ERROR: 0x80 } as const;

class Host implements CharPort {
  readonly sent: number[] = [];
  readonly waiting: number[] = [];
  #ready: () => void = () => {};
  output(bytes: Uint8Array): void {
    this.sent.push(...bytes);
  }
  input(max: number): Uint8Array {
    return Uint8Array.from(this.waiting.splice(0, max));
  }
  onReadable(ready: () => void): void {
    this.#ready = ready;
  }
  type(text: string): void {
    this.waiting.push(...new TextEncoder().encode(text));
    this.#ready();
  }
}

let board: TestBoard;
let host: Host;
let uart: Uart16550;
const read = (register: number): number => board.in(BASE + register);
const write = (register: number, value: number): void => board.out(BASE + register, value);
/** The interrupt's vector if one is there, finished at once. */
function interrupt(): number | undefined {
  if (!board.interrupts.pending) return undefined;
  const vector = board.interrupts.acknowledge();
  board.out(0x20, 0x20);
  return vector;
}
function readAll(): string {
  let text = '';
  while ((read(5) & LSR.DATA) !== 0) text += String.fromCharCode(read(0));
  return text;
}

beforeEach(() => {
  board = new TestBoard();
  board.initPic();
  host = new Host();
  uart = new Uart16550(board, 'ttyS0', BASE, board.irq(4), host);
  write(3, 0x83);
  write(0, 1);
  write(1, 0);
  write(3, 0x03);
  write(2, 0x81); // FIFOs on, interrupt at 8 bytes
  write(4, 0x0b); // DTR, RTS, OUT2
});

test('what is sent arrives when the slice ends', () => {
  for (const byte of [0x68, 0x69]) write(0, byte);
  expect(host.sent).toEqual([]);
  uart.flush();
  expect(host.sent).toEqual([0x68, 0x69]);
  expect(read(5)).toBe(LSR.EMPTY);
});

test('the divisor latch and the scratch register keep what is written', () => {
  write(3, 0x83);
  write(0, 0x34);
  write(1, 0x12);
  expect([read(0), read(1)]).toEqual([0x34, 0x12]);
  write(3, 0x03);
  write(7, 0x5a);
  expect([read(1), read(7)]).toEqual([0x00, 0x5a]);
});

test('an empty transmitter interrupts when enabled, until IIR is read, and after each byte', () => {
  write(1, 0x02);
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0xc2);
  expect(read(2)).toBe(0xc1);
  expect(interrupt()).toBeUndefined();
  write(0, 0x41);
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0xc2);
});

test('OUT2 gates the interrupt', () => {
  write(4, 0x03);
  write(1, 0x02);
  expect(interrupt()).toBeUndefined();
  write(4, 0x0b);
  expect(interrupt()).toBe(IRQ_VECTOR);
});

test('the FIFO interrupts at its trigger level, and below it after four character times', () => {
  write(1, 0x01);
  host.type('12345678');
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0xc4);
  expect(readAll()).toBe('12345678');
  host.type('abc');
  expect(interrupt()).toBeUndefined();
  board.advance(400_000); // 40 bits at 115,200 per second: 347 µs
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0xcc);
  expect(readAll()).toBe('abc');
  expect(read(2)).toBe(0xc1);
});

test('input waits at the host until the FIFO has room, and none is lost', () => {
  const text = `${'x'.repeat(40)}end`;
  host.type(text);
  expect(host.waiting).toHaveLength(text.length - 16);
  expect(readAll()).toBe(text);
});

test('without FIFOs one byte at a time is taken', () => {
  write(2, 0);
  write(1, 0x01);
  host.type('ab');
  expect(host.waiting).toHaveLength(1);
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0x04);
  expect(readAll()).toBe('ab');
});

test('a guest that lowers RTS is sent nothing until it raises it again', () => {
  write(4, 0x09);
  host.type('later');
  expect(read(5) & LSR.DATA).toBe(0);
  write(4, 0x0b);
  expect(readAll()).toBe('later');
});

test('a break is a NUL with a flag, ahead of waiting input, and the letter follows', () => {
  write(1, 0x05);
  uart.sendBreak(new TextEncoder().encode('h'));
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0xc6);
  expect(read(5)).toBe(LSR.EMPTY | LSR.DATA | LSR.BREAK | LSR.FIFO_ERROR);
  expect(read(5) & LSR.BREAK).toBe(0);
  expect(read(0)).toBe(0);
  expect(read(5)).toBe(LSR.EMPTY | LSR.DATA);
  expect(read(0)).toBe('h'.charCodeAt(0));
});

test('loopback returns bytes and modem lines, and overruns a full FIFO', () => {
  write(4, 0x1a); // loop, OUT2, RTS
  expect(read(6) & 0xf0).toBe(0x90);
  for (let i = 0; i < 17; i++) write(0, i);
  expect(read(5) & LSR.OVERRUN).toBe(LSR.OVERRUN);
  expect(read(5) & LSR.OVERRUN).toBe(0);
  expect(read(0)).toBe(0);
  uart.flush();
  expect(host.sent).toEqual([]);
});

test('the modem status shows a connected peer, and changes interrupt once', () => {
  expect(read(6)).toBe(0xb0);
  write(4, 0x18);
  write(4, 0x08);
  write(1, 0x08);
  expect(interrupt()).toBe(IRQ_VECTOR);
  expect(read(2)).toBe(0xc0);
  expect(read(6) & 0x0f).not.toBe(0);
  expect(read(6) & 0x0f).toBe(0);
  expect(read(2)).toBe(0xc1);
});

test('it is found to be a 16550A, and neither a 16450 nor a 16750', () => {
  write(2, 0xe7);
  expect(read(2) & 0xe0).toBe(0xc0);
  write(2, 0);
  expect(read(2) & 0xc0).toBe(0);
});
