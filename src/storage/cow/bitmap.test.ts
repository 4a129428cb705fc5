import { describe, expect, it } from 'vitest';
import { randomNumbers } from '../../../test/support/storage.ts';
import { CowBitmap, SECTORS_PER_PAGE } from './bitmap.ts';

const PAGES = 3;
const SECTORS = PAGES * SECTORS_PER_PAGE;

/** Full pages of a list of bits. */
function fullPages(bits: Uint8Array): number {
  let full = 0;
  for (let page = 0; page < PAGES; page++) {
    const of = bits.subarray(page * SECTORS_PER_PAGE, (page + 1) * SECTORS_PER_PAGE);
    if (of.every((bit) => bit === 1)) full++;
  }
  return full;
}

describe('CowBitmap', () => {
  it.each([1, 2, 3])('has the bits of a list, and tells when a page is full (seed %d)', (seed) => {
    const random = randomNumbers(seed);
    const stored = random(2) * 0xff;
    const bitmap = new CowBitmap(SECTORS, (page, into) => into.fill(page === 1 ? stored : 0b0110_1001));
    const bits = Uint8Array.from({ length: SECTORS }, (_, sector) =>
      Math.floor(sector / SECTORS_PER_PAGE) === 1 ? stored & 1 : (0b0110_1001 >> (sector & 7)) & 1,
    );
    let filled = 0;
    for (let round = 0; round < 60; round++) {
      const from = random(SECTORS);
      const to = Math.min(SECTORS, from + 1 + random(round % 3 === 0 ? 20 : SECTORS));
      if (round % 5 === 4) {
        bitmap.clearRange(from, to);
        bits.fill(0, from, to);
      } else {
        const before = fullPages(bits);
        bits.fill(1, from, to);
        const isFilled = fullPages(bits) > before;
        expect(bitmap.setRange(from, to)).toBe(isFilled);
        if (isFilled) filled++;
      }
      const wrong = bits.findIndex((bit, sector) => bitmap.isSet(sector) !== (bit === 1));
      expect(wrong).toBe(-1);
    }
    expect(filled).toBeGreaterThan(0);
  });
});
