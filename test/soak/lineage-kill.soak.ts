import { expect, it } from 'vitest';
import { killRounds } from '../api/support/lineage-kills.ts';

it('a daemon that is killed 200 times amid snapshots, merges, rollbacks and rebases loses nothing', async () => {
  await expect(killRounds(200, 2)).resolves.toBeUndefined();
}, 3_600_000);
