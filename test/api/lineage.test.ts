/** The graph of layers over the API: questions about it, and disks that are put over something else. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DiskSharers, DiskTree, DiskUsage, Operation } from '../../src/contracts/api/index.ts';
import { openDisk } from '../../src/storage/index.ts';
import { SYSTEM } from '../../src/vmm/index.ts';
import { IMAGE_DISK_BYTES } from './support/fakes.ts';
import { type Harness, startHarness } from './support/harness.ts';

const BLOCK = 4096;

async function write(api: Harness, vm: string, block: number, value: number): Promise<void> {
  await api.farm
    .of(vm)
    .disk('ubd0')
    .write(block * BLOCK, [new Uint8Array(BLOCK).fill(value)]);
}

async function contentOf(api: Harness, diskRef: string): Promise<Uint8Array> {
  const { disks } = api.daemon.services;
  const disk = openDisk({ ...disks.config(disks.find(SYSTEM, diskRef)), readOnly: true });
  const bytes = new Uint8Array(disk.sizeBytes);
  await disk.read(0, [bytes]);
  await disk.close();
  return bytes;
}

/** web with a snapshot "one" of which copy is a clone; blocks 0 and 1 are older, 1 and 2 newer. */
async function family(): Promise<{ api: Harness; disk: string; copy: string }> {
  const api = await startHarness();
  const vm = await api.runVm('web');
  await write(api, 'web', 0, 1);
  await write(api, 'web', 1, 2);
  await api.post('/v1/vms/web/snapshots', { name: 'one' }).expect(201);
  await write(api, 'web', 1, 3);
  await write(api, 'web', 2, 4);
  const copy = (await api.post('/v1/vms/web/snapshots/one/clone', { name: 'copy' }).expect(201)).body;
  await api.operate('/v1/vms/web/halt');
  return { api, disk: vm.disks[0]!.id, copy: copy.disks[0].id };
}

describe('the tree of a disk', () => {
  it('has its layers, what has come of them, and whose they are', async () => {
    const { api, disk, copy } = await family();
    const tree = (await api.get(`/v1/disks/${disk}/tree`).expect(200)).body as DiskTree;
    const [image, first, ...tops] = tree.layers;
    expect(image).toMatchObject({ kind: 'image', parent_id: null, frozen: true, users: [] });
    expect(first).toMatchObject({
      kind: 'cow',
      parent_id: image!.id,
      frozen: true,
      users: [{ type: 'snapshot', name: 'one' }],
    });
    expect(tops.map(({ parent_id }) => parent_id)).toEqual([first!.id, first!.id]);
    expect(tops.flatMap((layer) => layer.users.map(({ id }) => id)).sort()).toEqual([copy, disk].sort());
    expect(tops.find(({ id }) => id === tree.layer_id)).toMatchObject({
      users: [{ type: 'disk', id: disk }],
    });
  });

  it('tells how much is unique, shared and hidden', async () => {
    const { api, disk } = await family();
    const usage = (await api.get(`/v1/disks/${disk}/usage`).expect(200)).body as DiskUsage;
    const tree = (await api.get(`/v1/disks/${disk}/tree`).expect(200)).body as DiskTree;
    const of = (id: string) => usage.layers.find((layer) => layer.layer_id === id);
    const [image, first] = tree.layers;
    // Block 0 is seen by disk, snapshot and clone, block 1 by the latter two.
    expect(of(first!.id)).toMatchObject({ unique_bytes: 0, shared_bytes: 2 * BLOCK, hidden_bytes: 0 });
    expect(of(tree.layer_id)).toMatchObject({ unique_bytes: 2 * BLOCK, shared_bytes: 0, hidden_bytes: 0 });
    expect(of(image!.id)).toMatchObject({
      unique_bytes: 0,
      shared_bytes: IMAGE_DISK_BYTES - 2 * BLOCK,
      hidden_bytes: 2 * BLOCK,
    });
    await api.delete('/v1/vms/copy').expect(204);
    const after = (await api.get(`/v1/disks/${disk}/usage`).expect(200)).body as DiskUsage;
    expect(after.layers.find((layer) => layer.layer_id === first!.id)).toMatchObject({
      unique_bytes: BLOCK,
      shared_bytes: BLOCK,
    });
  });

  it('tells who shares a block, and what depends on an image', async () => {
    const { api, disk } = await family();
    const sharers = async (offset: number): Promise<string[]> => {
      const answer = await api.get(`/v1/disks/${disk}/sharers?offset=${offset}`).expect(200);
      const { users } = answer.body as DiskSharers;
      return users.map(({ type }) => type).sort();
    };
    expect(await sharers(100)).toEqual(['disk', 'disk', 'snapshot']);
    expect(await sharers(BLOCK)).toEqual(['disk']);
    expect(await sharers(5 * BLOCK)).toEqual(['disk', 'disk', 'snapshot']);
    await api.get(`/v1/disks/${disk}/sharers?offset=${IMAGE_DISK_BYTES}`).expect(400);
    const { dependents } = (await api.get('/v1/images/default/dependents').expect(200)).body;
    expect(dependents.map(({ type }: { type: string }) => type).sort()).toEqual([
      'disk',
      'disk',
      'snapshot',
      'vm',
      'vm',
    ]);
  });
});

describe('questions about a disk that a guest writes to', () => {
  it('have what it has not flushed in their answers', async () => {
    const api = await startHarness();
    const vm = await api.runVm('web');
    const disk = vm.disks[0]!.id;
    await write(api, 'web', 0, 1);
    const { kind } = (await api.get(`/v1/disks/${disk}/sharers?offset=0`).expect(200)).body as DiskSharers;
    expect(kind).toBe('cow');
    await write(api, 'web', 1, 2);
    const { layers } = (await api.get(`/v1/disks/${disk}/usage`).expect(200)).body as DiskUsage;
    expect(layers.at(-1)).toMatchObject({ unique_bytes: 2 * BLOCK });
  });
});

describe('a disk', () => {
  it('is put over another image, keeps its content, and only differences', async () => {
    const { api, disk } = await family();
    const { resources } = await api.operate('/v1/images/build', { name: 'fresh' });
    const before = await contentOf(api, disk);
    expect(await api.operate(`/v1/disks/${disk}/rebase`, { image: 'fresh' })).toMatchObject({
      status: 'succeeded',
      kind: 'disk.rebase',
    });
    expect(Buffer.from(await contentOf(api, disk)).equals(before)).toBe(true);
    const tree = (await api.get(`/v1/disks/${disk}/tree`).expect(200)).body as DiskTree;
    expect(tree.layers.map(({ kind }) => kind)).toEqual(['image', 'cow']);
    expect((await api.get(`/v1/disks/${disk}`)).body).toMatchObject({ image_id: resources[0]!.id });
    const usage = (await api.get(`/v1/disks/${disk}/usage`)).body as DiskUsage;
    // Blocks 0, 1 and 2 were written; the rest is zeros in both images.
    expect(usage.layers[1]).toMatchObject({ unique_bytes: 3 * BLOCK });
    // The snapshot is as it was.
    await api.post('/v1/vms/web/snapshots/one/clone', { name: 'again' }).expect(201);
    await api.operate('/v1/vms/web/start');
    await write(api, 'web', 7, 7);
    await api.post(`/v1/disks/${disk}/rebase`, { image: 'fresh' }).expect(409);
    await api.operate('/v1/vms/web/halt');
    const refused = await api.post(`/v1/disks/${disk}/rebase`, { image: 'none' }).expect(404);
    expect(refused.body.field).toBe('image');
  });

  it('becomes independent', async () => {
    const { api, disk } = await family();
    const before = await contentOf(api, disk);
    expect(await api.operate(`/v1/disks/${disk}/flatten`)).toMatchObject({ status: 'succeeded' });
    expect(Buffer.from(await contentOf(api, disk)).equals(before)).toBe(true);
    expect((await api.get(`/v1/disks/${disk}`)).body).toMatchObject({ format: 'raw', image_id: null });
    const tree = (await api.get(`/v1/disks/${disk}/tree`)).body as DiskTree;
    expect(tree.layers).toMatchObject([{ kind: 'raw', parent_id: null, users: [{ id: disk }] }]);
  });

  it('whose files were changed by somebody else is refused, says whose it is, and is repaired', async () => {
    const { api, disk, copy } = await family();
    const before = await contentOf(api, disk);
    const tree = (await api.get(`/v1/disks/${disk}/tree`)).body as DiskTree;
    const file = path.join(api.home, 'vms', (await api.vm('web')).id, 'ubd0.cow');
    fs.utimesSync(file, 77, 77);
    const failed: Operation = await api.operate('/v1/vms/web/start');
    expect(failed).toMatchObject({ status: 'failed', error: { code: 'cow_backing_changed' } });
    expect(failed.error!.detail).toContain('of VM web');
    expect(failed.error!.detail).toContain('of VM copy');
    expect(failed.error!.remedy).toContain('umlaut disk repair');
    const repaired = (await api.post(`/v1/disks/${disk}/repair`).expect(200)).body;
    expect(repaired.repaired).toMatchObject([{ layer_id: tree.layers[1]!.id, before: 77 }]);
    expect((await api.post(`/v1/disks/${copy}/repair`).expect(200)).body).toEqual({ repaired: [] });
    expect(await api.operate('/v1/vms/web/start')).toMatchObject({ status: 'succeeded' });
    await api.operate('/v1/vms/web/halt');
    expect(Buffer.from(await contentOf(api, disk)).equals(before)).toBe(true);
    fs.truncateSync(file, 20_000);
    fs.utimesSync(file, 77, 77);
    // A file that lost its end still has its header: what is missing reads as zeros, which nobody may accept unseen.
    expect((await api.operate('/v1/vms/web/start')).error).toMatchObject({ code: 'cow_backing_changed' });
  });
});
