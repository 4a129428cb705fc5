/** Shares and cloud-init settings of VMs that are made after others. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startHarness, tempDir } from './support/harness.ts';

const CLOUD_INIT = { user_data: '#cloud-config\nhostname: web\n', seed_disk: true };

async function withVm() {
  const allowed = tempDir();
  const api = await startHarness({ allowPaths: [allowed] });
  const share = { tag: 'src', path: allowed, read_only: true };
  await api.createVm({ name: 'web', shares: [share], cloud_init: CLOUD_INIT, jit_code_bytes: 1 << 20 });
  const { shares, cloud_init, jit_code_bytes } = await api.vm('web');
  return { allowed, api, settings: { shares, cloud_init, jit_code_bytes } };
}

describe('shares and cloud-init settings', () => {
  it('are those of the snapshot in a clone, and of the backup in a restored VM', async () => {
    const { allowed, api, settings } = await withVm();
    await api.post('/v1/vms/web/snapshots', { name: 'one' }).expect(201);
    await api.operate('/v1/vms/web/backups', { name: 'two' });
    await api.delete('/v1/vms/web/shares/src').expect(200);
    await api.patch('/v1/vms/web', { cloud_init: null }).expect(200);
    await api.post('/v1/vms/web/snapshots/one/clone', { name: 'clone' }).expect(201);
    await api.operate('/v1/backups/two/restore', { name: 'restored' });
    for (const name of ['clone', 'restored']) expect(await api.vm(name)).toMatchObject(settings);
    expect(settings).toMatchObject({ shares: [{ tag: 'src', path: allowed }], cloud_init: CLOUD_INIT });
    expect(await api.vm('web')).toMatchObject({ shares: [], cloud_init: null });
    // A folder that is no longer there is told by a start.
    fs.rmSync(allowed, { recursive: true });
    const started = await api.operate('/v1/vms/clone/start');
    expect(started).toMatchObject({ status: 'failed', error: { field: 'shares.src.path' } });
  });

  it('are in the backup itself', async () => {
    const first = await withVm();
    await first.api.operate('/v1/vms/web/backups', { name: 'two' });
    const store = path.join(tempDir(), 'store');
    fs.cpSync(path.join(first.api.home, 'backups/store'), store, { recursive: true });
    const api = await startHarness({ allowPaths: [path.dirname(store), first.allowed] });
    await api
      .post('/v1/backup-destinations', { name: 'found', kind: 'directory', location: store })
      .expect(201);
    await api.operate('/v1/backup-destinations/found/rebuild');
    expect(await api.operate('/v1/backups/two/restore', { name: 'web' })).toMatchObject({ error: null });
    expect(await api.vm('web')).toMatchObject(first.settings);
  });
});
