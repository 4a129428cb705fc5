/** Disks that are made larger, over the API and by the command. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openDisk } from '../../src/storage/index.ts';
import { SYSTEM } from '../../src/vmm/index.ts';
import { startHarness } from './support/harness.ts';

const MIB = 1024 * 1024;

describe('a raw disk is made larger', () => {
  it('while no VM has it, and never smaller', async () => {
    const api = await startHarness();
    const { id } = (await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201)).body;
    const { body } = await api.post('/v1/disks/data/resize', { size_bytes: 4 * MIB }).expect(200);
    expect(body).toMatchObject({ id, size_bytes: 4 * MIB });
    expect(fs.statSync(path.join(api.home, 'disks', `${id}.img`)).size).toBe(4 * MIB);
    const smaller = await api.post('/v1/disks/data/resize', { size_bytes: 2 * MIB }).expect(400);
    expect(smaller.body).toMatchObject({ code: 'invalid_input', field: 'size_bytes' });
    await api.post('/v1/disks/data/resize', { size_bytes: 4 * MIB + 1 }).expect(400);
    await api.post('/v1/disks/data/resize', { size_bytes: 4 * MIB }).expect(200);
    const { items } = (await api.get('/v1/events?type=disk.updated').expect(200)).body;
    expect(items.map(({ data }: { data: object }) => data)).toContainEqual({
      name: 'data',
      size_bytes: 4 * MIB,
    });
  });

  it('while a VM runs with it, whose machine is told', async () => {
    const api = await startHarness();
    await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201);
    await api.runVm('web', { disks: [{ disk: 'data' }] });
    const { body } = await api.post('/v1/disks/data/resize', { size_bytes: 2 * MIB }).expect(200);
    expect(body).toMatchObject({ size_bytes: 2 * MIB, device: 'ubd1' });
    expect(api.farm.of('web').disk('ubd1').sizeBytes).toBe(2 * MIB);
  });

  it('after a daemon that was killed before it wrote that down', async () => {
    const api = await startHarness();
    const { id } = (await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201)).body;
    fs.truncateSync(path.join(api.home, 'disks', `${id}.img`), 4 * MIB);
    // What a guest may have written by now is not cut off.
    await api.post('/v1/disks/data/resize', { size_bytes: 2 * MIB }).expect(400);
    await api.post('/v1/disks/data/resize', { size_bytes: 4 * MIB }).expect(200);
  });
});

it('a copy-on-write disk is not, until it has been flattened', async () => {
  const api = await startHarness();
  const { id, size_bytes } = (await api.post('/v1/disks', { name: 'root', image: 'default' }).expect(201))
    .body;
  const refused = await api.post('/v1/disks/root/resize', { size_bytes: 2 * size_bytes }).expect(501);
  expect(refused.body).toMatchObject({ code: 'unsupported', field: 'disk' });
  expect(refused.body.remedy).toContain('umlaut disk flatten root');
  await api.operate('/v1/disks/root/flatten');
  const { body } = await api.post('/v1/disks/root/resize', { size_bytes: 2 * size_bytes }).expect(200);
  expect(body).toMatchObject({ id, size_bytes: 2 * size_bytes, format: 'raw' });
});

it('a disk that was made larger is read as a whole by the next backup, and comes back as large', async () => {
  const api = await startHarness();
  await api.post('/v1/disks', { name: 'data', size_bytes: MIB }).expect(201);
  await api.runVm('web', { disks: [{ disk: 'data' }] });
  const disk = () => api.farm.of('web').disk('ubd1');
  const backUp = async (name: string): Promise<string> => {
    expect(await api.operate('/v1/vms/web/backups', { name })).toMatchObject({ error: null });
    return (await api.backup(name)).kind;
  };
  // Opened for good, as by a machine.
  api.farm.of('web').disk('ubd0');
  await disk().write(0, [new Uint8Array(4096).fill(1)]);
  expect(await backUp('first')).toBe('full');
  expect(await backUp('second')).toBe('incremental');
  await api.post('/v1/disks/data/resize', { size_bytes: 3 * MIB }).expect(200);
  await disk().write(3 * MIB - 4096, [new Uint8Array(4096).fill(2)]);
  await backUp('third');
  await api.operate('/v1/backups/third/restore', { name: 'restored' });
  const copy = (await api.vm('restored')).disks.find(({ device }) => device === 'ubd1')!;
  expect(copy.size_bytes).toBe(3 * MIB);
  const expected = Buffer.alloc(3 * MIB);
  expected.fill(1, 0, 4096).fill(2, 3 * MIB - 4096);
  const { disks } = api.daemon.services;
  const opened = openDisk({ ...disks.config(disks.find(SYSTEM, copy.id)), readOnly: true });
  const content = Buffer.alloc(3 * MIB);
  await opened.read(0, [content]);
  await opened.close();
  expect(content.equals(expected)).toBe(true);
  expect(await backUp('fourth')).toBe('incremental');
});
