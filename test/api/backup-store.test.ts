/** What operators do with stores of backups: check, keep, schedule, send elsewhere, and find again. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type {
  Backup,
  BackupDestination,
  BackupSchedule,
  Operation,
  PruneResult,
} from '../../src/contracts/api/index.ts';
import { openDisk } from '../../src/storage/index.ts';
import { requireTool } from '../support/tools.ts';
import { type Harness, startHarness, tempDir } from './support/harness.ts';

const list = async (api: Harness) => (await api.get('/v1/backups').expect(200)).body.items as Backup[];

async function until<T>(look: () => Promise<T | undefined> | T | undefined): Promise<T> {
  for (let tries = 0; tries < 3000; tries++) {
    const value = await look();
    if (value !== undefined) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('it did not come about');
}

/** Writes to a disk of a VM that is off, as its guest would have. */
function scribble(api: Harness, vmId: string, text: string): void {
  const fd = fs.openSync(path.join(api.home, 'vms', vmId, 'ubd0.img'), 'r+');
  fs.writeSync(fd, text, 0);
  fs.closeSync(fd);
}

/** A VM whose disk is a raw file. */
async function rawVm(api: Harness, name: string, image = 'default'): Promise<string> {
  await api.createVm({ name: `${name}-first`, image });
  await api.operate(`/v1/vms/${name}-first/backups`, { name: `${name}-seed` });
  await api.operate(`/v1/backups/${name}-seed/restore`, { name, full_copy: true });
  await api.delete(`/v1/backups/${name}-seed`).expect(204);
  return (await api.vm(name)).id;
}

const LOGIN = 'debian ttyS0\r\ndebian login: ';

/** Tests a backup whose guest prints something, or ends. */
async function bootTest(
  api: Harness,
  backup: string,
  body: object,
  print: string | undefined,
): Promise<Operation> {
  const { id } = (await api.post(`/v1/backups/${backup}/test`, body).expect(202)).body as Operation;
  const machine = await until(() =>
    api.farm.machines.find(
      ({ data, terminated }) => data.config.name.startsWith('restore-test-') && !terminated,
    ),
  );
  expect(machine.data.config.nics).toEqual([]);
  await until(async () =>
    (await api.get('/v1/vms?state=running')).body.items.length > 0 ? true : undefined,
  );
  if (print === undefined) machine.end({ reason: 'triple-fault', detail: 'rip 0' });
  else machine.print('ttyS0', print);
  const ended = await api.ended(`/v1/operations/${id}`);
  api.farm.machines.length = 0;
  return ended;
}

const packsOf = (folder: string) => fs.readdirSync(path.join(folder, 'packs'));

describe('a backup', () => {
  it('is verified; what is damaged is told, and not gone on from', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    await api.operate('/v1/vms/web-1/backups', { name: 'one' });
    expect(await api.operate('/v1/backups/one/verify')).toMatchObject({
      status: 'succeeded',
      kind: 'backup.verify',
    });
    const checked = await api.backup('one');
    expect(checked).toMatchObject({ damage: null, verified_at: expect.any(String) });
    const store = path.join(api.home, 'backups', 'store');
    for (const name of packsOf(store)) {
      const file = path.join(store, 'packs', name);
      const bytes = fs.readFileSync(file);
      bytes[3]! ^= 0xff;
      fs.writeFileSync(file, bytes);
    }
    const failed = await api.operate('/v1/backup-destinations/local/verify');
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'backup_corrupt' } });
    expect((await api.backup('one')).damage).toContain('ubd0');
    expect(await api.operate('/v1/backups/one/restore', {})).toMatchObject({
      status: 'failed',
      error: { code: 'backup_corrupt' },
    });
    await api.operate('/v1/vms/web-1/backups', { name: 'two' });
    expect(await api.backup('two')).toMatchObject({ kind: 'full', parent_id: null });
    // The same content was stored anew: both are whole.
    expect(await api.operate('/v1/backup-destinations/local/verify')).toMatchObject({ status: 'succeeded' });
    expect((await list(api)).map(({ damage }) => damage)).toEqual([null, null]);
  });

  it('that follows another reads what has changed, also after the daemon was started again', async () => {
    const first = await startHarness();
    await first.createVm({ name: 'web-1' });
    await first.operate('/v1/vms/web-1/backups', { name: 'one' });
    await first.daemon.close();
    const api = await startHarness({ home: first.home });
    await api.operate('/v1/vms/web-1/backups', { name: 'two' });
    const two = await api.backup('two');
    expect(two).toMatchObject({ kind: 'incremental', snapshots: [{ scanned_bytes: 0, stored_bytes: 0 }] });
    await api.operate('/v1/vms/web-1/backups', { name: 'three', full: true });
    expect(await api.backup('three')).toMatchObject({ kind: 'full', snapshots: [{ stored_bytes: 0 }] });
    await api.delete('/v1/backups/two').expect(204);
    expect(await api.operate('/v1/backups/three/verify')).toMatchObject({ status: 'succeeded' });
  });

  it('is put in place of the disks of its VM, which must be off', async () => {
    const api = await startHarness();
    const vmId = await rawVm(api, 'web');
    scribble(api, vmId, 'good state');
    await api.operate('/v1/vms/web/backups', { name: 'good' });
    scribble(api, vmId, 'bad state!');
    await api.operate('/v1/vms/web/start');
    expect((await api.post('/v1/backups/good/restore', { over: true }).expect(409)).body.field).toBe('over');
    await api.operate('/v1/vms/web/halt');
    const done = await api.operate('/v1/backups/good/restore', { over: true, start: true });
    expect(done).toMatchObject({ status: 'succeeded', error: null });
    const vm = await api.vm('web');
    expect(vm).toMatchObject({ id: vmId, state: 'running' });
    const [disk] = api.farm.of('web').data.config.disks;
    expect(fs.readFileSync(disk!.file, 'utf8')).toContain('good state');
    expect(fs.readdirSync(path.join(api.home, 'vms', vmId))).toEqual([path.basename(disk!.file)]);
  });

  it('is restored over the image that it was over, with what differs from that, or as a full copy', async () => {
    const api = await startHarness();
    const vm = await api.createVm({ name: 'web-1' });
    const root = vm.disks[0]!;
    const own = Buffer.alloc(4096, 'own');
    const disk = openDisk({
      device: 'ubd0',
      file: api.library.get(vm.image_id).disk,
      cow: path.join(api.home, 'vms', vm.id, 'ubd0.cow'),
      readOnly: false,
    });
    await disk.write(8192, [own]);
    await disk.close();
    await api.operate('/v1/vms/web-1/backups', { name: 'one' });
    const layered = await api.operate('/v1/backups/one/restore', { name: 'layered' });
    expect(layered).toMatchObject({ error: null });
    await api.operate('/v1/backups/one/restore', { name: 'whole', full_copy: true });
    const [over] = (await api.vm('layered')).disks;
    expect(over).toMatchObject({ format: 'cow', image_id: root.image_id, size_bytes: root.size_bytes });
    expect((await api.vm('whole')).disks).toMatchObject([{ format: 'raw', image_id: null }]);
    const whole = fs.readFileSync(path.join(api.home, 'vms', (await api.vm('whole')).id, 'ubd0.img'));
    expect(whole.subarray(8192, 12_288).equals(own)).toBe(true);
    await api.operate('/v1/vms/layered/start');
    const content = Buffer.alloc(whole.length);
    await api.farm.of('layered').disk('ubd0').read(0, [content]);
    expect(content.equals(whole)).toBe(true);
    // The image stays while it is needed.
    await api.operate('/v1/vms/layered/halt');
    expect(await api.operate('/v1/backups/one/restore', { over: true })).toMatchObject({ error: null });
    expect((await api.vm('web-1')).disks).toMatchObject([{ format: 'cow', image_id: root.image_id }]);
  });

  it('is tested by a boot of a clone without network, which is gone afterwards', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    await api.operate('/v1/vms/web-1/backups', { name: 'one' });
    expect(await bootTest(api, 'one', {}, LOGIN)).toMatchObject({ status: 'succeeded' });
    expect(await api.backup('one')).toMatchObject({ tested_at: expect.any(String), test_error: null });
    expect(await bootTest(api, 'one', {}, undefined)).toMatchObject({
      status: 'failed',
      error: { code: 'machine_failed' },
    });
    expect(await api.backup('one')).toMatchObject({ test_error: { code: 'machine_failed' } });
    expect((await api.get('/v1/vms')).body.items.map(({ name }: { name: string }) => name)).toEqual([
      'web-1',
    ]);
  });
});

describe('retention', () => {
  it('says what it would keep and why, and then keeps that', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    for (const name of ['a', 'b', 'c', 'd']) await api.operate('/v1/vms/web-1/backups', { name });
    const body = { keep: { last: 2, yearly: 1 }, dry_run: true };
    const dry = (await api.post('/v1/vms/web-1/backups/prune', body).expect(200)).body as PruneResult;
    expect(dry.backups.map(({ name, keep }) => [name, keep])).toEqual([
      ['d', true],
      ['c', true],
      ['b', false],
      ['a', false],
    ]);
    expect(dry.backups[0]!.reasons).toEqual(['last 1', expect.stringMatching(/^yearly \d{4}$/)]);
    expect(await list(api)).toHaveLength(4);
    await api.post('/v1/vms/web-1/backups/prune', { keep: body.keep }).expect(200);
    expect((await list(api)).map(({ name }) => name)).toEqual(['c', 'd']);
    await api.post('/v1/vms/web-1/backups/prune', { keep: {} }).expect(400);
    await api.post('/v1/vms/web-1/backups/prune', { keep: { last: 1 }, time_zone: 'Nowhere' }).expect(400);
    expect(await api.operate('/v1/backup-destinations/local/collect')).toMatchObject({ status: 'succeeded' });
    expect(await api.operate('/v1/backups/d/verify')).toMatchObject({ status: 'succeeded' });
  });

  it('is for the backups of a VM that is gone, too', async () => {
    const api = await startHarness();
    const ids: string[] = [];
    for (const round of [1, 2]) {
      ids.push((await api.createVm({ name: 'web-1' })).id);
      for (const name of ['a', 'b']) await api.operate('/v1/vms/web-1/backups', { name: `${name}${round}` });
      await api.delete('/v1/vms/web-1').expect(204);
    }
    const prune = (ref: string) => api.post(`/v1/vms/${ref}/backups/prune`, { keep: { last: 1 } });
    expect((await prune('web-1').expect(409)).body).toMatchObject({
      code: 'conflict',
      remedy: expect.stringContaining('id'),
    });
    await prune('web-2').expect(404);
    await prune(ids[0]!).expect(200);
    expect((await list(api)).map(({ name }) => name)).toEqual(['b1', 'a2', 'b2']);
    await api.delete('/v1/backups/b1').expect(204);
    await prune('web-1').expect(200);
    expect((await list(api)).map(({ name }) => name)).toEqual(['b2']);
    const { secret } = (
      await api.post('/v1/tokens', { name: 'stranger', role: 'user', tenant: 'others' }).expect(201)
    ).body;
    await api
      .as(secret)
      .post('/v1/vms/web-1/backups/prune')
      .send({ keep: { last: 1 } })
      .expect(404);
  });
});

describe('schedules', () => {
  it('make backups when it is time, keep what their rule says, and make up for what was missed', async () => {
    const first = await startHarness();
    const vm = await first.createVm({ name: 'web-1' });
    await first.post('/v1/vms/web-1/backup-schedules', { cron: 'now and then' }).expect(400);
    const wrong = await first.post('/v1/vms/web-1/backup-schedules', {
      cron: '* * * * *',
      time_zone: 'Mars',
    });
    expect(wrong.body).toMatchObject({ code: 'invalid_input', status: 400 });
    const body = { name: 'often', cron: '* * * * * *', keep: { last: 2 } };
    const made = (await first.post('/v1/vms/web-1/backup-schedules', body).expect(201))
      .body as BackupSchedule;
    expect(made).toMatchObject({ vm_id: vm.id, destination: 'local', enabled: true, jitter_seconds: 0 });
    await first.post('/v1/vms/web-1/backup-schedules', body).expect(409);
    await until(async () => ((await list(first)).length === 2 ? true : undefined));
    const [oldest] = await list(first);
    await until(async () => ((await list(first)).some(({ id }) => id === oldest!.id) ? undefined : true));
    const off = (
      await first.patch('/v1/backup-schedules/often', { enabled: false, cron: '0 3 * * *' }).expect(200)
    ).body;
    expect(off).toMatchObject({
      enabled: false,
      next_at: null,
      keep: { last: 2 },
      last_at: expect.any(String),
    });
    await until(async () => {
      const all = (await first.get('/v1/operations?limit=500').expect(200)).body.items as Operation[];
      return all.some(({ status }) => status === 'pending' || status === 'running') ? undefined : true;
    });
    const before = (await list(first)).map(({ id }) => id);
    expect(before.length).toBeLessThanOrEqual(2);
    await first.daemon.close();

    // It was on, and its time came while nobody was there.
    const Database = (await import('better-sqlite3')).default;
    const db = new Database(path.join(first.home, 'db.sqlite'));
    db.prepare('UPDATE backup_schedules SET enabled = 1, next_at = ?').run(Date.now() - 3_600_000);
    db.close();
    const api = await startHarness({ home: first.home });
    await until(async () => ((await list(api)).some(({ id }) => !before.includes(id)) ? true : undefined));
    const missed = (await api.get('/v1/events?type=backup.missed')).body.items as { data: object }[];
    expect(missed).toMatchObject([{ data: { name: 'often', late_seconds: expect.any(Number) } }]);
    const next = (await api.get('/v1/backup-schedules/often').expect(200)).body as BackupSchedule;
    expect(Date.parse(next.next_at!)).toBeGreaterThan(Date.now());
    await api.delete('/v1/backup-schedules/often').expect(204);
    expect((await api.get('/v1/backup-schedules?vm=web-1')).body.items).toEqual([]);
  });

  it('belong to tenants, and go with their VM', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    await api.post('/v1/vms/web-1/backup-schedules', { name: 'mine', cron: '0 3 * * *' }).expect(201);
    const other = api.as(await api.tokenOf('user', 'other'));
    await other.get('/v1/backup-schedules/mine').expect(404);
    expect((await other.get('/v1/backup-schedules').expect(200)).body.items).toEqual([]);
    await other.get('/v1/backup-destinations').expect(403);
    await api.delete('/v1/vms/web-1').expect(204);
    expect((await api.get('/v1/backup-schedules')).body.items).toEqual([]);
  });
});

describe('destinations', () => {
  it('are folders that the operator allows, each of one daemon', async () => {
    const folder = tempDir();
    const api = await startHarness({ allowPaths: [folder] });
    const add = (name: string, location: string) =>
      api.post('/v1/backup-destinations', { name, kind: 'directory', location });
    const made = (await add('offsite', folder).expect(201)).body as BackupDestination;
    expect(made).toMatchObject({ name: 'offsite', kind: 'directory', backups: 0 });
    await add('offsite', folder).expect(409);
    expect((await add('again', folder).expect(409)).body.code).toBe('in_use');
    expect((await add('etc', '/etc').expect(403)).body.code).toBe('forbidden');
    await api.createVm({ name: 'web-1' });
    await api.operate('/v1/vms/web-1/backups', { name: 'here' });
    const there = await api.operate('/v1/vms/web-1/backups', { name: 'there', destination: 'offsite' });
    expect(there).toMatchObject({ status: 'succeeded' });
    expect(await api.backup('there')).toMatchObject({ destination: 'offsite', kind: 'full' });
    // Each goes on from its own.
    await api.operate('/v1/vms/web-1/backups', { name: 'here-too' });
    await api.operate('/v1/vms/web-1/backups', { name: 'there-too', destination: 'offsite' });
    expect(await api.backup('here-too')).toMatchObject({ kind: 'incremental' });
    expect(await api.backup('there-too')).toMatchObject({ kind: 'incremental', destination: 'offsite' });
    expect((await api.delete('/v1/backup-destinations/offsite').expect(409)).body.code).toBe('in_use');
    expect((await api.delete('/v1/backup-destinations/local').expect(403)).body.code).toBe('protected');
    await api.post('/v1/vms/web-1/backups', { destination: 'nowhere' }).expect(404);
  });

  it('are found again by a daemon that has lost its database', async () => {
    const folder = tempDir();
    const first = await startHarness({ allowPaths: [folder] });
    await first
      .post('/v1/backup-destinations', { name: 'offsite', kind: 'directory', location: folder })
      .expect(201);
    const vmId = await rawVm(first, 'web');
    scribble(first, vmId, 'precious');
    await first.operate('/v1/vms/web/backups', { name: 'monday', destination: 'offsite' });
    const before = await first.backup('monday');
    await first.daemon.close();

    const api = await startHarness({ allowPaths: [folder] });
    await api
      .post('/v1/backup-destinations', { name: 'found', kind: 'directory', location: folder })
      .expect(201);
    expect(await api.operate('/v1/backup-destinations/found/rebuild')).toMatchObject({ status: 'succeeded' });
    const after = await api.backup('monday');
    expect(after).toMatchObject({
      id: before.id,
      vm_name: 'web',
      taken_at: before.taken_at,
      destination: 'found',
    });
    expect(after.snapshots).toMatchObject([{ device: 'ubd0', disk_id: null, size_bytes: 64 * 1024 }]);
    await api.operate('/v1/backup-destinations/found/rebuild');
    expect(await list(api)).toHaveLength(1);
    expect(
      await api.operate('/v1/backups/monday/restore', { name: 'web-again', full_copy: true }),
    ).toMatchObject({
      error: null,
    });
    const restored = await api.vm('web-again');
    const content = fs.readFileSync(path.join(api.home, 'vms', restored.id, 'ubd0.img'), 'utf8');
    expect(content).toContain('precious');
  });

  it('are restored with another image where theirs is not there', async () => {
    const folder = tempDir();
    const first = await startHarness({ allowPaths: [folder] });
    const destination = { kind: 'directory', location: folder };
    await first.post('/v1/backup-destinations', { ...destination, name: 'offsite' }).expect(201);
    await first.operate('/v1/images/build', { name: 'theirs' });
    scribble(first, await rawVm(first, 'web', 'theirs'), 'precious');
    await first.operate('/v1/vms/web/backups', { name: 'monday', destination: 'offsite' });
    await first.daemon.close();

    const api = await startHarness({ allowPaths: [folder] });
    await api.post('/v1/backup-destinations', { ...destination, name: 'found' }).expect(201);
    await api.operate('/v1/backup-destinations/found/rebuild');
    const refused = await api.post('/v1/backups/monday/restore', { name: 'again' }).expect(409);
    expect(refused.body.remedy).toContain('`image`');
    await api.post('/v1/backups/monday/restore', { over: true, image: 'default' }).expect(400);
    await api.post('/v1/backups/monday/test').expect(409);
    await api.post('/v1/backups/monday/test', { image: 'none' }).expect(404);
    expect(await bootTest(api, 'monday', { image: 'default' }, LOGIN)).toMatchObject({ error: null });
    await api.post('/v1/backups/monday/restore', { name: 'again', image: 'none' }).expect(404);
    await api.operate('/v1/backups/monday/restore', { name: 'again', image: 'default' });
    const { id, image_id: image } = await api.vm('again');
    expect(image).toEqual((await api.get('/v1/images/default')).body.id);
    expect(fs.readFileSync(path.join(api.home, 'vms', id, 'ubd0.img'), 'utf8')).toContain('precious');
  });

  it('are remotes of rclone', async () => {
    requireTool('rclone', 'rclone');
    const folder = tempDir();
    const config = path.join(folder, 'rclone.conf');
    const remote = path.join(folder, 'remote');
    fs.mkdirSync(remote);
    fs.writeFileSync(config, `[vault]\ntype = alias\nremote = ${remote}\n`);
    process.env.RCLONE_CONFIG = config;
    try {
      const api = await startHarness();
      const add = (location: string) =>
        api.post('/v1/backup-destinations', { name: 'vault', kind: 'rclone', location });
      await add('--config=/etc/passwd').expect(400);
      expect((await add('nowhere:x').expect(502)).body.code).toBe('unreachable');
      await add('vault:umlaut').expect(201);
      // One daemon at a time: another is refused, and so is another destination of this one.
      const second = await startHarness();
      const elsewhere = { name: 'theirs', kind: 'rclone', location: 'vault:umlaut' };
      const refused = await second.post('/v1/backup-destinations', elsewhere).expect(409);
      expect(refused.body).toMatchObject({ code: 'in_use', field: 'destination' });
      await api.post('/v1/backup-destinations', elsewhere).expect(409);
      expect(fs.readdirSync(path.join(remote, 'umlaut', 'leases'))).toHaveLength(1);
      await api.createVm({ name: 'web-1' });
      expect(await api.operate('/v1/vms/web-1/backups', { name: 'one', destination: 'vault' })).toMatchObject(
        {
          error: null,
        },
      );
      await api.operate('/v1/vms/web-1/backups', { name: 'two', destination: 'vault' });
      expect(await api.backup('two')).toMatchObject({ kind: 'incremental' });
      expect(await api.operate('/v1/backups/two/verify')).toMatchObject({ error: null });
      expect(await api.operate('/v1/backups/two/restore', { name: 'web-2', full_copy: true })).toMatchObject({
        error: null,
      });
      const { id } = await api.vm('web-2');
      expect(fs.readFileSync(path.join(api.home, 'vms', id, 'ubd0.img'), 'utf8')).toContain('seed default');
      await api.delete('/v1/backups/one').expect(204);
      await api.delete('/v1/backups/two').expect(204);
      expect(await api.operate('/v1/backup-destinations/vault/collect')).toMatchObject({ error: null });
      expect(packsOf(path.join(remote, 'umlaut'))).toEqual([]);
      await api.delete('/v1/backup-destinations/vault').expect(204);
    } finally {
      delete process.env.RCLONE_CONFIG;
    }
  }, 120_000);

  it('that are remotes are taken over from daemons that are gone, and never shared with those that are not', async () => {
    requireTool('rclone', 'rclone');
    const folder = tempDir();
    const leases = path.join(folder, 'remote', 'leases');
    fs.writeFileSync(path.join(folder, 'rclone.conf'), `[vault]\ntype = alias\nremote = ${folder}\n`);
    process.env.RCLONE_CONFIG = path.join(folder, 'rclone.conf');
    try {
      const request = { name: 'vault', kind: 'rclone', location: 'vault:remote' };
      const first = await startHarness();
      await first.post('/v1/backup-destinations', request).expect(201);
      await first.createVm({ name: 'web-1' });
      await first.operate('/v1/vms/web-1/backups', { name: 'one', destination: 'vault' });
      const [held] = fs.readdirSync(leases);
      const lease = JSON.parse(fs.readFileSync(path.join(leases, held!), 'utf8'));
      expect(lease).toMatchObject({ pid: process.pid, started: expect.stringMatching(/^\d+$/) });
      const second = await startHarness();
      const { body } = await second.post('/v1/backup-destinations', request).expect(409);
      expect(body).toMatchObject({ code: 'in_use', remedy: expect.stringContaining('--take-over') });
      const elsewhere = { ...request, kind: 'directory', location: folder, take_over: true };
      await second.post('/v1/backup-destinations', elsewhere).expect(400);
      await second.post('/v1/backup-destinations', { ...request, take_over: true }).expect(201);
      // The first one's next backup is not made, and nothing of the second's is touched.
      expect(
        await first.operate('/v1/vms/web-1/backups', { name: 'two', destination: 'vault' }),
      ).toMatchObject({
        status: 'failed',
        error: { code: 'interrupted', field: 'destination' },
      });
      await second.operate('/v1/backup-destinations/vault/rebuild');
      expect((await list(second)).map(({ name }) => name)).toEqual(['one']);
      expect(await second.operate('/v1/backups/one/verify')).toMatchObject({ error: null });
      // One that is known is taken back likewise, and not without being asked for.
      await first.post('/v1/backup-destinations/vault/take-over').expect(200);
      expect(await first.operate('/v1/backup-destinations/vault/verify')).toMatchObject({ error: null });
      await first.post('/v1/backup-destinations/local/take-over').expect(400);
      await second.post('/v1/backup-destinations/vault/take-over').expect(200);
      expect(await first.operate('/v1/backup-destinations/vault/collect')).toMatchObject({
        error: { code: 'in_use', remedy: expect.stringContaining('take-over') },
      });
      await second.delete('/v1/backups/one').expect(204);
      await second.delete('/v1/backup-destinations/vault').expect(204);
      // It is free: the first one has it again.
      await first.operate('/v1/vms/web-1/backups', { name: 'three', destination: 'vault' });
      expect(await first.backup('three')).toMatchObject({ kind: 'full' });
      expect(await first.operate('/v1/backups/three/verify')).toMatchObject({ error: null });
      await first.daemon.close();
      // As a daemon leaves it that was killed, whose database is lost: no process has that start.
      fs.writeFileSync(
        path.join(leases, held!),
        JSON.stringify({ ...lease, started: '1', renewedAt: Date.now() }),
      );
      const third = await startHarness();
      await third.post('/v1/backup-destinations', request).expect(201);
      await third.operate('/v1/backup-destinations/vault/rebuild');
      expect((await list(third)).map(({ name }) => name)).toEqual(['three']);
    } finally {
      delete process.env.RCLONE_CONFIG;
    }
  }, 120_000);
});
