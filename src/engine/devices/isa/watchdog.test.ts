import { expect, test } from 'vitest';
import { TestBoard } from '../../machine/testing/test-board.ts';
import { WATCHDOG, WATCHDOG_PERIOD_MS, WATCHDOG_PORT, Watchdog } from './watchdog.ts';

const PERIOD_NS = WATCHDOG_PERIOD_MS * 1e6;

function board() {
  const made = new TestBoard();
  const device = new Watchdog(made);
  const write = (register: number, value: number): void =>
    made.ports.write(WATCHDOG_PORT + register, 4, value);
  const read = (register: number): number => made.ports.read(WATCHDOG_PORT + register, 4);
  return { made, device, write, read };
}

test('tells once of a guest that has set it running and does not reset it in time', () => {
  const { made, write, read } = board();
  made.advance(1e12);
  expect(made.events).toEqual([]);
  write(WATCHDOG.COUNT, 10);
  write(WATCHDOG.STATE, 1);
  expect([read(WATCHDOG.STATE), read(WATCHDOG.LEFT)]).toEqual([1, 10]);
  made.advance(9 * PERIOD_NS);
  expect(read(WATCHDOG.LEFT)).toBe(1);
  write(WATCHDOG.RESET, 1);
  made.advance(9 * PERIOD_NS);
  expect(made.events).toEqual([]);
  made.advance(2 * PERIOD_NS);
  expect(made.events).toEqual([{ kind: 'hung' }]);
  made.advance(1000 * PERIOD_NS);
  expect(made.events).toHaveLength(1);
  expect(read(WATCHDOG.STATE)).toBe(0);
});

test('is silent when it is stopped, and after a reset of the machine', () => {
  const { made, device, write } = board();
  write(WATCHDOG.STATE, 1);
  write(WATCHDOG.STATE, 0);
  made.advance(1e15);
  write(WATCHDOG.STATE, 1);
  device.reset();
  made.advance(1e15);
  expect(made.events).toEqual([]);
});
