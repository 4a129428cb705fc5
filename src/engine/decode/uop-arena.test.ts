/** Which segment of the arena goes when all are full. */
import { expect, it } from 'vitest';
import { memoryMap } from '../layout.ts';
import { type AddressRange, UopArena } from './uop-arena.ts';

const MIB = 1 << 20;
const map = memoryMap(1 << 20, 16 * MIB);

/** Fills segments up and goes on, `count` times; the starts of those that were forgotten, as numbers of segments. */
function fill(arena: UopArena, count: number): number[] {
  const forgotten: number[] = [];
  const number = ({ start }: AddressRange): number => (start - map.uopArena) / MIB;
  for (let n = 0; n < count; n++) {
    arena.take(arena.free + arena.room);
    arena.advance((range) => forgotten.push(number(range)));
  }
  return forgotten;
}

it('takes fresh segments first, then the oldest', () => {
  const arena = new UopArena(map, 1000);
  expect(fill(arena, 7)).toEqual([]);
  expect(arena.bytes).toBe(7 * MIB);
  expect(fill(arena, 10)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 0, 1]);
  expect(arena.bytes).toBeLessThanOrEqual(8 * MIB);
});

it('opens one more where what goes comes back', () => {
  const arena = new UopArena(map, 1000);
  const decode = (from: number): void => {
    for (let n = 0; n < 1000; n++) arena.noteBlock((from + n) * 64);
  };
  for (let n = 0; n < 8; n++) {
    decode(n * 1000);
    fill(arena, 1);
  }
  decode(50_000);
  expect(fill(arena, 1)).toEqual([1]);
  decode(0);
  expect(fill(arena, 1)).toEqual([]);
  expect(arena.bytes).toBe(8 * MIB);
});

it('does not grow for code that is written over', () => {
  const arena = new UopArena(map, 1000);
  let forgotten = 0;
  for (let n = 0; n < 40; n++) {
    for (let block = 0; block < 1000; block++) arena.noteBlock((block % 50) * 64);
    forgotten += fill(arena, 1).length;
  }
  expect(forgotten).toBe(33);
  expect(arena.bytes).toBeLessThanOrEqual(8 * MIB);
});
