import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { DiskLimits } from '../contracts/machine.ts';
import { Throttle } from './throttle.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }));
afterEach(() => void vi.useRealTimers());

/** Asks for `count` requests at once; `passed` has the numbers of those that were let go, in order. */
function ask(throttle: Throttle, count: number, bytes = 4096): { readonly passed: number[] } {
  const passed: number[] = [];
  for (let number = 0; number < count; number++) {
    const wait = throttle.admit(bytes);
    if (wait === undefined) passed.push(number);
    else void wait.then(() => passed.push(number));
  }
  return { passed };
}

describe('a limit', () => {
  it.each<[string, DiskLimits, number, number]>([
    ['of requests', { iops: 100, iopsBurst: 10 }, 10, 100],
    ['of bytes', { bytesPerSecond: 409_600, bytesBurst: 40_960 }, 10, 100],
    ['of both, of which the lower counts', { iops: 1000, bytesPerSecond: 409_600 }, 10, 100],
    ['without a burst has a tenth of a second', { iops: 1000 }, 100, 1000],
  ])(
    '%s lets the burst go at once, and its rate per second after that',
    async (_what, limits, atOnce, rate) => {
      const { passed } = ask(new Throttle(limits), atOnce + 3 * rate);
      expect(passed).toHaveLength(atOnce);
      for (const seconds of [1, 2]) {
        await vi.advanceTimersByTimeAsync(1000);
        expect(passed.length).toBeGreaterThan(atOnce + seconds * rate * 0.98 - 2);
        expect(passed.length).toBeLessThanOrEqual(atOnce + seconds * rate + 1);
      }
      await vi.advanceTimersByTimeAsync(2000);
      expect(passed).toEqual(Array.from({ length: atOnce + 3 * rate }, (_, number) => number));
    },
  );

  it('counts what waited, and how long', async () => {
    const throttle = new Throttle({ iops: 10, iopsBurst: 1 });
    ask(throttle, 3);
    expect(throttle.waiting).toBe(2);
    await vi.advanceTimersByTimeAsync(1000);
    expect(throttle).toMatchObject({ delayed: 2, waiting: 0 });
    expect(throttle.delayedMs).toBeGreaterThanOrEqual(300);
    expect(throttle.delayedMs).toBeLessThan(320);
  });

  it('lets a request larger than the burst go, which those after it wait for', async () => {
    const { passed } = ask(new Throttle({ bytesPerSecond: 1 << 20, bytesBurst: 4096 }), 2, 1 << 20);
    expect(passed).toEqual([0]);
    await vi.advanceTimersByTimeAsync(900);
    expect(passed).toEqual([0]);
    await vi.advanceTimersByTimeAsync(200);
    expect(passed).toEqual([0, 1]);
  });

  it('does not save up more than the burst', async () => {
    const throttle = new Throttle({ iops: 100, iopsBurst: 5 });
    await vi.advanceTimersByTimeAsync(60_000);
    expect(ask(throttle, 20).passed).toHaveLength(5);
  });

  it('can be changed and taken away, also for what waits', async () => {
    const throttle = new Throttle({ iops: 1, iopsBurst: 1 });
    const { passed } = ask(throttle, 200);
    expect(passed).toHaveLength(1);
    throttle.set({ iops: 100, iopsBurst: 50 });
    await vi.advanceTimersByTimeAsync(0);
    expect(passed).toHaveLength(51);
    throttle.set({});
    await vi.advanceTimersByTimeAsync(0);
    expect(passed).toHaveLength(200);
    expect(throttle.admit(1 << 30)).toBeUndefined();
  });
});
