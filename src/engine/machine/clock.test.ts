import { expect, test } from 'vitest';
import { MachineClock } from './clock.ts';
import { TestTime } from './testing/test-board.ts';

function clockAt(ns: number): { time: TestTime; clock: MachineClock } {
  const time = new TestTime();
  time.ns = ns;
  return { time, clock: new MachineClock(time) };
}

test('timers fire in order of time, and canceled ones never', () => {
  const { time, clock } = clockAt(0);
  const fired: number[] = [];
  const handles = [70, 10, 50, 30, 90, 20, 60].map((at) => clock.at(at, () => fired.push(at)));
  handles[2]!.cancel();
  handles[2]!.cancel();
  expect(clock.nextDeadlineNs).toBe(10);
  time.ns = 65;
  clock.fireDue();
  expect(fired).toEqual([10, 20, 30, 60]);
  expect(clock.nextDeadlineNs).toBe(70);
  time.ns = 1000;
  clock.fireDue();
  expect(fired).toEqual([10, 20, 30, 60, 70, 90]);
  expect(clock.nextDeadlineNs).toBe(Number.POSITIVE_INFINITY);
});

test('a thousand timers, half of them canceled, come out sorted', () => {
  const { time, clock } = clockAt(0);
  const fired: number[] = [];
  for (let i = 0; i < 1000; i++) {
    const at = (i * 7919) % 1009;
    const handle = clock.at(at, () => fired.push(at));
    if (i % 2 === 1) handle.cancel();
  }
  time.ns = 2000;
  clock.fireDue();
  expect(fired).toHaveLength(500);
  expect(fired).toEqual([...fired].sort((a, b) => a - b));
});

test('time stands still while the machine is stopped', () => {
  const { time, clock } = clockAt(500);
  time.ns = 600;
  clock.stop();
  time.ns = 10_000;
  expect(clock.nowNs()).toBe(100);
  clock.resume();
  time.ns = 10_005;
  expect(clock.nowNs()).toBe(105);
});
