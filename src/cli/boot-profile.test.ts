/** The profile's table, and the look-up of symbols. */
import { describe, expect, it } from 'vitest';
import { Profiler } from '../engine/profiler.ts';
import { parseSystemMap, profileReport, symbolOf } from './boot-profile.ts';

const MAP = `ffffffff81000100 T second
ffffffff81000000 T first
ffffffff81000180 D data
ffffffff81000200 t third
`;

describe('a profile', () => {
  const symbols = parseSystemMap(MAP);

  it('finds the function that an address is in', () => {
    const names = [
      0xffffffff80ffffffn,
      0xffffffff81000000n,
      0xffffffff810001ffn,
      0xffffffff81000200n,
      0x401000n,
    ];
    expect(names.map((rip) => symbolOf(symbols, rip))).toEqual([
      undefined,
      'first',
      'second',
      'third',
      undefined,
    ]);
  });

  it('adds up what is in one function, and shows addresses of user programs as they are', () => {
    const profiler = new Profiler();
    profiler.sample(0xffffffff81000104n, 200);
    profiler.sample(0xffffffff81000110n, 100);
    profiler.sample(0xffffffff81000110n, 100);
    profiler.sample(0x401000n, 600);
    expect(profileReport(profiler.places, symbols)).toBe(
      [
        'percent   samples  place',
        '  60.00         1  0x0000000000401000',
        '  40.00         3  second',
        '',
      ].join('\n'),
    );
  });
});
