/** Snapshots over the API, with real disks under machines whose guest is the test. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Operation, Vm, VmSnapshot } from '../../src/contracts/api/index.ts';
import { openDisk } from '../../src/storage/index.ts';
import { SYSTEM } from '../../src/vmm/index.ts';
import { IMAGE_DISK_BYTES } from './support/fakes.ts';
import { type Harness, startHarness } from './support/harness.ts';

const BLOCK = 4096;

const layerFiles = (api: Harness): string[] => fs.readdirSync(path.join(api.home, 'layers')).sort();

/** With the one that a VM began with. */
const allFiles = (api: Harness, vm: Vm): string[] => [
  ...layerFiles(api),
  ...fs.readdirSync(path.join(api.home, 'vms', vm.id)),
];

async function snapshot(api: Harness, vm: string, name: string): Promise<VmSnapshot> {
  return (await api.post(`/v1/vms/${vm}/snapshots`, { name }).expect(201)).body as VmSnapshot;
}

async function remove(api: Harness, vm: string, name: string, query = ''): Promise<Operation> {
  const answer = await api.delete(`/v1/vms/${vm}/snapshots/${name}${query}`).expect(202);
  return api.ended(answer.headers.location!);
}

/** The guest writes a block of this byte. */
async function write(api: Harness, vm: string, block: number, value: number): Promise<void> {
  await api.farm
    .of(vm)
    .disk('ubd0')
    .write(block * BLOCK, [new Uint8Array(BLOCK).fill(value)]);
}

/** The first byte of each of the first four blocks, of a VM that runs or not. */
async function blocks(api: Harness, ref: string): Promise<number[]> {
  const vm = await api.vm(ref);
  const running = vm.state === 'running';
  const [row] = api.daemon.services.vms.find(SYSTEM, vm.id) === undefined ? [] : vm.disks;
  const disk = running ? api.farm.of(vm.name).disk('ubd0') : openConfigured(api, row!.id);
  const bytes = new Uint8Array(4 * BLOCK);
  await disk.read(0, [bytes]);
  if (!running) await disk.close();
  return [0, 1, 2, 3].map((block) => bytes[block * BLOCK]!);
}

function openConfigured(api: Harness, diskId: string) {
  const { disks } = api.daemon.services;
  return openDisk({ ...disks.config(disks.find(SYSTEM, diskId)), readOnly: true });
}

const BASE = 's'.charCodeAt(0);

describe('snapshots', () => {
  it('of a running VM have what was written before, and nothing of what comes after', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web');
    await write(api, 'web', 0, 1);
    const first = await snapshot(api, 'web', 'first');
    expect(first).toMatchObject({ name: 'first', vm_id: vm.id, state: 'available', running: true });
    expect(first.disks).toMatchObject([
      { device: 'ubd0', disk_id: vm.disks[0]!.id, size_bytes: IMAGE_DISK_BYTES },
    ]);
    await write(api, 'web', 0, 2);
    await write(api, 'web', 1, 3);
    expect(await blocks(api, 'web')).toEqual([2, 3, 0, 0]);
    const clone = (await api.post('/v1/vms/web/snapshots/first/clone', { name: 'copy' }).expect(201))
      .body as Vm;
    expect(clone).toMatchObject({
      name: 'copy',
      state: 'created',
      disks: [{ format: 'cow', image_id: vm.image_id }],
    });
    expect(clone.nics[0]!.mac).not.toBe(vm.nics[0]!.mac);
    expect(await blocks(api, 'copy')).toEqual([1, 0, 0, 0]);
    expect((await api.get('/v1/vms/web/snapshots').expect(200)).body.items).toHaveLength(1);
    await api.get(`/v1/vms/web/snapshots/${first.id}`).expect(200);
    await api.get('/v1/vms/copy/snapshots/first').expect(404);
    expect((await api.post('/v1/vms/web/snapshots', { name: 'first' }).expect(409)).body.code).toBe(
      'already_exists',
    );
    expect(await blocks(api, 'web')).toEqual([2, 3, 0, 0]);
    await api.operate('/v1/vms/web/halt');
    expect(await blocks(api, 'web')).toEqual([2, 3, 0, 0]);
  });

  it('of a VM that is off are gone back to, and so is one that runs, by force', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web' });
    expect(await snapshot(api, 'web', 'empty')).toMatchObject({ running: false });
    await api.operate('/v1/vms/web/start');
    await write(api, 'web', 0, 1);
    await snapshot(api, 'web', 'one');
    await write(api, 'web', 0, 2);
    expect((await api.post('/v1/vms/web/snapshots/one/rollback').expect(409)).body.remedy).toContain('force');
    const back = await api.operate('/v1/vms/web/snapshots/one/rollback', { force: true });
    expect(back).toMatchObject({ status: 'succeeded', kind: 'snapshot.rollback' });
    expect(await api.vm('web')).toMatchObject({ state: 'running' });
    expect(await blocks(api, 'web')).toEqual([1, 0, 0, 0]);
    await write(api, 'web', 1, 9);
    await api.operate('/v1/vms/web/halt');
    await api.operate('/v1/vms/web/snapshots/empty/rollback');
    expect(await blocks(api, 'web')).toEqual([BASE, 0, 0, 0]);
    expect(await api.vm('web')).toMatchObject({ state: 'halted' });
    await api.operate('/v1/vms/web/snapshots/one/rollback');
    expect(await blocks(api, 'web')).toEqual([1, 0, 0, 0]);
  });

  it.each(['first', 'second', 'third'])('are deleted while the VM runs on (%s of three)', async (name) => {
    const api = await startHarness();
    const vm = await api.runVm('web');
    for (const [index, each] of ['first', 'second', 'third'].entries()) {
      await write(api, 'web', index, index + 1);
      await write(api, 'web', 3, index + 10);
      await snapshot(api, 'web', each);
    }
    await write(api, 'web', 0, 50);
    expect(allFiles(api, vm)).toHaveLength(4);
    expect(await remove(api, 'web', name)).toMatchObject({ status: 'succeeded', kind: 'snapshot.delete' });
    await write(api, 'web', 1, 51);
    expect(await blocks(api, 'web')).toEqual([50, 51, 3, 12]);
    await api.get(`/v1/vms/web/snapshots/${name}`).expect(404);
    expect(allFiles(api, vm)).toHaveLength(3);
    const expected = { first: [1, 0, 0, 10], second: [1, 2, 0, 11], third: [1, 2, 3, 12] };
    for (const other of ['first', 'second', 'third'].filter((each) => each !== name)) {
      await api.post(`/v1/vms/web/snapshots/${other}/clone`, { name: `of-${other}` }).expect(201);
      expect(await blocks(api, `of-${other}`)).toEqual(expected[other as keyof typeof expected]);
    }
    await api.operate('/v1/vms/web/halt');
    expect(await blocks(api, 'web')).toEqual([50, 51, 3, 12]);
    await api.operate('/v1/vms/web/start');
    expect(await blocks(api, 'web')).toEqual([50, 51, 3, 12]);
  });

  it('are deleted while the VM is off, and a VM that starts meanwhile does not have to wait', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web');
    await write(api, 'web', 0, 1);
    await snapshot(api, 'web', 'one');
    await write(api, 'web', 1, 2);
    await api.operate('/v1/vms/web/halt');
    // So slow that it certainly goes on: 64 KiB are a second.
    const answer = await api.delete('/v1/vms/web/snapshots/one?bytes_per_second=65536').expect(202);
    await api.operate('/v1/vms/web/start');
    await write(api, 'web', 2, 3);
    expect(await api.ended(answer.headers.location!)).toMatchObject({ status: 'succeeded' });
    expect(await blocks(api, 'web')).toEqual([1, 2, 3, 0]);
    expect(allFiles(api, vm)).toHaveLength(1);
    await api.operate('/v1/vms/web/halt');
    expect(await blocks(api, 'web')).toEqual([1, 2, 3, 0]);
  });

  it('keep the layers that clones are over, when they and their VM are gone', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web');
    await write(api, 'web', 0, 1);
    await snapshot(api, 'web', 'one');
    await api.post('/v1/vms/web/snapshots/one/clone', { name: 'a', start: true }).expect(201);
    await api.post('/v1/vms/web/snapshots/one/clone', { name: 'b' }).expect(201);
    await api.delete('/v1/vms/web?force=true').expect(204);
    expect(fs.readdirSync(path.join(api.home, 'vms', vm.id))).toEqual(['ubd0.cow']);
    expect(await blocks(api, 'b')).toEqual([1, 0, 0, 0]);
    expect((await api.delete('/v1/images/default').expect(409)).body.code).toBe('in_use');
    await api.delete('/v1/vms/b').expect(204);
    // Nobody but the other one is over the layer now: it becomes that one's own.
    const open = async (): Promise<Operation[]> =>
      ((await api.get('/v1/operations?limit=1000')).body.items as Operation[]).filter(
        ({ kind }) => kind === 'layer.merge',
      );
    const [merge] = await open();
    await api.ended(`/v1/operations/${merge!.id}`);
    expect(fs.existsSync(path.join(api.home, 'vms', vm.id))).toBe(false);
    expect(layerFiles(api)).toHaveLength(1);
    expect(await blocks(api, 'a')).toEqual([1, 0, 0, 0]);
    await api.delete('/v1/vms/a?force=true').expect(204);
    expect(layerFiles(api)).toEqual([]);
    await api.delete('/v1/images/default').expect(204);
  });

  it('that a machine cannot take leave everything as it was', async () => {
    const api = await startHarness();
    await api.runVm('web');
    await write(api, 'web', 0, 1);
    api.farm.refuseLayers = ({ type }) => type === 'freeze-layers';
    await api.post('/v1/vms/web/snapshots', { name: 'one' }).expect(500);
    api.farm.refuseLayers = undefined;
    expect(layerFiles(api)).toEqual([]);
    await write(api, 'web', 1, 2);
    await snapshot(api, 'web', 'one');
    expect(await blocks(api, 'web')).toEqual([1, 2, 0, 0]);
  });

  it('are not taken of a file of the operator, and are nobody else’s', async () => {
    const api = await startHarness();
    await api.createVm({ name: 'web' });
    await snapshot(api, 'web', 'one');
    const other = api.as(await api.tokenOf('user', 'acme'));
    await other.get('/v1/vms/web/snapshots/one').expect(404);
    await api.post('/v1/vms/web/snapshots', { name: 'No' }).expect(400);
    await api.post('/v1/vms/web/snapshots/none/clone').expect(404);
  });

  it('of raw disks become layers, too', async () => {
    const api = await startHarness();
    await api.post('/v1/disks', { name: 'data', size_bytes: 8 * BLOCK }).expect(201);
    await api.createVm({ name: 'web', disks: [{ disk: 'data' }] });
    await api.operate('/v1/vms/web/start');
    const data = api.farm.of('web').disk('ubd1');
    await data.write(0, [new Uint8Array(BLOCK).fill(1)]);
    await snapshot(api, 'web', 'one');
    await data.write(BLOCK, [new Uint8Array(BLOCK).fill(2)]);
    expect((await api.get('/v1/disks/data')).body).toMatchObject({ format: 'cow', size_bytes: 8 * BLOCK });
    await remove(api, 'web', 'one');
    expect((await api.get('/v1/disks/data')).body).toMatchObject({ format: 'raw' });
    const bytes = new Uint8Array(2 * BLOCK);
    await data.read(0, [bytes]);
    expect([bytes[0], bytes[BLOCK]]).toEqual([1, 2]);
    await api.operate('/v1/vms/web/halt');
    const disk = openConfigured(api, 'data');
    await disk.read(0, [bytes]);
    await disk.close();
    expect([bytes[0], bytes[BLOCK]]).toEqual([1, 2]);
  });
});
