import * as fs from 'node:fs';
import * as path from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import type { Backup, Operation } from '../../src/contracts/api/index.ts';
import { type Harness, startHarness } from './support/harness.ts';

const manifests = (api: Harness) => fs.readdirSync(path.join(api.home, 'backups', 'store', 'manifests'));
const list = async (api: Harness) => (await api.get('/v1/backups').expect(200)).body.items as Backup[];
const begun = async (api: Harness, vm: string, body: object = {}) =>
  (await api.post(`/v1/vms/${vm}/backups`, body).expect(202)).body as Operation;

async function until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (let tries = 0; tries < 6000; tries++) {
    const value = await look();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('it did not come about');
}

describe('backups', () => {
  it('of a running VM are restored to a new one', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web-1');
    const operation = await api.operate('/v1/vms/web-1/backups', { name: 'monday' });
    expect(operation).toMatchObject({ status: 'succeeded', kind: 'backup.create' });
    const backup = await api.backup('monday');
    expect(backup).toMatchObject({ vm_id: vm.id, vm_name: 'web-1', state: 'available' });
    expect(backup).toMatchObject({ kind: 'full', consistency: 'crash', destination: 'local', damage: null });
    const disk_id = vm.disks[0]!.id;
    expect(backup.snapshots).toMatchObject([{ device: 'ubd0', disk_id, size_bytes: 64 * 1024 }]);
    const restored = await api.operate('/v1/backups/monday/restore', { name: 'web-2', start: true });
    expect(restored).toMatchObject({ status: 'succeeded', error: null });
    const copy = await api.vm('web-2');
    expect(restored.resources).toContainEqual({ type: 'vm', id: copy.id });
    expect(copy).toMatchObject({ state: 'running', disks: [{ device: 'ubd0', format: 'cow' }] });
    expect(copy.nics[0]!.mac).not.toBe(vm.nics[0]!.mac);
    const [disk] = api.farm.of('web-2').data.config.disks;
    expect(fs.readFileSync(disk!.file, 'utf8')).toContain('seed default');
    await api.delete('/v1/vms/web-1?force=true').expect(204);
    expect(await list(api)).toHaveLength(1);
    await api.delete('/v1/backups/monday').expect(204);
    expect(manifests(api)).toEqual([]);
  });

  it('of a halted VM are the content of its disks', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    expect(await api.operate('/v1/vms/web-1/backups')).toMatchObject({ status: 'succeeded' });
    expect(await list(api)).toMatchObject([{ consistency: 'off', kind: 'full' }]);
    await api.operate(`/v1/backups/${(await list(api))[0]!.id}/restore`, { name: 'web-2', full_copy: true });
    const content = fs.readFileSync(path.join(api.home, 'vms', (await api.vm('web-2')).id, 'ubd0.img'));
    expect(content.toString()).toContain('seed default');
    expect(content).toHaveLength(64 * 1024);
  });

  it('are not listed before they are complete, tell their progress, and can be canceled', async () => {
    const api = await startHarness();
    api.farm.holdBackups = true;
    await api.runVm('web-1');
    const { id } = await begun(api, 'web-1', { name: 'monday' });
    const running = await until(async () => {
      const operation = (await api.get(`/v1/operations/${id}`)).body as Operation;
      return operation.progress === null ? undefined : operation;
    });
    expect(running).toMatchObject({ status: 'running', progress: { done: 512, total: 4096, unit: 'bytes' } });
    expect(await list(api)).toEqual([]);
    await api.get('/v1/backups/monday').expect(404);
    await api.delete(`/v1/operations/${id}`).expect(202);
    expect(await api.ended(`/v1/operations/${id}`)).toMatchObject({
      status: 'canceled',
      error: { code: 'canceled' },
    });
    expect(await list(api)).toEqual([]);
    expect(manifests(api)).toEqual([]);
    expect(await api.vm('web-1')).toMatchObject({ state: 'running' });
    await api.delete(`/v1/operations/${id}`).expect(409);
  });

  it('that meet a full disk fail, and the VM runs on', async () => {
    const api = await startHarness();
    const error = {
      code: 'disk_full',
      detail: 'no space left on device',
      field: 'destination',
      remedy: 'free space',
    } as const;
    api.farm.failBackups = error;
    await api.runVm('web-1');
    // With all that the machine's thread knows of it.
    expect(await api.operate('/v1/vms/web-1/backups')).toMatchObject({ status: 'failed', error });
    expect(await list(api)).toEqual([]);
    expect(manifests(api)).toEqual([]);
    expect(await api.vm('web-1')).toMatchObject({ state: 'running' });
  });

  it('fail when their machine ends', async () => {
    const api = await startHarness();
    api.farm.holdBackups = true;
    await api.runVm('web-1');
    const { id } = await begun(api, 'web-1');
    await until(() => api.farm.of('web-1').backup);
    api.farm.of('web-1').crash('bug');
    expect(await api.ended(`/v1/operations/${id}`)).toMatchObject({
      status: 'failed',
      error: { code: 'machine_failed' },
    });
    expect(await list(api)).toEqual([]);
  });

  it('keep as many as they are told', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    for (const name of ['a', 'b', 'c']) await api.operate('/v1/vms/web-1/backups', { name, keep: 2 });
    expect((await list(api)).map(({ name }) => name)).toEqual(['b', 'c']);
    expect(manifests(api)).toHaveLength(2);
    await api.post('/v1/vms/web-1/backups', { name: 'c' }).expect(409);
    await api.createVm({ name: 'web-2' });
    await api.post('/v1/backups/c/restore', { name: 'web-2' }).expect(409);
    await api.post('/v1/backups/c/restore', { memory_bytes: 4096 }).expect(422);
  });
});

describe('flat copies, as version 0.1 made them', () => {
  it('are listed, restored and deleted', async () => {
    const api = await startHarness();
    const vm = await api.createVm({ name: 'web-1' });
    const id = 'bak-00000000000000aa';
    const folder = path.join(api.home, 'backups', id);
    fs.mkdirSync(folder);
    fs.writeFileSync(path.join(folder, 'ubd0.img'), 'flat copy'.padEnd(4096, '.'));
    const db = new Database(path.join(api.home, 'db.sqlite'));
    db.exec(`
      INSERT INTO layers (id, kind, path, size_bytes, created_at)
        VALUES ('layer-flat', 'backup', 'backups/${id}/ubd0.img', 4096, 1);
      INSERT INTO backups (id, tenant, name, state, kind, vm_id, vm_name, image_id, memory_bytes, append, config, taken_at,
        created_at) SELECT '${id}', tenant, 'old', 'available', 'full', id, name, image_id, memory_bytes, append,
        '{"networks":[],"debugExitPort":null}', 1, 1 FROM vms;
      INSERT INTO snapshots VALUES ('snap-flat', '${id}', 'ubd0', NULL, 'layer-flat', 4096, 4096, 4096, 0, 1);
    `);
    db.close();
    expect(await list(api)).toMatchObject([{ name: 'old', destination: null, consistency: null }]);
    expect(await api.operate('/v1/backups/old/restore', { name: 'web-2' })).toMatchObject({ error: null });
    const restored = (await api.vm('web-2')).id;
    expect(fs.readFileSync(path.join(api.home, 'vms', restored, 'ubd0.img'), 'utf8')).toContain('flat copy');
    expect(await api.operate('/v1/backups/old/restore', { over: true })).toMatchObject({ error: null });
    const [disk] = (await api.vm('web-1')).disks;
    expect(disk).toMatchObject({ format: 'raw', size_bytes: 4096 });
    expect(fs.readdirSync(path.join(api.home, 'vms', vm.id))).toHaveLength(1);
    expect((await api.post('/v1/backups/old/verify').expect(501)).body.code).toBe('unsupported');
    // The next one goes to the store.
    await api.operate('/v1/vms/web-1/backups', { name: 'new' });
    expect(await api.backup('new')).toMatchObject({ destination: 'local', kind: 'full' });
    await api.delete('/v1/backups/old').expect(204);
    expect(fs.existsSync(folder)).toBe(false);
  });
});

describe('images', () => {
  it('are built in the background, with progress, and can be canceled', async () => {
    const api = await startHarness();
    const gate = Promise.withResolvers<void>();
    api.library.gate = gate.promise;
    const { id } = (await api.post('/v1/images/build', { name: 'fresh' }).expect(202)).body as Operation;
    await until(async () => (await api.get(`/v1/operations/${id}`)).body.progress ?? undefined);
    await api.delete(`/v1/operations/${id}`).expect(202);
    expect(await api.ended(`/v1/operations/${id}`)).toMatchObject({ status: 'canceled' });
    gate.resolve();
    const built = await api.operate('/v1/images/build', { name: 'fresh' });
    expect(built).toMatchObject({
      status: 'succeeded',
      progress: { done: 50, total: 100, message: 'building' },
    });
    const image = (await api.get('/v1/images/fresh').expect(200)).body;
    expect(built.resources).toEqual([{ type: 'image', id: image.id }]);
    expect(image).toMatchObject({ name: 'fresh', kernel_release: '6.1.0-32-cloud-amd64', in_use_by: 0 });
    expect((await api.get('/v1/images?name=fresh')).body.items).toHaveLength(1);
  });

  it('are imported from allowed folders alone', async () => {
    const files = fs.mkdtempSync('/tmp/umlaut-import-');
    const kernel = path.join(files, 'kernel');
    const disk = path.join(files, 'disk');
    fs.writeFileSync(kernel, 'kernel');
    fs.writeFileSync(disk, 'disk');
    fs.symlinkSync('/etc/passwd', path.join(files, 'link'));
    const api = await startHarness({ allowPaths: [files] });
    try {
      const imported = await api.operate('/v1/images/import', { name: 'mine', kernel, disk });
      expect(imported).toMatchObject({ status: 'succeeded' });
      const refused = await api
        .post('/v1/images/import', { name: 'x', kernel: '/etc/passwd', disk })
        .expect(403);
      expect(refused.body).toMatchObject({ code: 'forbidden', field: 'kernel' });
      await api.post('/v1/images/import', { name: 'x', kernel: path.join(files, 'link'), disk }).expect(403);
      await api.post('/v1/images/import', { name: 'x', kernel: `${files}/none`, disk }).expect(404);
      await api.post('/v1/images/import', { name: 'x', kernel: 'kernel', disk }).expect(400);
      const bad = await api.operate('/v1/images/import', { name: 'bad', kernel: disk, disk });
      expect(bad).toMatchObject({ status: 'failed', error: { code: 'bad_kernel', field: 'kernel' } });
      const checked = await api.operate('/v1/images/mine/verify');
      expect(checked).toMatchObject({ status: 'succeeded', kind: 'image.verify' });
    } finally {
      fs.rmSync(files, { recursive: true });
    }
  });

  it('are not deleted while something needs them', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const refused = await api.delete('/v1/images/default').expect(409);
    expect(refused.body).toMatchObject({ code: 'in_use' });
    expect(refused.body.detail).toContain('VM web-1');
    await api.delete('/v1/vms/web-1').expect(204);
    await api.delete('/v1/images/default').expect(204);
    await api.get('/v1/images/default').expect(404);
  });
});
