import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { scratchFolder } from '../support/storage.ts';
import { startHarness } from './support/harness.ts';

it("disks have UML's flags while they are attached by mconsole", async () => {
  const folder = scratchFolder();
  writeFileSync(join(folder, 'disk'), Buffer.alloc(1 << 20));
  const api = await startHarness({ allowPaths: [folder] });
  await api.runVm('web');
  await api.post('/v1/disks', { name: 'data', size_bytes: 1 << 20 }).expect(201);
  const say = async (command: string) =>
    (await api.post('/v1/vms/web/mconsole', { command }).expect(200)).body as unknown;
  const last = () => api.farm.of('web').requests.at(-1);
  expect(await say(`config ubd1st=${join(folder, 'disk')}`)).toMatchObject({ ok: true });
  expect(last()).toMatchObject({ type: 'attach-disk', disk: { synchronous: true, noDiscard: true } });
  expect(await say('config ubd2rs=data')).toMatchObject({ ok: true });
  expect(last()).toMatchObject({ type: 'attach-disk', disk: { synchronous: true, readOnly: true } });
  expect(last()).not.toHaveProperty('disk.noDiscard');
  // They are kept for the next start, and end with the attachment.
  await api.operate('/v1/vms/web/halt');
  await api.operate('/v1/vms/web/start');
  const { disks } = api.farm.of('web').data.config;
  expect(disks.map(({ synchronous }) => synchronous === true)).toEqual([false, true, true]);
  expect(await say('remove ubd2')).toMatchObject({ ok: true });
  expect(await say('config ubd2=data')).toMatchObject({ ok: true });
  expect(last()).not.toHaveProperty('disk.synchronous');
  expect(await say('config ubd3c=data')).toMatchObject({ ok: false });
});

it('COW files of the operator are attached with the backing file that is named, and never on the word of their header', async () => {
  const folder = scratchFolder();
  const [cow, backing] = [join(folder, 'cow'), join(folder, 'disk')];
  writeFileSync(backing, Buffer.alloc(1 << 20));
  const api = await startHarness({ allowPaths: [folder] });
  await api.runVm('web');
  const say = async (command: string) =>
    (await api.post('/v1/vms/web/mconsole', { command }).expect(200)).body as unknown;
  const last = () => api.farm.of('web').requests.at(-1);
  expect(await say(`config ubd1=${cow},${backing}`)).toMatchObject({ ok: true });
  expect(await say('config ubd1')).toEqual({ ok: true, err: 0, text: `${cow},${backing}` });
  expect(await say('remove ubd1')).toMatchObject({ ok: true });
  expect(await say(`config ubd1=${cow}`)).toMatchObject({
    ok: false,
    err: -22,
    text: `${cow} is a COW file over ${backing}`,
  });
  expect(await say('config ubd1')).toMatchObject({ text: '' });
  expect(await say(`config ubd1d=${cow}`)).toMatchObject({ ok: true });
  expect(last()).toMatchObject({ type: 'attach-disk', disk: { file: cow } });
  expect(last()).not.toHaveProperty('disk.cow');
  expect(await say(`config ubd2=${backing},,SERIAL`)).toMatchObject({ ok: false });
});
