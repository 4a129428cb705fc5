import { expect, it } from 'vitest';
import { killRounds } from './support/lineage-kills.ts';

it('a daemon that is killed amid snapshots, merges, rollbacks, rebases and backups loses nothing', async () => {
  await expect(killRounds(6, 1)).resolves.toBeUndefined();
}, 300_000);
