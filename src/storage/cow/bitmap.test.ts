import { describe, expect, it } from 'vitest';
import { randomNumbers } from '../../../test/support/storage.ts';
import { CowBitmap, SECTORS_PER_PAGE } from './bitmap.ts';

const PAGES = 3;
const SECTORS = PAGES * SECTORS_PER_PAGE;

describe('CowBitmap', () => {
  it.each([1, 2, 3])('has the bits of a list, and tells how many are new (seed %d)', (seed) => {
    const random = randomNumbers(seed);
    const stored = random(2) * 0xff;
    const bitmap = new CowBitmap(SECTORS, (page, into) => into.fill(page === 1 ? stored : 0b0110_1001));
    const bits = Uint8Array.from({ length: SECTORS }, (_, sector) =>
      Math.floor(sector / SECTORS_PER_PAGE) === 1 ? stored & 1 : (0b0110_1001 >> (sector & 7)) & 1,
    );
    let added = 0;
    for (let round = 0; round < 60; round++) {
      const from = random(SECTORS);
      const to = Math.min(SECTORS, from + 1 + random(round % 3 === 0 ? 20 : SECTORS));
      if (round % 5 === 4) {
        bitmap.clearRange(from, to);
        bits.fill(0, from, to);
      } else {
        const clear = bits.subarray(from, to).filter((bit) => bit === 0).length;
        bits.fill(1, from, to);
        expect(bitmap.setRange(from, to)).toBe(clear);
        added += clear;
      }
      const wrong = bits.findIndex((bit, sector) => bitmap.isSet(sector) !== (bit === 1));
      expect(wrong).toBe(-1);
    }
    expect(added).toBeGreaterThan(0);
  });
});
