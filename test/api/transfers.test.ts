/** Disks over the API as files. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as http from 'node:http';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Operation } from '../../src/contracts/api/index.ts';
import { runCli } from '../../src/cli/program.ts';
import { convertDisk } from '../../src/storage/index.ts';
import { pattern } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';
import { until } from '../support/mconsole-client.ts';
import { type Harness, startHarness, tempDir } from './support/harness.ts';

const MIB = 1024 * 1024;
const SIZE = 6 * MIB;

function content(): Buffer {
  const bytes = Buffer.alloc(SIZE);
  bytes.set(pattern(MIB, 1), MIB);
  bytes.set(pattern(3000, 2), SIZE - 3000);
  return bytes;
}

async function withDisk(): Promise<{ readonly api: Harness; readonly folder: string; readonly id: string }> {
  const api = await startHarness();
  const { id } = (await api.post('/v1/disks', { name: 'data', size_bytes: SIZE }).expect(201)).body;
  fs.writeFileSync(path.join(api.home, 'disks', `${id}.img`), content());
  return { api, folder: tempDir(), id };
}

async function upload(api: Harness, query: string, body: Buffer): Promise<Operation> {
  const answer = await api
    .as()
    .post(`/v1/disks/import?${query}`)
    .set('content-type', 'application/octet-stream')
    .send(body)
    .expect(202);
  return await api.ended(answer.headers.location!);
}

async function download(api: Harness, operation: string, to: string): Promise<Headers> {
  const answer = await fetch(`${api.daemon.url}/v1/operations/${operation}/file`, {
    headers: { authorization: `Bearer ${api.token}` },
  });
  expect(answer.status).toBe(200);
  fs.writeFileSync(to, new Uint8Array(await answer.arrayBuffer()));
  return answer.headers;
}

describe('a disk', () => {
  it.each([
    [{ format: 'raw' }, 'data.img'],
    [{}, 'data.qcow2'],
    [{ qcow2_version: 2, compression: 'zlib' }, 'data.qcow2'],
    [{ compression: 'zstd' }, 'data.qcow2'],
  ])('is exported as %o and comes back as it was', async (body, name) => {
    const { api, folder, id } = await withDisk();
    const done = await api.operate('/v1/disks/data/export', body);
    expect(done).toMatchObject({
      kind: 'disk.export',
      status: 'succeeded',
      resources: [{ type: 'disk', id }],
    });
    const file = path.join(folder, name);
    const answer = await download(api, done.id, file);
    expect(answer.get('content-disposition')).toBe(`attachment; filename="${name}"`);
    expect(Number(answer.get('content-length'))).toBe(fs.statSync(file).size);
    if (name.endsWith('qcow2')) {
      execFileSync(requireTool('qemu-img', 'qemu-utils'), ['check', '-q', file]);
    }
    const back = await upload(api, 'name=back', fs.readFileSync(file));
    expect(back).toMatchObject({ kind: 'disk.import', status: 'succeeded' });
    const disk = (await api.get('/v1/disks/back').expect(200)).body;
    expect(disk).toMatchObject({ format: 'raw', size_bytes: SIZE });
    expect(back.resources).toEqual([{ type: 'disk', id: disk.id }]);
    expect(fs.readFileSync(path.join(api.home, 'disks', `${disk.id}.img`)).equals(content())).toBe(true);
    expect(disk.allocated_bytes).toBeLessThan(2 * MIB);
    await api.delete(`/v1/operations/${done.id}/file`).expect(204);
    await api.get(`/v1/operations/${done.id}/file`).expect(404);
    expect(fs.readdirSync(path.join(api.home, 'transfers'))).toEqual([]);
  });

  it('over an image is exported whole', async () => {
    const { api, folder } = await withDisk();
    await api.post('/v1/disks', { name: 'root', image: 'default' }).expect(201);
    const { id } = await api.operate('/v1/disks/root/export', { format: 'raw' });
    await download(api, id, path.join(folder, 'root'));
    const image = (await api.get('/v1/images/default').expect(200)).body;
    expect(fs.statSync(path.join(folder, 'root')).size).toBe(
      image.files.find((file: { role: string }) => file.role === 'disk').size_bytes,
    );
  });

  it('of a VM that runs is exported as it is at a moment, and no snapshot is left', async () => {
    const { api, folder } = await withDisk();
    const vm = await api.runVm('web-1', { disks: [{ disk: 'data' }] });
    const disk = api.farm.of('web-1').disk('ubd1');
    await disk.write(0, [new Uint8Array(4096).fill(7)]);
    const exported = await api.operate('/v1/disks/data/export', { format: 'raw' });
    expect(exported).toMatchObject({ status: 'succeeded' });
    await disk.write(0, [new Uint8Array(4096).fill(8)]);
    await download(api, exported.id, path.join(folder, 'data'));
    const expected = content().fill(7, 0, 4096);
    expect(fs.readFileSync(path.join(folder, 'data')).equals(expected)).toBe(true);
    const gone = async () =>
      (await api.get(`/v1/vms/${vm.id}/snapshots`).expect(200)).body.items.length === 0;
    while (!(await gone())) await new Promise((resolve) => setTimeout(resolve, 20));
    const seen = new Uint8Array(8192);
    await disk.read(0, [seen]);
    expect([seen[0], seen[4096]]).toEqual([8, 0]);
  });

  it('is exported as what differs from its image, which is downloaded by itself', async () => {
    const { api, folder } = await withDisk();
    const qemuImg = requireTool('qemu-img', 'qemu-utils');
    await api.post('/v1/disks', { name: 'root', image: 'default' }).expect(201);
    const root = (await api.get('/v1/disks/root').expect(200)).body;
    await api.createVm({ name: 'web', disks: [{ disk: 'root' }] });
    await api.post('/v1/vms/web/snapshots', { name: 'one' }).expect(201);
    await api.operate('/v1/vms/web/start');
    await api.farm
      .of('web')
      .disk('ubd1')
      .write(512, [new Uint8Array(512).fill(9)]);
    const cli = async (...args: string[]) => {
      const output = { write: () => undefined };
      const io = { stdout: output, stderr: output, env: { UMLAUT_HOME: api.home }, exitCode: 0 };
      return await runCli(
        ['--url', api.daemon.url, '--token-file', path.join(api.home, 'admin-token'), ...args],
        io,
      );
    };
    const [overlay, image] = [path.join(folder, 'root.qcow2'), path.join(folder, 'base.img')];
    expect(await cli('disk', 'export', 'root', overlay, '--backing', 'base.img')).toBe(0);
    expect(await cli('image', 'export', 'default', image)).toBe(0);
    expect(fs.statSync(image).size).toBe(root.size_bytes);
    const info = JSON.parse(execFileSync(qemuImg, ['info', '--output=json', overlay], { encoding: 'utf8' }));
    expect(info).toMatchObject({ 'backing-filename': 'base.img', 'backing-filename-format': 'raw' });
    execFileSync(qemuImg, ['check', '-q', overlay]);
    const flat = path.join(folder, 'flat');
    execFileSync(qemuImg, ['convert', '-O', 'raw', overlay, flat]);
    const expected = fs.readFileSync(image);
    expected.fill(9, 512, 1024);
    expect(fs.readFileSync(flat).equals(expected)).toBe(true);
    expect(await cli('image', 'export', 'nothing', path.join(folder, 'x'))).not.toBe(0);
    const part = await fetch(`${api.daemon.url}/v1/images/default/files/disk`, {
      headers: { authorization: `Bearer ${api.token}`, range: 'bytes=5-11' },
    });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, `bytes 5-11/${root.size_bytes}`]);
    expect(Buffer.from(await part.arrayBuffer()).equals(fs.readFileSync(image).subarray(5, 12))).toBe(true);
    const refused = await api.post('/v1/disks/data/export', { backing_file: 'x.img' }).expect(501);
    expect(refused.body).toMatchObject({ code: 'unsupported', field: 'backing_file' });
    await api.post('/v1/disks/root/export', { format: 'raw', backing_file: 'x.img' }).expect(400);
  });

  it('is not given to others', async () => {
    const { api } = await withDisk();
    expect(
      (await api.post('/v1/disks/data/export', { format: 'raw', compression: 'zlib' }).expect(400)).body,
    ).toMatchObject({ field: 'compression' });
    const { id } = await api.operate('/v1/disks/data/export');
    const other = await api.tokenOf('user', 'elsewhere');
    await api.as(other).get(`/v1/operations/${id}/file`).expect(404);
    await api.as(other).post('/v1/disks/data/export').send({}).expect(404);
  });

  it('that is uploaded and is of no use is refused, and nothing of it stays', async () => {
    const { api, folder } = await withDisk();
    fs.writeFileSync(path.join(folder, 'secret'), pattern(4096, 9));
    const overlay = path.join(folder, 'overlay.qcow2');
    execFileSync(requireTool('qemu-img', 'qemu-utils'), [
      ...['create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', path.join(folder, 'secret'), overlay],
    ]);
    expect(await upload(api, 'name=x', fs.readFileSync(overlay))).toMatchObject({
      status: 'failed',
      error: { code: 'forbidden', field: 'backing_file' },
    });
    const send = (query: string, type: string, body: string | Buffer) =>
      api.as().post(`/v1/disks/import?${query}`).set('content-type', type).send(body);
    const stream = 'application/octet-stream';
    expect((await send('name=x', stream, Buffer.alloc(0))).status).toBeGreaterThanOrEqual(400);
    await send('name=data', stream, Buffer.alloc(512)).expect(409);
    await send('name=x', 'application/json', '{}').expect(415);
    await send(
      'name=x',
      stream,
      Buffer.concat([Buffer.from('OOOM\x00\x00\x00\x03'), Buffer.alloc(5000)]),
    ).expect(501);
    await api.as().post('/v1/disks').set('content-type', stream).send(Buffer.alloc(512)).expect(400);
    await api.get('/v1/disks/x').expect(404);
    expect(fs.readdirSync(path.join(api.home, 'transfers'))).toEqual([]);
    expect(fs.readdirSync(path.join(api.home, 'disks'))).toHaveLength(1);
  });

  it('whose upload is cut off leaves nothing', async () => {
    const { api } = await withDisk();
    const transfers = path.join(api.home, 'transfers');
    const request = http.request(`${api.daemon.url}/v1/disks/import?name=x`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${api.token}`,
        'content-type': 'application/octet-stream',
        'content-length': 10 * MIB,
      },
    });
    request.on('error', () => undefined);
    request.write(Buffer.alloc(MIB, 1));
    await until(() => fs.readdirSync(transfers).length === 1 || undefined, 'the upload');
    request.destroy();
    await until(() => fs.readdirSync(transfers).length === 0 || undefined, 'the end of the upload');
    await api.get('/v1/disks/x').expect(404);
    expect(fs.readdirSync(path.join(api.home, 'disks'))).toHaveLength(1);
  });

  it('whose export or upload was killed leaves nothing after the next start: no file, and no snapshot', async () => {
    const first = await startHarness();
    await first.runVm('web');
    const { name } = (await first.vm('web')).disks[0]!;
    const { id } = await first.operate(`/v1/disks/${name}/export`);
    // What it had when it was killed; and what is of the same name or nearly, and not its.
    const snapshot = `export-${id.slice('op-'.length)}`;
    for (const one of [snapshot, 'export-feed', 'mine'])
      await first.post('/v1/vms/web/snapshots', { name: one }).expect(201);
    await first.daemon.close();
    const transfers = path.join(first.home, 'transfers');
    for (const [folder, file] of [
      ['op-00000000000000aa', 'data.qcow2.partial'],
      ['up-00000000000000bb', 'disk'],
    ] as const) {
      fs.mkdirSync(path.join(transfers, folder));
      fs.writeFileSync(path.join(transfers, folder, file), 'half');
    }
    const api = await startHarness({ home: first.home });
    const names = async (): Promise<string[]> =>
      ((await api.get('/v1/vms/web/snapshots').expect(200)).body.items as { name: string }[]).map(
        (one) => one.name,
      );
    await expect.poll(names, { timeout: 20_000 }).toEqual(expect.not.arrayContaining([snapshot]));
    expect((await names()).sort()).toEqual(['export-feed', 'mine']);
    // The one that was complete can still be fetched.
    expect(fs.readdirSync(transfers)).toEqual([id]);
  });

  it('goes and comes by the command line, sparse', async () => {
    const { api, folder } = await withDisk();
    const file = path.join(folder, 'out.img');
    const errors: string[] = [];
    const write = (text: string | Uint8Array): void => void errors.push(String(text));
    const io = { stdout: { write: () => true }, stderr: { write }, env: {}, exitCode: 0 };
    const umlaut = async (...args: string[]): Promise<void> => {
      const global = ['--url', api.daemon.url, '--token-file', path.join(api.home, 'admin-token')];
      expect({ status: await runCli([...args, ...global], io), errors }).toEqual({ status: 0, errors: [] });
    };
    await umlaut('disk', 'export', 'data', file);
    expect(fs.readFileSync(file).equals(content())).toBe(true);
    expect(fs.statSync(file).blocks * 512).toBeLessThan(2 * MIB);
    const qcow2 = path.join(folder, 'in.qcow2');
    await convertDisk(file, qcow2, { qcow2: { version: 3, compression: 'zstd' } });
    await umlaut('disk', 'import', 'again', qcow2);
    const { id } = (await api.get('/v1/disks/again').expect(200)).body;
    expect(fs.readFileSync(path.join(api.home, 'disks', `${id}.img`)).equals(content())).toBe(true);
    expect(fs.readdirSync(path.join(api.home, 'transfers'))).toEqual([]);
    expect(fs.readdirSync(folder).sort()).toEqual(['in.qcow2', 'out.img']);
  });
});
