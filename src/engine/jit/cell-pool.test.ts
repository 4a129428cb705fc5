import { expect, it } from 'vitest';
import { CellPool } from './cell-pool.ts';

it('gives cells until all are taken, and those that were given back again', () => {
  const pool = new CellPool(1000, 80, 3);
  expect([pool.take(), pool.take()]).toEqual([1000, 1080]);
  expect(pool.takeMany(2)).toBeUndefined();
  pool.give(1000);
  expect(pool.available).toBe(2);
  expect(pool.takeMany(2)).toEqual([1000, 1160]);
  expect([pool.take(), pool.available]).toEqual([undefined, 0]);
  pool.clear();
  expect([pool.available, pool.take()]).toEqual([3, 1000]);
});
