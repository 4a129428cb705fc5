/**
 * As test/programs, for long: UMLAUT_PROGRAMS_COUNT programs for each setting, from UMLAUT_PROGRAMS_SEED on, each
 * of up to UMLAUT_PROGRAMS_INSTRUCTIONS.
 */
import { describe, expect, test } from 'vitest';
import { campaign, range } from '../programs/campaign.ts';
import { SETTINGS } from '../programs/settings.ts';

const FIRST = Number(process.env.UMLAUT_PROGRAMS_SEED ?? 10_000);
const COUNT = Number(process.env.UMLAUT_PROGRAMS_COUNT ?? 1500);
const INSTRUCTIONS = Number(process.env.UMLAUT_PROGRAMS_INSTRUCTIONS ?? 40_000);
const BATCH = 100;
const TIMEOUT_MS = 3_600_000;

describe('generated programs', () => {
  test.each(Object.entries(SETTINGS))('%s', { timeout: TIMEOUT_MS }, (setting, options) => {
    for (let done = 0; done < COUNT; done += BATCH) {
      const seeds = range(FIRST + done, Math.min(BATCH, COUNT - done));
      const { failures, instructions } = campaign(setting, options, seeds, INSTRUCTIONS);
      console.log(`${setting}: ${done + BATCH} programs, ${instructions} instructions in the last ${BATCH}`);
      expect(failures.join('\n\n')).toBe('');
    }
  });
});
