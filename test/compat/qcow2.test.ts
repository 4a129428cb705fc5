/** qcow2 files against qemu-img (Debian package qemu-utils). */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli } from '../../src/cli/program.ts';
import { ImageStore } from '../../src/images/index.ts';
import { convertDisk, createCow, openDisk } from '../../src/storage/index.ts';
import { pattern, scratchFolder } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';

const SIZE = (5 << 20) + 3 * 512;

function qemuImg(...args: string[]): string {
  return execFileSync(requireTool('qemu-img', 'qemu-utils'), args, { encoding: 'utf8', stdio: 'pipe' });
}

function qemuIo(file: string, ...commands: string[]): void {
  const args = commands.flatMap((command) => ['-c', command]);
  execFileSync(requireTool('qemu-io', 'qemu-utils'), ['-f', 'qcow2', ...args, file], { stdio: 'pipe' });
}

/** A raw disk with holes, text that compresses well, and bytes that do not. */
function rawDisk(folder: string, size = SIZE): string {
  const file = path.join(folder, 'disk.raw');
  const bytes = Buffer.alloc(size);
  bytes.set(pattern(200_000, 1), 0);
  bytes.fill('all work and no play ', 1 << 20, (1 << 20) + 700_000);
  bytes.set(pattern(512, 2), size >> 1);
  bytes.set(pattern(512, 3), size - 512);
  fs.writeFileSync(file, bytes);
  return file;
}

const same = (one: string, other: string): boolean => fs.readFileSync(one).equals(fs.readFileSync(other));

/** What we and what qemu-img make of a file are the same. */
async function expectSameRaw(file: string): Promise<void> {
  const [ours, theirs] = [`${file}.ours`, `${file}.theirs`];
  await convertDisk(file, ours);
  qemuImg('convert', '-O', 'raw', file, theirs);
  expect(same(ours, theirs)).toBe(true);
}

describe('importing what qemu-img writes', () => {
  it.each([
    ['version 2', ['-o', 'compat=0.10']],
    ['version 3', ['-o', 'compat=1.1']],
    ['compressed clusters (zlib)', ['-c']],
    ['compressed clusters of version 2', ['-c', '-o', 'compat=0.10']],
    ['compressed clusters (zstd)', ['-c', '-o', 'compression_type=zstd']],
    ['clusters of 512 bytes', ['-o', 'cluster_size=512']],
    ['compressed clusters of 4 KiB (zstd)', ['-c', '-o', 'cluster_size=4k,compression_type=zstd']],
    ['compressed clusters of 2 MiB', ['-c', '-o', 'cluster_size=2M']],
    ['clusters of 2 MiB', ['-o', 'cluster_size=2M']],
    ['lazy refcounts of 1 bit', ['-o', 'lazy_refcounts=on,refcount_bits=1']],
    ['metadata for everything', ['-o', 'preallocation=metadata']],
  ])('%s', async (_what, options) => {
    const folder = scratchFolder();
    const file = path.join(folder, 'disk.qcow2');
    qemuImg('convert', '-O', 'qcow2', ...options, rawDisk(folder), file);
    await expectSameRaw(file);
    expect(same(`${file}.ours`, path.join(folder, 'disk.raw'))).toBe(true);
  });

  it('keeps holes', async () => {
    const folder = scratchFolder();
    const file = path.join(folder, 'large.qcow2');
    qemuImg('create', '-f', 'qcow2', file, '200G');
    qemuIo(file, 'write -P 7 100G 4k', 'write -P 8 199G 64k');
    await convertDisk(file, `${file}.raw`);
    const { size, blocks } = fs.statSync(`${file}.raw`);
    expect(size).toBe(200 * 2 ** 30);
    expect(blocks * 512).toBeLessThan(1 << 20);
    expect(qemuImg('compare', '-F', 'raw', file, `${file}.raw`)).toContain('identical');
  });

  it('reads chains of backing files, zero clusters and what internal snapshots share', async () => {
    const folder = scratchFolder();
    rawDisk(folder, 2 << 20);
    const [middle, top] = [path.join(folder, 'middle.qcow2'), path.join(folder, 'top.qcow2')];
    qemuImg('create', '-f', 'qcow2', '-b', 'disk.raw', '-F', 'raw', middle, '3M');
    qemuIo(middle, 'write -P 1 64k 70k', 'write -z 128k 64k', 'write -P 2 2560k 1k');
    qemuImg('create', '-f', 'qcow2', '-b', 'middle.qcow2', '-F', 'qcow2', top, '6M');
    qemuIo(top, 'write -P 3 1M 512', 'write -z 0 64k', 'discard 192k 64k', 'write -P 4 5M 1M');
    qemuImg('snapshot', '-c', 'one', top);
    qemuIo(top, 'write -P 5 1M 1k', 'write -P 6 300k 1k');
    await expectSameRaw(top);
  });
});

describe('exporting', () => {
  it.each([
    ['version 2', { version: 2 }],
    ['version 3', { version: 3 }],
    ['version 2, zlib', { version: 2, compression: 'zlib' }],
    ['version 3, zlib', { version: 3, compression: 'zlib' }],
    ['version 3, zstd', { version: 3, compression: 'zstd' }],
  ] as const)('%s passes qemu-img check and compare, and we read it too', async (_what, qcow2) => {
    const folder = scratchFolder();
    const raw = rawDisk(folder);
    const file = path.join(folder, 'disk.qcow2');
    const progress: number[] = [];
    await convertDisk(raw, file, { qcow2, onProgress: (done) => progress.push(done) });
    expect(qemuImg('check', file)).toContain('No errors');
    expect(qemuImg('compare', raw, file)).toContain('identical');
    const info = JSON.parse(qemuImg('info', '--output=json', file));
    expect(info['virtual-size']).toBe(SIZE);
    expect(info['format-specific'].data.compat).toBe(qcow2.version === 2 ? '0.10' : '1.1');
    expect(progress.at(-1)).toBe(SIZE);
    await convertDisk(file, `${file}.raw`);
    expect(same(raw, `${file}.raw`)).toBe(true);
    // A guest can go on with it.
    qemuIo(file, 'write -P 9 1M 64k', 'write -P 9 4M 64k');
    expect(qemuImg('check', file)).toContain('No errors');
  });

  it('writes more than one L2 table, and none for holes', async () => {
    const folder = scratchFolder();
    const raw = path.join(folder, 'disk.raw');
    fs.writeFileSync(raw, pattern(1000, 1));
    fs.truncateSync(raw, 3 * 2 ** 30);
    const fd = fs.openSync(raw, 'r+');
    fs.writeSync(fd, pattern(70_000, 4), 0, 70_000, 2 ** 31 + 12_345);
    fs.closeSync(fd);
    const file = path.join(folder, 'disk.qcow2');
    await convertDisk(raw, file, { qcow2: { version: 3, compression: 'zstd' } });
    expect(qemuImg('check', file)).toContain('No errors');
    expect(qemuImg('compare', raw, file)).toContain('identical');
    expect(fs.statSync(file).size).toBeLessThan(1 << 20);
  });

  it('takes a copy-on-write file with what is below it', async () => {
    const folder = fs.realpathSync(scratchFolder());
    const raw = rawDisk(folder, 2 << 20);
    const cow = path.join(folder, 'disk.cow');
    createCow(cow, raw);
    const disk = openDisk({ device: 'ubd0', file: raw, cow, readOnly: false });
    await disk.write(512, [pattern(4096, 77)]);
    await expect(convertDisk(cow, path.join(folder, 'no.qcow2'))).rejects.toMatchObject({ code: 'in_use' });
    await disk.close();
    const file = path.join(folder, 'disk.qcow2');
    await convertDisk(cow, file, { qcow2: { version: 3 } });
    const expected = fs.readFileSync(raw);
    expected.set(pattern(4096, 77), 512);
    fs.writeFileSync(path.join(folder, 'expected'), expected);
    expect(qemuImg('compare', '-f', 'raw', path.join(folder, 'expected'), file)).toContain('identical');
  });
});

describe('a qcow2 file is refused', () => {
  const CREATE: [string, string[], string, string][] = [
    [
      'that is encrypted',
      ['--object', 'secret,id=s,data=abc', '-o', 'encrypt.format=aes,encrypt.key-secret=s'],
      'unsupported',
      'crypt_method',
    ],
    ['with extended L2 entries', ['-o', 'extended_l2=on'], 'unsupported', 'incompatible_features'],
    ['with its data elsewhere', ['-o', 'data_file=FOLDER/data'], 'unsupported', 'incompatible_features'],
  ];
  it.each(CREATE)('%s', async (_what, options, code, field) => {
    const folder = scratchFolder();
    const file = path.join(folder, 'x.qcow2');
    qemuImg('create', '-f', 'qcow2', ...options.map((text) => text.replace('FOLDER', folder)), file, '1M');
    await expect(convertDisk(file, `${file}.raw`)).rejects.toMatchObject({ code, field });
    expect(fs.readdirSync(folder).filter((name) => name.includes('.raw'))).toEqual([]);
  });

  it('whose compressed data is damaged', async () => {
    const folder = scratchFolder();
    for (const type of ['zlib', 'zstd']) {
      const file = path.join(folder, `${type}.qcow2`);
      const raw = path.join(folder, `${type}.src`);
      fs.writeFileSync(raw, Buffer.alloc(1 << 20, 'some text. '));
      qemuImg('convert', '-c', '-O', 'qcow2', '-o', `compression_type=${type}`, raw, file);
      const bytes = fs.readFileSync(file);
      // The data of the first cluster is behind the tables.
      bytes.fill(0xff, 5 * 65536, 5 * 65536 + 64);
      fs.writeFileSync(file, bytes);
      await expect(convertDisk(file, `${file}.raw`)).rejects.toMatchObject({ code: 'bad_image' });
    }
  });
});

describe('importing an image', () => {
  it('takes qcow2 and stores what a raw disk of the same content is stored as', async () => {
    const folder = scratchFolder();
    const disk = rawDisk(folder);
    const qcow2 = path.join(folder, 'disk.qcow2');
    qemuImg('convert', '-c', '-O', 'qcow2', disk, qcow2);
    const kernel = path.join(folder, 'vmlinuz');
    const bytes = Buffer.alloc(4096);
    bytes.write('HdrS', 0x202);
    fs.writeFileSync(kernel, bytes);
    const store = new ImageStore(path.join(folder, 'images'));
    const shares: number[] = [];
    const common = { name: 'one', append: '', kernel };
    const image = await store.import({ ...common, disk: qcow2 }, { onProgress: (done) => shares.push(done) });
    expect(await store.import({ ...common, disk })).toEqual(image);
    expect(shares.toSorted((a, b) => a - b)).toEqual(shares);
    expect(shares.at(-1)).toBe(1);
    fs.truncateSync(qcow2, 100_000);
    await expect(store.import({ ...common, disk: qcow2 })).rejects.toMatchObject({
      code: 'bad_image',
      field: 'disk',
    });
    expect(fs.readdirSync(store.dir)).toEqual([image.id]);
  });
});

describe('umlaut disk convert', () => {
  it('goes by the name of the new file, and says what was made', async () => {
    const folder = scratchFolder();
    const raw = rawDisk(folder);
    const file = path.join(folder, 'disk.qcow2');
    const run = async (...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> => {
      let [stdout, stderr] = ['', ''];
      const io = {
        stdout: { write: (text: string) => (stdout += text) },
        stderr: { write: (text: string) => (stderr += text) },
        env: {},
        exitCode: 0,
      };
      const status = await runCli(['disk', 'convert', ...args], io);
      return { status, stdout, stderr };
    };
    expect(await run(raw, file, '--compress', 'zstd')).toMatchObject({ status: 0, stderr: '' });
    expect(qemuImg('info', file)).toContain('compression type: zstd');
    expect(await run(file, `${file}.img`)).toMatchObject({ status: 0 });
    expect(same(raw, `${file}.img`)).toBe(true);
    expect(await run(file, `${file}.img`)).toMatchObject({
      stderr: expect.stringContaining('already_exists'),
    });
    expect(await run(file, 'x.img', '--compress', 'zlib')).toMatchObject({ status: 2 });
  });
});

describe('a qcow2 file over a backing file', () => {
  it.each([
    [2, undefined, 'raw'],
    [2, 'zlib', 'qcow2'],
    [3, undefined, 'qcow2'],
    [3, 'zlib', 'raw'],
    [3, 'zstd', 'raw'],
  ] as const)(
    'of version %d, %s, over %s, has what differs, and qemu-img reads it',
    async (version, compression, format) => {
      const folder = scratchFolder();
      const base = rawDisk(folder);
      const cow = path.join(folder, 'disk.cow');
      createCow(cow, base);
      const disk = openDisk({ device: 'ubd0', file: base, cow, readOnly: false });
      await disk.write(2 << 20, [pattern(70_000 - (70_000 % 512), 9)]);
      await disk.writeZeroes(0, 131_072, true);
      await disk.write(SIZE - 512, [pattern(512, 4)]);
      await disk.close();
      const backing = format === 'raw' ? base : path.join(folder, 'base.qcow2');
      if (format === 'qcow2') qemuImg('convert', '-O', 'qcow2', base, backing);
      const made = path.join(folder, 'made.qcow2');
      await convertDisk(cow, made, { qcow2: { version, compression }, backing });
      const info = JSON.parse(qemuImg('info', '--output=json', made)) as Record<string, unknown>;
      expect(info).toMatchObject({
        'backing-filename': path.basename(backing),
        'backing-filename-format': format,
        'virtual-size': SIZE,
      });
      expect(qemuImg('check', made)).toContain('No errors were found');
      expect(fs.statSync(made).size).toBeLessThan(1 << 20);
      const whole = path.join(folder, 'whole.raw');
      await convertDisk(cow, whole);
      expect(qemuImg('compare', '-F', 'raw', made, whole)).toContain('identical');
      await expectSameRaw(made);
      expect(same(`${made}.ours`, whole)).toBe(true);
    },
  );

  it('may be larger or smaller than it, and is made by the command', async () => {
    const folder = scratchFolder();
    const base = rawDisk(folder);
    for (const size of [SIZE * 2, 1 << 20]) {
      const from = path.join(folder, `from-${size}`);
      fs.copyFileSync(base, from);
      fs.truncateSync(from, size);
      const made = path.join(folder, `${size}.qcow2`);
      const write = (): boolean => true;
      const io = { stdout: { write }, stderr: { write }, env: {}, exitCode: 0 };
      expect(await runCli(['disk', 'convert', from, made, '--backing', base], io)).toBe(0);
      expect(qemuImg('compare', '-F', 'raw', made, from)).toContain('identical');
      expect(fs.statSync(made).size).toBeLessThan(512 << 10);
      expect(
        await runCli(['disk', 'convert', from, `${made}.raw`, '--to', 'raw', '--backing', base], io),
      ).toBe(2);
    }
    await expect(
      convertDisk(base, path.join(folder, 'x'), {
        qcow2: { version: 3 },
        backing: path.join(folder, 'none'),
      }),
    ).rejects.toMatchObject({ code: 'not_found' });
    expect(fs.existsSync(path.join(folder, 'x'))).toBe(false);
  });
});
