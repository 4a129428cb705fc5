/**
 * Generated programs run in the interpreter and the compiler alike: registers, flags, memory and counts are compared
 * whenever the processor under test stops. Branches, loops, calls, faults, code and translations that change.
 * UMLAUT_PROGRAMS_SEED (the first) and UMLAUT_PROGRAMS_COUNT choose others; replay.ts makes one that fails small.
 */
import { describe, expect, test } from 'vitest';
import { campaign, range } from './campaign.ts';
import { SETTINGS } from './settings.ts';

const FIRST = Number(process.env.UMLAUT_PROGRAMS_SEED ?? 1);
const COUNT = process.env.UMLAUT_PROGRAMS_COUNT;
const INSTRUCTIONS = 8000;
const TIMEOUT_MS = 300_000;

/** Programs for each setting: as many as run in some seconds. */
const COUNTS: Readonly<Record<string, number>> = {
  interpreter: 30,
  'interpreter, small TLB': 30,
  compiler: 250,
  'compiler, small TLB': 100,
  'compiler, room for a few regions': 50,
  'compiler, room for few micro-ops': 60,
  'interpreter, room for few micro-ops': 20,
  'compiler, where warm': 200,
  default: 30,
};

describe('generated programs', () => {
  test.each(Object.entries(SETTINGS))('%s', { timeout: TIMEOUT_MS }, (setting, options) => {
    const count = Number(COUNT ?? COUNTS[setting]);
    const { failures, comparisons, regions } = campaign(setting, options, range(FIRST, count), INSTRUCTIONS);
    expect(failures.join('\n\n')).toBe('');
    // each program stops many times, and the compiler has work
    expect(comparisons).toBeGreaterThan(count * 5);
    if (setting.startsWith('compiler')) expect(regions).toBeGreaterThan(count);
    if (setting.startsWith('interpreter')) expect(regions).toBe(0);
  });
});
