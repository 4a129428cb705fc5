import { expect, it } from 'vitest';
import { backupKillRounds } from '../../src/storage/testing/backup-kills.ts';

it('a process that is killed 200 times amid backups and the collection of garbage leaves every backup whole', async () => {
  expect(await backupKillRounds(200, 2)).toBeGreaterThan(0);
}, 3_600_000);
