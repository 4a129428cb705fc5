import { expect, it } from 'vitest';
import { backupKillRounds } from './testing/backup-kills.ts';

it('a process that is killed amid backups and the collection of garbage leaves every backup whole', async () => {
  expect(await backupKillRounds(4, 1)).toBeGreaterThan(0);
}, 120_000);
