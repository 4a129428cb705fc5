/** One file out of a backup. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import type { BackupFile, BackupFilePage, BackupFileSystem } from '../../src/contracts/api/index.ts';
import { runCli } from '../../src/cli/program.ts';
import { writePartitioned } from '../support/partition-table.ts';
import { pattern } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';
import { type Harness, startHarness, tempDir } from './support/harness.ts';

const BIG = pattern(2_500_000, 9);

/** A VM with a second disk that has an ext4 file system in its partition 3, and a backup `one` of it. */
async function withBackup(): Promise<Harness> {
  const mke2fs = requireTool('mke2fs', 'e2fsprogs');
  const folder = tempDir();
  const root = path.join(folder, 'root');
  fs.mkdirSync(path.join(root, 'etc'), { recursive: true });
  fs.mkdirSync(path.join(root, 'many'));
  fs.writeFileSync(path.join(root, 'etc/hostname'), 'guest\n', { mode: 0o640 });
  fs.symlinkSync('/etc/hostname', path.join(root, 'name'));
  fs.writeFileSync(path.join(root, 'big'), BIG);
  fs.writeFileSync(path.join(root, '"q"; x\u00e9'), '');
  for (let index = 0; index < 30; index++) fs.writeFileSync(path.join(root, `many/${index}`), '');
  const partition = path.join(folder, 'partition');
  execFileSync(mke2fs, ['-q', '-t', 'ext4', '-L', 'data', '-d', root, partition, '16M']);
  const disk = path.join(folder, 'disk');
  writePartitioned(disk, partition, { table: 'gpt', number: 3 });
  const api = await startHarness();
  await api.createVm({ name: 'web' });
  const size_bytes = fs.statSync(disk).size;
  const { id } = (await api.post('/v1/disks', { name: 'data', size_bytes }).expect(201)).body;
  fs.copyFileSync(disk, path.join(api.home, 'disks', `${id}.img`));
  await api.post('/v1/vms/web/disks', { disk: 'data' }).expect(200);
  expect(await api.operate('/v1/vms/web/backups', { name: 'one' })).toMatchObject({ status: 'succeeded' });
  return api;
}

const content = (api: Harness, query: string, headers: Record<string, string> = {}) =>
  fetch(`${api.daemon.url}/v1/backups/one/files/content?${query}`, {
    headers: { authorization: `Bearer ${api.token}`, ...headers },
  });

async function cli(
  api: Harness,
  ...args: string[]
): Promise<{ readonly code: number; readonly text: Buffer }> {
  const shown: Buffer[] = [];
  const output = { write: (text: string | Uint8Array) => shown.push(Buffer.from(text)) };
  const io = { stdout: output, stderr: output, env: { UMLAUT_HOME: api.home }, exitCode: 0 };
  const code = await runCli(
    ['--url', api.daemon.url, '--token-file', path.join(api.home, 'admin-token'), ...args],
    io,
  );
  return { code, text: Buffer.concat(shown) };
}

describe('a backup', () => {
  it('shows its file systems and files, and gives out one of them, whole or in part', async () => {
    const api = await withBackup();
    const places = (await api.get('/v1/backups/one/file-systems').expect(200)).body
      .items as BackupFileSystem[];
    expect(places.filter(({ type }) => type !== null)).toEqual([
      {
        disk: 'ubd1',
        partition: 3,
        offset: 1 << 20,
        size_bytes: 16 << 20,
        type: 'ext4',
        label: 'data',
        uuid: expect.stringMatching(/^[0-9a-f-]{36}$/),
        problem: null,
      },
    ]);
    const list = async (query: string): Promise<BackupFilePage> =>
      (await api.get(`/v1/backups/one/files?${query}`).expect(200)).body;
    const top = await list('');
    expect(top).toMatchObject({ disk: 'ubd1', partition: 3, next_cursor: null });
    expect(top.items.find(({ name }: BackupFile) => name === 'name')).toMatchObject({
      type: 'symlink',
      target: '/etc/hostname',
    });
    expect((await list('path=/etc/hostname&disk=ubd1&partition=3')).items).toEqual([
      {
        name: 'hostname',
        type: 'file',
        mode: '0640',
        uid: process.getuid?.(),
        gid: process.getgid?.(),
        size_bytes: 6,
        modified_at: expect.any(String),
        target: null,
      },
    ]);
    const names: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page: BackupFilePage = await list(
        `path=many&limit=16${cursor === '' ? '' : `&cursor=${cursor}`}`,
      );
      names.push(...page.items.map(({ name }) => name));
      cursor = page.next_cursor;
    }
    expect(names.map(Number).sort((a, b) => a - b)).toEqual(Array.from({ length: 30 }, (_, index) => index));

    const whole = await content(api, 'path=/big');
    expect([whole.status, whole.headers.get('content-length'), whole.headers.get('accept-ranges')]).toEqual([
      200,
      '2500000',
      'bytes',
    ]);
    expect(Buffer.from(await whole.arrayBuffer()).equals(BIG)).toBe(true);
    const etag = whole.headers.get('etag') ?? '';
    const part = await content(api, 'path=/big', { range: 'bytes=1100000-2400000', 'if-range': etag });
    expect([part.status, part.headers.get('content-range')]).toEqual([206, 'bytes 1100000-2400000/2500000']);
    expect(Buffer.from(await part.arrayBuffer()).equals(BIG.subarray(1_100_000, 2_400_001))).toBe(true);
    const tail = await content(api, 'path=/big', { range: 'bytes=-10' });
    expect(Buffer.from(await tail.arrayBuffer()).equals(BIG.subarray(-10))).toBe(true);
    expect((await content(api, 'path=/big', { range: 'bytes=1-2', 'if-range': '"other"' })).status).toBe(200);
    const beyond = await content(api, 'path=/big', { range: 'bytes=2500000-' });
    expect([beyond.status, beyond.headers.get('content-range')]).toEqual([416, 'bytes */2500000']);
    expect(await beyond.json()).toMatchObject({ code: 'range_not_satisfiable', field: 'Range' });
    const link = await content(api, 'path=name');
    expect(await link.text()).toBe('guest\n');
    const odd = await content(api, `path=${encodeURIComponent('"q"; x\u00e9')}`);
    expect(odd.headers.get('content-disposition')).toBe(
      `attachment; filename="_q__ x_"; filename*=UTF-8''%22q%22%3B%20x%C3%A9`,
    );
    await odd.arrayBuffer();
    const head = await api.as().head('/v1/backups/one/files/content?path=/big').expect(200);
    expect(head.headers['content-length']).toBe('2500000');
  }, 120_000);

  it('says what there is not', async () => {
    const api = await withBackup();
    const problem = async (query: string) => (await content(api, query)).json();
    expect(await problem('path=/nothing')).toMatchObject({ code: 'not_found', field: 'path' });
    expect(await problem('path=/etc')).toMatchObject({ code: 'invalid_input', field: 'path' });
    expect(await problem('path=/big&partition=2')).toMatchObject({ code: 'unsupported', field: 'partition' });
    expect(await problem('path=/big&disk=ubd7')).toMatchObject({ code: 'not_found', field: 'device' });
    expect(await problem('path=/big&disk=ubd0')).toMatchObject({ code: 'unsupported', field: 'disk' });
    await api.get('/v1/backups/two/files').expect(404);
    const viewer = (
      await api.post('/v1/tokens', { name: 'v', role: 'viewer', tenant: 'default' }).expect(201)
    ).body;
    await api.as(viewer.secret).get('/v1/backups/one/files').expect(200);
    await api.as(viewer.secret).get('/v1/backups/one/files/content?path=/big').expect(403);
    const other = (await api.post('/v1/tokens', { name: 'o', role: 'user', tenant: 'other' }).expect(201))
      .body;
    await api.as(other.secret).get('/v1/backups/one/files').expect(404);
    // What is damaged is told and not given out.
    const packs = path.join(api.home, 'backups/store/packs');
    for (const name of fs.readdirSync(packs)) {
      const bytes = fs.readFileSync(path.join(packs, name));
      for (let at = 0; at < bytes.length - 40_000; at += 5000) bytes[at]! ^= 0xff;
      fs.writeFileSync(path.join(packs, name), bytes);
    }
    expect(await problem('path=/big')).toMatchObject({ code: 'backup_corrupt' });
  }, 120_000);

  it('is read by the command line', async () => {
    const api = await withBackup();
    expect((await cli(api, 'backup', 'file-systems', 'one')).text.toString()).toMatch(
      /ubd1 +3 +ext4 +16M +data/,
    );
    const listed = (await cli(api, 'backup', 'files', 'one')).text.toString();
    expect(listed).toMatch(/^d0755 .* etc$/m);
    expect(listed).toMatch(/name -> \/etc\/hostname$/m);
    expect(await cli(api, 'backup', 'cat', 'one', '/big')).toEqual({ code: 0, text: Buffer.from(BIG) });
    const file = path.join(tempDir(), 'out');
    expect((await cli(api, 'backup', 'extract', 'one', 'name', file, '--disk', 'ubd1')).code).toBe(0);
    expect(fs.readFileSync(file, 'utf8')).toBe('guest\n');
    expect((await cli(api, 'backup', 'extract', 'one', 'name', file)).code).not.toBe(0);
    expect((await cli(api, 'backup', 'cat', 'one', '/none')).code).not.toBe(0);
  }, 120_000);
});
