/** Incremental backups of disks whose layers have changed since: each must hold exactly what the disk did. */
import { expect, it } from 'vitest';
import { openDisk } from '../../src/storage/index.ts';
import { SYSTEM } from '../../src/vmm/index.ts';
import { type Harness, startHarness } from './support/harness.ts';

const BLOCK = 4096;

async function write(api: Harness, block: number, value: number): Promise<void> {
  const disk = api.farm.of('web').disk('ubd0');
  await disk.write(block * BLOCK, [new Uint8Array(BLOCK).fill(value)]);
}

async function contentOf(api: Harness, vm: string): Promise<Buffer> {
  const { disks, supervisor } = api.daemon.services;
  const {
    id,
    disks: [root],
  } = await api.vm(vm);
  const { hasMachine } = supervisor.get(id);
  const config = { ...disks.config(disks.find(SYSTEM, root!.id)), readOnly: true, tracking: undefined };
  const disk = hasMachine ? api.farm.of(vm).disk('ubd0') : openDisk(config);
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, [bytes]);
  if (!hasMachine) await disk.close();
  return bytes;
}

it('after live merges, a rollback, a rebase and flattening', async () => {
  const api = await startHarness();
  const diskId = (await api.runVm('web')).disks[0]!.id;
  let made = 0;
  const check = async (what: string): Promise<string> => {
    const expected = await contentOf(api, 'web');
    const name = `b${made++}`;
    expect(await api.operate('/v1/vms/web/backups', { name }), what).toMatchObject({ error: null });
    for (const full_copy of [false, true]) {
      const restored = `r-${name}-${full_copy}`;
      await api.operate(`/v1/backups/${name}/restore`, { name: restored, full_copy });
      expect((await contentOf(api, restored)).equals(expected), `${what}, full copy ${full_copy}`).toBe(true);
    }
    return (await api.backup(name)).kind;
  };
  await write(api, 0, 1);
  expect(await check('the first')).toBe('full');
  for (const name of ['one', 'two', 'three']) {
    await write(api, 1, name.length);
    await api.post('/v1/vms/web/snapshots', { name }).expect(201);
    await write(api, 2, name.length + 1);
  }
  expect(await check('snapshots')).toBe('incremental');
  await write(api, 3, 9);
  // In the middle of the chain, and then the layer below the top.
  for (const name of ['two', 'three']) {
    const deleted = await api.delete(`/v1/vms/web/snapshots/${name}`).expect(202);
    await write(api, 4, name.length);
    expect(await api.ended(deleted.headers.location!)).toMatchObject({ status: 'succeeded' });
    await write(api, 5, name.length);
    await check(`the merge of ${name}`);
  }
  expect(await api.operate('/v1/vms/web/snapshots/one/rollback', { force: true })).toMatchObject({
    error: null,
  });
  await check('the rollback');
  await write(api, 6, 7);
  await check('a write behind the rollback');
  await api.operate('/v1/vms/web/halt');
  await check('the halt');
  await api.operate('/v1/images/build', { name: 'fresh' });
  expect(await api.operate(`/v1/disks/${diskId}/rebase`, { image: 'fresh' })).toMatchObject({ error: null });
  await check('the rebase');
  expect(await api.operate(`/v1/disks/${diskId}/flatten`)).toMatchObject({ error: null });
  await check('the flattening');
  await api.operate('/v1/vms/web/start');
  await write(api, 7, 8);
  await check('a write behind that');
}, 240_000);
