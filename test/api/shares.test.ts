import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startHarness, tempDir } from './support/harness.ts';

describe('shares', () => {
  it('are given to a VM, shown, handed to its machine, and taken away', async () => {
    const allowed = tempDir();
    const inner = path.join(allowed, 'inner');
    fs.mkdirSync(inner);
    const api = await startHarness({ allowPaths: [allowed] });
    await api.createVm({ name: 'web', shares: [{ tag: 'all', path: allowed, read_only: true }] });
    const map = [{ guest: 0, host: 1000, count: 1 }];
    const added = await api.post('/v1/vms/web/shares', { tag: 'src', path: inner, uid_map: map }).expect(200);
    expect(added.body.shares).toEqual([
      { tag: 'all', path: allowed, read_only: true, set_id: false },
      { tag: 'src', path: inner, read_only: false, set_id: false, uid_map: map },
    ]);
    expect(added.headers.etag).toBe('"2"');
    await api.operate('/v1/vms/web/start');
    expect(api.farm.of('web').data.config.shares).toEqual([
      { tag: 'all', folder: allowed, readOnly: true, setId: false },
      { tag: 'src', folder: inner, readOnly: false, setId: false, uidMap: map },
    ]);
    await api.operate('/v1/vms/web/halt');
    const left = await api.delete('/v1/vms/web/shares/all').expect(200);
    expect(left.body.shares).toHaveLength(1);
    expect((await api.delete('/v1/vms/web/shares/all').expect(404)).body).toMatchObject({ field: 'tag' });
    await api.delete('/v1/vms/web').expect(204);
  });

  it('are refused where the operator has not allowed the folder, or the tag is taken', async () => {
    const allowed = tempDir();
    const api = await startHarness({ allowPaths: [allowed] });
    await api.createVm({ name: 'web' });
    const refused = async (body: object, status: number) =>
      (await api.post('/v1/vms/web/shares', body).expect(status)).body;
    expect(await refused({ tag: 'etc', path: '/etc' }, 403)).toMatchObject({ field: 'path' });
    fs.symlinkSync('/etc', path.join(allowed, 'link'));
    expect(await refused({ tag: 'etc', path: path.join(allowed, 'link') }, 403)).toMatchObject({
      code: 'forbidden',
    });
    expect(await refused({ tag: 'x', path: path.join(allowed, 'gone') }, 404)).toMatchObject({
      field: 'path',
    });
    expect(await refused({ tag: 'a b', path: allowed }, 400)).toMatchObject({ field: 'tag' });
    await api.post('/v1/vms/web/shares', { tag: 'src', path: allowed }).expect(200);
    expect(await refused({ tag: 'src', path: allowed }, 409)).toMatchObject({ field: 'tag' });
    const made = await api.post('/v1/vms', { name: 'two', shares: [{ tag: 'e', path: '/etc' }] }).expect(403);
    expect(made.body).toMatchObject({ field: 'shares[0].path' });
    await api.get('/v1/vms/two').expect(404);
  });

  it('are checked again at every start: what is there now may be something else', async () => {
    const allowed = tempDir();
    const inner = path.join(allowed, 'inner');
    fs.mkdirSync(inner);
    const api = await startHarness({ allowPaths: [allowed] });
    await api.createVm({ name: 'web', shares: [{ tag: 'src', path: inner }] });
    fs.rmdirSync(inner);
    fs.symlinkSync('/etc', inner);
    expect(await api.operate('/v1/vms/web/start')).toMatchObject({
      status: 'failed',
      error: { code: 'forbidden', field: 'shares.src.path' },
    });
  });
});
