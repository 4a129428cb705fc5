import { expect, it } from 'vitest';
import { killRounds } from '../api/support/lineage-kills.ts';

/** 200 in all, in stretches that can be run by themselves. */
it.each(Array.from({ length: 10 }, (_, index) => index + 2))(
  'a daemon that is killed 20 times amid snapshots, merges, rollbacks, rebases and backups loses nothing (stretch %d)',
  async (seed) => {
    await expect(killRounds(20, seed)).resolves.toBeUndefined();
  },
  3_600_000,
);
