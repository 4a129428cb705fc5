import { expect, test } from 'vitest';
import { Places } from './places.ts';

test('places are told apart by offset and mode, and are gone once taken', () => {
  const places = new Places();
  for (const at of [0, 7, 8, 4095, 4096, 0xffff_ffff]) places.add(at, 2);
  expect(places.delete(9, 2)).toBe(false);
  expect(places.delete(7, 10)).toBe(false);
  for (const at of [0, 7, 8, 4095, 4096, 0xffff_ffff]) {
    expect(places.delete(at, 2)).toBe(true);
    expect(places.delete(at, 2)).toBe(false);
  }
  places.add(5, 2);
  places.clear();
  expect(places.delete(5, 2)).toBe(false);
});
