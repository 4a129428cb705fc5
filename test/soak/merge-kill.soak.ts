import { expect, it } from 'vitest';
import { mergeKillRounds } from '../compat/merge-kills.ts';

it('a merge into the backing file that is killed 200 times comes to its end', async () => {
  expect(await mergeKillRounds(200, 2)).toBeGreaterThan(50);
}, 3_600_000);
