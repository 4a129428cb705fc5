import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { IMAGE_DISK_BYTES } from './support/fakes.ts';
import { startHarness, tempDir } from './support/harness.ts';

const MIB = 1024 * 1024;

describe('disks', () => {
  it('are made empty and sparse, or over an image, and deleted with their files', async () => {
    const api = await startHarness();
    const raw = await api.post('/v1/disks', { name: 'data', size_bytes: 64 * MIB }).expect(201);
    expect(raw.body).toMatchObject({ format: 'raw', size_bytes: 64 * MIB, vm_id: null, image_id: null });
    expect(raw.body.allocated_bytes).toBeLessThan(MIB);
    expect(raw.headers.location).toBe(`/v1/disks/${raw.body.id}`);
    const cow = await api.post('/v1/disks', { name: 'root', image: 'default' }).expect(201);
    expect(cow.body).toMatchObject({ format: 'cow', size_bytes: IMAGE_DISK_BYTES });
    expect(fs.readdirSync(path.join(api.home, 'disks'))).toHaveLength(2);
    expect((await api.get('/v1/disks?name=data')).body.items).toHaveLength(1);
    await api.delete('/v1/disks/data').expect(204);
    await api.delete('/v1/disks/root').expect(204);
    expect(fs.readdirSync(path.join(api.home, 'disks'))).toEqual([]);
  });

  it('that cannot be are refused', async () => {
    const api = await startHarness();
    const refused = async (body: object, status = 400) =>
      (await api.post('/v1/disks', body).expect(status)).body;
    expect(await refused({ size_bytes: 1000 })).toMatchObject({ field: 'size_bytes' });
    expect(await refused({})).toMatchObject({ field: 'size_bytes' });
    expect(await refused({ size_bytes: 512, image: 'default' })).toMatchObject({ field: 'size_bytes' });
    expect(await refused({ image: 'none' }, 404)).toMatchObject({ field: 'image' });
    await api.post('/v1/disks', { name: 'data', size_bytes: 512 }).expect(201);
    expect(await refused({ name: 'data', size_bytes: 512 }, 409)).toMatchObject({ code: 'already_exists' });
    expect(fs.readdirSync(path.join(api.home, 'disks'))).toHaveLength(1);
  });

  it('are attached to and detached from a VM that does not run', async () => {
    const api = await startHarness();
    await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201);
    await api.createVm({ name: 'one' });
    await api.createVm({ name: 'two' });
    const attached = await api.post('/v1/vms/one/disks', { disk: 'data', read_only: true }).expect(200);
    expect(attached.body.disks).toMatchObject([
      { device: 'ubd0' },
      { device: 'ubd1', name: 'data', read_only: true },
    ]);
    expect(attached.headers.etag).toBe('"2"');
    expect((await api.post('/v1/vms/two/disks', { disk: 'data' }).expect(409)).body.code).toBe('in_use');
    expect((await api.delete('/v1/disks/data').expect(409)).body).toMatchObject({
      code: 'in_use',
      remedy: 'detach it first',
    });
    await api.operate('/v1/vms/one/start');
    expect(api.farm.of('one').data.config.disks.map((disk) => disk.device)).toEqual(['ubd0', 'ubd1']);
    await api.operate('/v1/vms/one/halt');
    await api.delete('/v1/vms/one/disks/ubd7').expect(404);
    expect((await api.delete('/v1/vms/one/disks/ubd1').expect(200)).body.disks).toHaveLength(1);
    await api.post('/v1/vms/two/disks', { disk: 'data', device: 'ubd5' }).expect(200);
    await api.delete('/v1/vms/two').expect(204);
    expect((await api.get('/v1/disks/data').expect(200)).body).toMatchObject({ vm_id: null });
  });
});

describe('a VM that runs', () => {
  async function prepare() {
    const api = await startHarness();
    await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201);
    await api.runVm('web');
    return { api, machine: api.farm.of('web') };
  }

  it('gets disks and network cards, and its configuration keeps them', async () => {
    const { api, machine } = await prepare();
    await api.post('/v1/vms/web/disks', { disk: 'data' }).expect(200);
    expect(machine.requests.at(-1)).toMatchObject({ type: 'attach-disk', disk: { device: 'ubd1' } });
    const { body } = await api.post('/v1/vms/web/nics', { network: 'default' }).expect(200);
    const { mac } = body.nics[1];
    expect(machine.requests.at(-1)).toMatchObject({ type: 'attach-nic', nic: { device: 'eth1', mac } });
    await api.operate('/v1/vms/web/halt');
    await api.operate('/v1/vms/web/start');
    const { disks, nics } = api.farm.of('web').data.config;
    expect([...disks, ...nics].map(({ device }) => device)).toEqual(['ubd0', 'ubd1', 'eth0', 'eth1']);
  });

  it('is asked to let go of them, and they go when it has', async () => {
    const { api, machine } = await prepare();
    await api.post('/v1/vms/web/disks', { disk: 'data' }).expect(200);
    await api.post('/v1/vms/web/nics', {}).expect(200);
    expect((await api.delete('/v1/vms/web/disks/ubd1').expect(200)).body.disks).toHaveLength(1);
    expect((await api.delete('/v1/vms/web/nics/eth1').expect(200)).body.nics).toHaveLength(1);
    expect(machine.requests.filter(({ type }) => type === 'detach')).toHaveLength(2);
    await api.delete('/v1/vms/web/disks/ubd1').expect(404);
    await api.delete('/v1/vms/web/nics/eth1').expect(404);
    expect((await api.delete('/v1/vms/web/disks/ubd0').expect(409)).body).toMatchObject({ code: 'in_use' });
  });

  it('keeps a disk that its guest holds on to, until it lets go after all', async () => {
    const { api, machine } = await prepare();
    await api.post('/v1/vms/web/disks', { disk: 'data' }).expect(200);
    api.farm.holdDevices = true;
    expect((await api.delete('/v1/vms/web/disks/ubd1').expect(504)).body.code).toBe('guest_not_responding');
    expect((await api.vm('web')).disks).toHaveLength(2);
    machine.say({ type: 'device-gone', device: 'ubd1' });
    expect((await api.vm('web')).disks).toHaveLength(1);
  });

  it('is as it was when its machine cannot take a device', async () => {
    const { api } = await prepare();
    api.farm.refuseDisks = 'in_use';
    await api.post('/v1/vms/web/disks', { disk: 'data' }).expect(409);
    expect((await api.vm('web')).disks).toHaveLength(1);
    expect((await api.get('/v1/disks/data').expect(200)).body).toMatchObject({ vm_id: null });
    await api.post('/v1/vms/web/nics', { network: 'none' }).expect(404);
    await api.post('/v1/vms/web/nics', { device: 'eth0' }).expect(409);
    expect((await api.vm('web')).nics).toHaveLength(1);
  });
});

describe('shrinking a disk', () => {
  it('gives the space of zeros back, unless a machine has it', async () => {
    const api = await startHarness();
    const vm = await api.createVm({ name: 'web-1' });
    const { id } = (await api.post('/v1/disks', { name: 'data', size_bytes: 8 * MIB }).expect(201)).body;
    const file = path.join(api.home, 'disks', `${id}.img`);
    fs.writeFileSync(file, Buffer.alloc(8 * MIB));
    expect((await api.get('/v1/disks/data')).body.allocated_bytes).toBeGreaterThanOrEqual(8 * MIB);
    const done = await api.operate('/v1/disks/data/shrink');
    expect(done).toMatchObject({
      kind: 'disk.shrink',
      status: 'succeeded',
      resources: [{ type: 'disk', id }],
    });
    expect((await api.get('/v1/disks/data')).body).toMatchObject({
      size_bytes: 8 * MIB,
      allocated_bytes: 0,
    });
    const { items } = (await api.get('/v1/events?type=disk.updated')).body;
    expect(items.at(-1).data).toMatchObject({ name: 'data', allocated_bytes: 0 });
    expect(await api.operate(`/v1/disks/${vm.disks[0]!.id}/shrink`)).toMatchObject({ status: 'succeeded' });
    await api.post('/v1/vms/web-1/disks', { disk: 'data' }).expect(200);
    await api.operate('/v1/vms/web-1/start');
    expect((await api.post('/v1/disks/data/shrink').expect(409)).body).toMatchObject({ code: 'conflict' });
    await api.post('/v1/disks/none/shrink').expect(404);
  });
});

describe('settings of a disk', () => {
  const NO_LIMITS = { iops: null, iops_burst: null, bytes_per_second: null, bytes_burst: null };

  it('are given at its creation, changed, and kept', async () => {
    const api = await startHarness();
    const limits = { iops: 100, iops_burst: 1000, bytes_per_second: MIB };
    const made = await api.post('/v1/disks', { name: 'data', size_bytes: MIB, limits, on_error: 'pause' });
    expect(made.body).toMatchObject({ limits: { ...NO_LIMITS, ...limits }, on_error: 'pause' });
    const changed = await api.patch('/v1/disks/data', { limits: { bytes_per_second: null, iops: 7 } });
    expect(changed.body).toMatchObject({
      limits: { ...NO_LIMITS, iops: 7, iops_burst: 1000 },
      on_error: 'pause',
    });
    const freed = await api.patch('/v1/disks/data', {
      limits: { iops: null, iops_burst: null },
      on_error: 'report',
    });
    expect(freed.body).toMatchObject({ limits: NO_LIMITS, on_error: 'report' });
    const events = (await api.get('/v1/events?type=disk.updated')).body.items as { data: object }[];
    expect(events.map(({ data }) => data)).toMatchObject([
      { name: 'data', limits: { iops: 7 } },
      { name: 'data', limits: NO_LIMITS },
    ]);
  });

  it('that make no sense are refused', async () => {
    const api = await startHarness();
    await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201);
    const refused = async (body: object) => (await api.patch('/v1/disks/data', body).expect(400)).body;
    expect(await refused({ limits: { iops: 0 } })).toMatchObject({ field: 'limits.iops' });
    expect(await refused({ limits: { iops: 1.5 } })).toMatchObject({ field: 'limits.iops' });
    expect(await refused({ limits: { iops_burst: 5 } })).toMatchObject({ field: 'limits.iops_burst' });
    expect(await refused({ limits: { bytes_burst: 5 } })).toMatchObject({ field: 'limits.bytes_burst' });
    expect(await refused({ on_error: 'ignore' })).toMatchObject({ field: 'on_error' });
    expect(await refused({ size_bytes: 5 })).toMatchObject({ code: 'invalid_input' });
    await api.patch('/v1/disks/none', {}).expect(404);
    const viewer = await api.tokenOf('viewer', 'a');
    await api.as(viewer).patch('/v1/disks/data').send({}).expect(403);
  });

  it('reach the machine at its start, and while it runs', async () => {
    const api = await startHarness();
    const root = { limits: { iops: 50, iops_burst: 100 }, on_error: 'pause' };
    const vm = await api.runVm('web-1', { root_disk: root });
    expect(vm.disks).toMatchObject([root]);
    const machine = api.farm.of('web-1');
    expect(machine.data.config.disks).toMatchObject([
      { device: 'ubd0', limits: { iops: 50, iopsBurst: 100 }, onError: 'pause' },
    ]);
    const changed = await api.patch(`/v1/disks/${vm.disks[0]!.id}`, { limits: { bytes_per_second: MIB } });
    expect(changed.body.limits).toEqual({ ...NO_LIMITS, ...root.limits, bytes_per_second: MIB });
    expect(machine.requests.at(-1)).toEqual({
      type: 'disk-settings',
      device: 'ubd0',
      limits: { iops: 50, iopsBurst: 100, bytesPerSecond: MIB },
      onError: 'pause',
    });
  });
});

describe('a request of a disk that fails', () => {
  const failure = {
    type: 'disk-error',
    device: 'ubd0',
    request: 'write',
    code: 'ENOSPC',
    message: 'write: no space left on device',
    unreported: 3,
  } as const;

  it('is an event; the guest has been told and goes on', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web-1');
    api.farm.of('web-1').say({ ...failure, held: false });
    const { items } = (await api.get('/v1/events?type=disk.error')).body;
    expect(items).toMatchObject([
      {
        resource: { type: 'disk', id: vm.disks[0]!.id },
        data: {
          vm_id: vm.id,
          device: 'ubd0',
          request: 'write',
          code: 'ENOSPC',
          vm_stopped: false,
          unreported: 3,
        },
      },
    ]);
    expect((await api.vm('web-1')).state).toBe('running');
  });

  it('stops the VM where so wished, which says why and goes on when it is let', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    const machine = api.farm.of('web-1');
    machine.pauseItself({ ...failure, held: true });
    const stopped = await api.vm('web-1');
    expect(stopped).toMatchObject({ state: 'stopped', cause: { code: 'disk_full' } });
    expect(stopped.cause?.detail).toContain('ubd0');
    expect(stopped.cause?.remedy).toContain('go on');
    // Still full: it stops itself again, within the request.
    machine.onGo = () => machine.pauseItself({ ...failure, held: true });
    const refused = await api.post('/v1/vms/web-1/go').expect(507);
    expect(refused.body).toMatchObject({ code: 'disk_full' });
    expect(await api.vm('web-1')).toMatchObject({ state: 'stopped', cause: { code: 'disk_full' } });
    machine.onGo = undefined;
    expect((await api.post('/v1/vms/web-1/go').expect(200)).body).toMatchObject({
      state: 'running',
      cause: null,
    });
    machine.pauseItself({ ...failure, code: 'EIO', held: true });
    expect(await api.vm('web-1')).toMatchObject({ state: 'stopped', cause: { code: 'io_error' } });
    expect(await api.operate('/v1/vms/web-1/reboot')).toMatchObject({ status: 'succeeded' });
    expect(await api.vm('web-1')).toMatchObject({ state: 'running', cause: null });
    machine.pauseItself({ ...failure, held: true });
    expect(await api.operate('/v1/vms/web-1/halt')).toMatchObject({ status: 'succeeded' });
    expect(await api.vm('web-1')).toMatchObject({ state: 'halted', cause: null });
  });
});

describe('mconsole config and remove', () => {
  async function prepare() {
    const files = tempDir();
    fs.writeFileSync(path.join(files, 'raw.img'), Buffer.alloc(4096));
    const api = await startHarness({ allowPaths: [files] });
    await api.createVm({ name: 'web-1' });
    await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201);
    const command = async (text: string) =>
      (await api.post('/v1/vms/web-1/mconsole', { command: text }).expect(200)).body as {
        err: number;
        text: string;
      };
    return { api, files, command };
  }

  it('answer for disks in the words of UML', async () => {
    const { api, files, command } = await prepare();
    const { id } = await api.vm('web-1');
    expect(await command('config ubd0')).toEqual({ ok: true, err: 0, text: `${id}-ubd0,default` });
    expect(await command('config ubd1')).toEqual({ ok: true, err: 0, text: '' });
    expect(await command('config ubd77')).toMatchObject({
      err: 1,
      text: 'ubd_get_config : device number out of range',
    });
    expect(await command('config ubd1=none')).toMatchObject({
      err: -2,
      text: "Couldn't determine size of device's file",
    });
    expect(await command('config ubd1=data')).toEqual({ ok: true, err: 0, text: '' });
    expect(await command('config ubdb')).toMatchObject({ text: 'data' });
    expect(await command('config ubd1=data')).toMatchObject({
      err: -16,
      text: 'Device is already configured',
    });
    expect(await command('config ubd99=data')).toMatchObject({ err: 1, text: 'Device number out of range' });
    expect(await command('config ubd2z=data')).toMatchObject({ err: -22 });
    expect(await command('config ubd2d=a,b')).toMatchObject({
      err: -22,
      text: "Can't specify both 'd' and a cow file",
    });
    expect(await command('remove ubd')).toMatchObject({ err: 1, text: "Couldn't parse device number" });
    expect(await command('remove ubd77')).toMatchObject({
      text: 'Invalid device number - must be between 0 and 15',
    });
    expect(await command('remove ubd9')).toMatchObject({ err: -19, text: "Device doesn't exist" });
    expect(await command('remove ubd1')).toEqual({ ok: true, err: 0, text: '' });
    const raw = path.join(files, 'raw.img');
    expect(await command(`config ubd1r=${raw}`)).toMatchObject({ err: 0 });
    expect(await command('config ubd1')).toMatchObject({ text: raw });
    expect((await api.vm('web-1')).disks[1]).toMatchObject({ path: raw, read_only: true });
    expect(await command('remove ubd1')).toMatchObject({ err: 0 });
    expect(fs.existsSync(raw)).toBe(true);
    expect(await command(`config ubd1=${files}/new.cow,${raw}`)).toMatchObject({ err: 0 });
    expect((await api.vm('web-1')).disks[1]).toMatchObject({ format: 'cow', size_bytes: 4096 });
    expect(await command('config ubd2=/etc/passwd')).toMatchObject({ err: -13 });
    expect(await command('config ubd2=extra,default')).toMatchObject({ err: 0 });
    expect((await api.get('/v1/disks/extra').expect(200)).body).toMatchObject({
      format: 'cow',
      device: 'ubd2',
    });
    await api.operate('/v1/vms/web-1/start');
    expect(await command('config ubd3=data')).toMatchObject({ err: 0 });
    api.farm.holdDevices = true;
    expect(await command('remove ubd2')).toMatchObject({ err: -16, text: 'Device is currently open' });
    api.farm.holdDevices = false;
    expect(await command('remove ubd2')).toMatchObject({ err: 0 });
  });

  it('answer for networks, memory and lines', async () => {
    const { api, command } = await prepare();
    expect(await command('config eth0')).toMatchObject({ err: 1, text: 'No get_config routine defined' });
    expect(await command('config eth1=default')).toMatchObject({ err: 0 });
    expect((await api.vm('web-1')).nics).toHaveLength(2);
    expect(await command('config eth1=default')).toMatchObject({
      err: -22,
      text: 'Device already configured',
    });
    expect(await command('config ethx=1')).toMatchObject({ err: -22, text: 'Bad device number' });
    expect(await command('config eth2=none')).toMatchObject({ err: -2 });
    expect(await command('remove eth1')).toMatchObject({ err: 0 });
    expect(await command('remove eth1')).toMatchObject({ err: -19, text: "Device doesn't exist" });
    expect(await command('config mem')).toMatchObject({ text: String(256 * MIB) });
    expect(await command('config mem=+64M')).toMatchObject({ err: 0 });
    expect((await api.vm('web-1')).memory_bytes).toBe(320 * MIB);
    expect(await command('config mem=64')).toMatchObject({
      text: "Expected increment to start with '-' or '+'",
    });
    expect(await command('config mem=-zz')).toMatchObject({ text: 'Failed to parse memory increment' });
    expect(await command('remove mem')).toMatchObject({
      err: -16,
      text: "Memory doesn't support the remove operation",
    });
    expect(await command('config ssl0')).toMatchObject({ text: 'null' });
    expect(await command('config con9')).toMatchObject({ text: 'none' });
    expect(await command('config con99')).toMatchObject({ err: 1, text: 'device number out of range' });
    expect(await command('config con=pts')).toMatchObject({
      text: "Can't configure all devices from mconsole",
    });
    expect(await command('config xyz')).toMatchObject({ err: 1, text: 'Bad configuration option' });
    expect(await command('remove xyz')).toMatchObject({ err: 1, text: 'Bad remove option' });
  });
});
