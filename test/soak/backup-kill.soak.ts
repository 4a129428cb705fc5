import { expect, it } from 'vitest';
import { backupKillRounds } from '../../src/storage/testing/backup-kills.ts';

/** 200 in all, in stretches that can be run by themselves. */
it.each([2, 3, 4, 5])(
  'a process that is killed 50 times amid backups and the collection of garbage leaves every backup whole (stretch %d)',
  async (seed) => {
    expect(await backupKillRounds(50, seed)).toBeGreaterThan(0);
  },
  3_600_000,
);
