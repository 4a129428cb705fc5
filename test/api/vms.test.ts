import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Vm, VmPage } from '../../src/contracts/api/index.ts';
import { startHarness } from './support/harness.ts';

const MIB = 1024 * 1024;

describe('VMs', () => {
  it('are made from an image with a copy-on-write disk, not a copy', async () => {
    const api = await startHarness();
    const body = { name: 'web-1', memory_bytes: 128 * MIB, labels: { tier: 'a' } };
    const answer = await api.post('/v1/vms', body).expect(201);
    const vm = answer.body as Vm;
    expect(vm).toMatchObject({
      name: 'web-1',
      state: 'created',
      image_name: 'default',
      cause: null,
      version: 1,
    });
    expect(answer.headers.location).toBe(`/v1/vms/${vm.id}`);
    expect(vm.disks).toMatchObject([{ device: 'ubd0', format: 'cow', owned_by_vm: true }]);
    expect(vm.nics).toMatchObject([
      { device: 'eth0', network: 'default', addresses: [expect.stringMatching(/^10\.0\.77\.\d+$/)] },
    ]);
    expect(vm.nics[0]!.mac).toMatch(/^02:/);
    const cow = fs.readFileSync(path.join(api.home, 'vms', vm.id, 'ubd0.cow'));
    expect(cow.subarray(0, 4).toString()).toBe('OOOM');
    expect((await api.get('/v1/vms/web-1').expect(200)).body).toEqual(vm);
  });

  it('start, run and halt, and the machine gets what it needs', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web-1', { append: 'debug' });
    expect(vm).toMatchObject({ state: 'running' });
    expect(vm.started_at).not.toBeNull();
    const [port] = [...api.fabric.networks.values()][0]!.ports.values();
    expect(port).toMatchObject({ name: 'web-1', addresses: vm.nics[0]!.addresses, protection: {} });
    const { config, nicRings } = api.farm.of('web-1').data;
    expect(config).toMatchObject({ name: 'web-1', append: 'console=ttyS0 debug umlaut.name=web-1' });
    expect(config.disks).toEqual([
      {
        device: 'ubd0',
        readOnly: false,
        limits: {},
        onError: 'report',
        tracking: expect.stringContaining('/changes/'),
        file: expect.stringContaining('.disk'),
        cow: expect.stringContaining('ubd0.cow'),
      },
    ]);
    expect(nicRings).toHaveLength(1);
    const halted = await api.operate('/v1/vms/web-1/halt');
    expect(halted).toMatchObject({
      status: 'succeeded',
      kind: 'vm.halt',
      resources: [{ type: 'vm', id: vm.id }],
    });
    expect(await api.vm('web-1')).toMatchObject({ state: 'halted', cause: null });
    expect([...api.fabric.networks.values()][0]!.ports.size).toBe(0);
  });

  it('stop and go on', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    expect((await api.post('/v1/vms/web-1/stop').expect(200)).body).toMatchObject({ state: 'stopped' });
    const again = await api.post('/v1/vms/web-1/stop').expect(409);
    expect(again.body).toMatchObject({ code: 'conflict', detail: 'Already stopped' });
    expect((await api.post('/v1/vms/web-1/go').expect(200)).body).toMatchObject({ state: 'running' });
    expect((await api.post('/v1/vms/web-1/go').expect(409)).body).toMatchObject({ detail: 'Not stopped' });
    await api.post('/v1/vms/web-1/cad').expect(200);
    await api.post('/v1/vms/web-1/sysrq', { letter: 's' }).expect(200);
    const sent = api.farm.of('web-1').requests.map((request) => request.type);
    expect(sent).toEqual(['stop', 'go', 'cad', 'sysrq']);
  });

  it('reboot, also from a stop, and shut down by the power button', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    await api.post('/v1/vms/web-1/stop').expect(200);
    expect(await api.operate('/v1/vms/web-1/reboot')).toMatchObject({ status: 'succeeded' });
    expect(await api.vm('web-1')).toMatchObject({ state: 'running' });
    expect(await api.operate('/v1/vms/web-1/shutdown')).toMatchObject({ status: 'succeeded' });
    expect(await api.vm('web-1')).toMatchObject({ state: 'halted' });
  });

  it('tell their state to who waits for it', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const waiting = api.get('/v1/vms/web-1/wait?state=running&timeout=20');
    const [answer] = await Promise.all([waiting, api.operate('/v1/vms/web-1/start')]);
    expect(answer.body).toMatchObject({ state: 'running' });
    const late = await api.get('/v1/vms/web-1/wait?state=failed&timeout=0.05').expect(200);
    expect(late.body).toMatchObject({ state: 'running' });
  });

  it('that fail say why, and take nothing else down', async () => {
    const api = await startHarness();
    await api.runVm('one');
    await api.runVm('two');
    await api.runVm('three');
    api.farm.of('one').crash('unreachable executed');
    api.farm.of('two').end({ reason: 'triple-fault', detail: 'rip=0xffffffff81000000' });
    await api.get('/v1/vms/one/wait?state=failed&timeout=10');
    await api.get('/v1/vms/two/wait?state=failed&timeout=10');
    expect((await api.vm('one')).cause).toMatchObject({
      code: 'machine_failed',
      detail: 'Error: unreachable executed',
    });
    expect((await api.vm('two')).cause?.detail).toContain('rip=0xffffffff81000000');
    expect(await api.vm('three')).toMatchObject({ state: 'running' });
    expect(await api.operate('/v1/vms/one/start')).toMatchObject({ status: 'succeeded' });
    expect(await api.vm('one')).toMatchObject({ state: 'running', cause: null });
  });

  it('whose machine ends while it boots fail with its cause', async () => {
    const api = await startHarness();
    api.farm.onStart = { reason: 'error', code: 'bad_kernel', detail: 'the file is no kernel' };
    await api.createVm({ name: 'web-1' });
    const operation = await api.operate('/v1/vms/web-1/start');
    expect(operation).toMatchObject({
      status: 'failed',
      error: { code: 'bad_kernel', detail: 'the file is no kernel' },
    });
    expect(await api.vm('web-1')).toMatchObject({ state: 'failed', cause: { code: 'bad_kernel' } });
    expect((await api.get('/v1/host')).body.memory.committed_bytes).toBe(0);
  });

  it('do not start from a damaged image', async () => {
    const api = await startHarness();
    const vm = await api.createVm({ name: 'web-1' });
    api.library.corrupt.add(vm.image_id);
    const operation = await api.operate('/v1/vms/web-1/start');
    expect(operation).toMatchObject({ status: 'failed', error: { code: 'image_corrupt' } });
    expect(api.farm.machines).toHaveLength(0);
  });

  it('have room for compiled code of their own, from the next start on', async () => {
    const api = await startHarness();
    const made = await api.createVm({ name: 'web-1', jit_code_bytes: 4 * MIB });
    expect(made).toMatchObject({ jit_code_bytes: 4 * MIB });
    await api.patch('/v1/vms/web-1', { jit_code_bytes: 2 * MIB }).expect(200);
    await api.operate('/v1/vms/web-1/start');
    expect(api.farm.of('web-1').data.config).toMatchObject({ jitCodeBytes: 2 * MIB });
    const reset = await api.patch('/v1/vms/web-1', { jit_code_bytes: null }).expect(200);
    expect(reset.body).toMatchObject({ jit_code_bytes: null });
    const little = await api.patch('/v1/vms/web-1', { jit_code_bytes: 1024 }).expect(400);
    expect(little.body).toMatchObject({ code: 'invalid_input', field: 'jit_code_bytes' });
  });

  it('are changed under If-Match, and only while they do not run where it matters', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const etag = (await api.get('/v1/vms/web-1')).headers.etag!;
    const changed = await api
      .patch('/v1/vms/web-1', { memory_bytes: 512 * MIB })
      .set('if-match', etag)
      .expect(200);
    expect(changed.body).toMatchObject({ memory_bytes: 512 * MIB, version: 2 });
    expect(changed.headers.etag).toBe('"2"');
    const stale = await api.patch('/v1/vms/web-1', { append: 'x' }).set('if-match', etag).expect(412);
    expect(stale.body).toMatchObject({ code: 'precondition_failed', field: 'If-Match' });
    await api.delete('/v1/vms/web-1').set('if-match', etag).expect(412);
    await api.patch('/v1/vms/web-1', { append: 'x' }).set('if-match', 'nonsense').expect(400);
    await api.operate('/v1/vms/web-1/start');
    const running = await api.patch('/v1/vms/web-1', { append: 'y' }).expect(409);
    expect(running.body).toMatchObject({ code: 'conflict', field: 'append', remedy: 'halt it first' });
    await api.patch('/v1/vms/web-1', { memory_bytes: 256 * MIB }).expect(200);
    expect(api.farm.of('web-1').requests.at(-1)).toEqual({ type: 'memory', bytes: 256 * MIB });
    await api.patch('/v1/vms/web-1', { labels: { a: 'b' }, autostart: 'never' }).expect(200);
    expect(await api.vm('web-1')).toMatchObject({
      labels: { a: 'b' },
      autostart: 'never',
      memory_bytes: 256 * MIB,
    });
  });

  it('are deleted with their disks, and while they run only by force', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web-1');
    const refused = await api.delete('/v1/vms/web-1').expect(409);
    expect(refused.body).toMatchObject({ code: 'conflict', remedy: 'halt it first' });
    await api.delete('/v1/vms/web-1?force=true').expect(204);
    await api.get('/v1/vms/web-1').expect(404);
    expect(fs.existsSync(path.join(api.home, 'vms', vm.id))).toBe(false);
    expect((await api.get('/v1/disks')).body.items).toEqual([]);
    expect(api.farm.of('web-1').requests.at(-1)).toEqual({ type: 'halt' });
  });

  it('that do not halt when asked are ended', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    api.farm.of('web-1').end({ reason: 'power-off' });
    await api.get('/v1/vms/web-1/wait?state=halted&timeout=10');
    const refused = await api.post('/v1/vms/web-1/halt').expect(409);
    expect(refused.body).toMatchObject({ code: 'conflict', remedy: 'start it first' });
  });

  it('are planned by a dry run that changes nothing', async () => {
    const api = await startHarness();
    const plan = await api.post('/v1/vms?dry_run=true', { name: 'web-1' }).expect(200);
    expect(plan.body).toMatchObject({ dry_run: true, vm: { name: 'web-1', disks: [{ device: 'ubd0' }] } });
    expect((await api.get('/v1/vms')).body.items).toEqual([]);
    expect(fs.readdirSync(path.join(api.home, 'vms'))).toEqual([]);
    await api.createVm({ name: 'web-1' });
    await api.post('/v1/vms?dry_run=true', { name: 'web-1' }).expect(409);
    await api.post('/v1/vms?dry_run=true', { memory_bytes: MIB }).expect(422);
  });

  it('are listed in pages and by name, state and label', async () => {
    const api = await startHarness();
    for (const name of ['a', 'b', 'c']) await api.createVm({ name, labels: { zone: name, all: '1' } });
    const first = (await api.get('/v1/vms?limit=2').expect(200)).body as VmPage;
    expect(first.items.map((vm) => vm.name)).toEqual(['a', 'b']);
    const second = (await api.get(`/v1/vms?limit=2&cursor=${first.next_cursor}`)).body as VmPage;
    expect(second).toMatchObject({ items: [{ name: 'c' }], next_cursor: null });
    const names = async (query: string): Promise<string[]> =>
      ((await api.get(`/v1/vms?${query}`).expect(200)).body as VmPage).items.map((vm) => vm.name);
    expect(await names('name=b')).toEqual(['b']);
    expect(await names('state=running')).toEqual([]);
    expect(await names('label=zone%3Dc')).toEqual(['c']);
    expect(await names('label=all')).toEqual(['a', 'b', 'c']);
    await api.get('/v1/vms?cursor=%21').expect(400);
    await api.get('/v1/vms?limit=0').expect(400);
  });

  it('count what they do', async () => {
    const api = await startHarness();
    await api.runVm('web-1');
    const stats = await api.get('/v1/vms/web-1/stats').expect(200);
    expect(stats.body).toMatchObject({ instructions: 42, cpu_seconds: 1 });
    const drops = { macSpoof: 2, queueFull: 0, beforeSwitch: 1 };
    expect(stats.body.nics).toMatchObject([{ device: 'eth0', rx_bytes: 60, tx_frames: 2, drops }]);
  });
});

describe('memory', () => {
  it('too small to boot or larger than the host is refused with the bounds', async () => {
    const api = await startHarness();
    const small = await api.post('/v1/vms', { memory_bytes: 4 * MIB }).expect(422);
    expect(small.body).toMatchObject({
      code: 'memory_too_small',
      field: 'memory_bytes',
      remedy: 'give at least 64 MiB',
    });
    const large = await api.post('/v1/vms', { memory_bytes: 2 ** 40 }).expect(422);
    expect(large.body).toMatchObject({ code: 'memory_too_large', field: 'memory_bytes' });
    expect(large.body.remedy).toMatch(/at most \d+ MiB/);
  });

  it('is admitted up to the limit, told in figures, and given back', async () => {
    const api = await startHarness({ memoryLimitBytes: 400 * MIB });
    await api.runVm('one', { memory_bytes: 128 * MIB });
    await api.createVm({ name: 'two', memory_bytes: 128 * MIB });
    const refused = await api.operate('/v1/vms/two/start');
    expect(refused).toMatchObject({ status: 'failed', error: { code: 'memory_exhausted' } });
    expect(refused.error?.detail).toContain('running guests have 224 MiB of 400 MiB');
    expect(await api.vm('two')).toMatchObject({ state: 'created' });
    await api.post('/v1/vms?dry_run=true', { memory_bytes: 128 * MIB, start: true }).expect(503);
    await api.operate('/v1/vms/one/halt');
    expect(await api.operate('/v1/vms/two/start')).toMatchObject({ status: 'succeeded' });
  });
});

describe('a hundred at once', () => {
  it('are made, started and deleted', async () => {
    const api = await startHarness();
    const names = Array.from({ length: 100 }, (_, index) => `vm-${index}`);
    await Promise.all(names.map((name) => api.createVm({ name, memory_bytes: 64 * MIB })));
    const started = await Promise.all(names.map((name) => api.operate(`/v1/vms/${name}/start`)));
    expect(new Set(started.map(({ status }) => status))).toEqual(new Set(['succeeded']));
    expect((await api.get('/v1/host')).body.vms).toEqual({ total: 100, running: 100 });
    await Promise.all(names.map((name) => api.delete(`/v1/vms/${name}?force=true`).expect(204)));
    expect((await api.get('/v1/host')).body).toMatchObject({
      vms: { total: 0 },
      memory: { committed_bytes: 0 },
    });
    expect(fs.readdirSync(path.join(api.home, 'vms'))).toEqual([]);
  }, 60_000);

  it('starts of one VM: one does it, and the others are told', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const answers = await Promise.all(Array.from({ length: 100 }, () => api.post('/v1/vms/web-1/start')));
    const accepted = answers.filter(({ status }) => status === 202);
    const ended = await Promise.all(accepted.map(({ headers }) => api.ended(headers.location!)));
    expect(ended.filter(({ status }) => status === 'succeeded')).toHaveLength(1);
    expect(answers.filter(({ status }) => ![202, 409].includes(status))).toEqual([]);
    expect(api.farm.machines).toHaveLength(1);
    expect(await api.vm('web-1')).toMatchObject({ state: 'running' });
  });

  it('deletes of one VM: one does it, and the others find nothing', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web-1' });
    const answers = await Promise.all(Array.from({ length: 100 }, () => api.delete('/v1/vms/web-1')));
    expect(answers.filter(({ status }) => status === 204)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 404)).toHaveLength(99);
  });

  it('creates of one name: one has it', async () => {
    const api = await startHarness();
    const answers = await Promise.all(
      Array.from({ length: 100 }, () => api.post('/v1/vms', { name: 'web-1' })),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(1);
    expect(answers.filter(({ body }) => body.code === 'already_exists')).toHaveLength(99);
    expect(fs.readdirSync(path.join(api.home, 'vms'))).toHaveLength(1);
  });
});
