import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { pattern, scratchFolder } from '../../test/support/storage.ts';
import { openDisk } from '../storage/index.ts';
import { type Image, type ImageSources, ImageStore } from './store.ts';

interface Fixture {
  readonly store: ImageStore;
  readonly sources: ImageSources & { readonly kernel: string };
  readonly folder: string;
}

function fixture(): Fixture {
  const folder = scratchFolder();
  const kernel = path.join(folder, 'vmlinuz');
  const bytes = Buffer.from(pattern(5000, 1));
  bytes.write('HdrS', 0x202);
  // setup_sects and syssize: 512 bytes of boot sector, 512 of setup, 3968 of kernel.
  bytes[0x1f1] = 1;
  bytes.writeUInt32LE(248, 0x1f4);
  fs.writeFileSync(kernel, bytes);
  const initrd = path.join(folder, 'initrd.img');
  fs.writeFileSync(initrd, pattern(3000, 2));
  const disk = path.join(folder, 'root.img');
  fs.writeFileSync(disk, Buffer.concat([pattern(100_000, 3), Buffer.alloc(1 << 20)]));
  const sources = { kernel, initrd, disk, name: 'mine', append: 'console=ttyS0 root=/dev/vda' };
  return { folder, sources, store: new ImageStore(path.join(folder, 'images')) };
}

/** Changes a file of an image as a broken disk or a careless administrator would. */
function damage(file: string, change: (file: string) => void): void {
  const { mtime } = fs.statSync(file);
  fs.chmodSync(file, 0o600);
  change(file);
  if (fs.existsSync(file)) fs.utimesSync(file, mtime, mtime);
}

function flip(file: string): void {
  const bytes = fs.readFileSync(file);
  bytes[100]! ^= 1;
  fs.writeFileSync(file, bytes);
}

describe('import', () => {
  it('stores copies under the hash of their content, read-only', async () => {
    const { store, sources } = fixture();
    const image = await store.import(sources);
    expect(image.id).toMatch(/^[0-9a-f]{64}$/);
    expect(path.dirname(image.disk)).toBe(path.join(store.dir, image.id));
    for (const part of ['kernel', 'initrd', 'disk'] as const) {
      expect(fs.readFileSync(image[part]!).equals(fs.readFileSync(sources[part]!))).toBe(true);
      expect(fs.statSync(image[part]!).mode & 0o777).toBe(0o444);
    }
    expect(fs.statSync(image.disk).blocks * 512).toBeLessThan(500_000);
    expect(new ImageStore(store.dir).get(image.id)).toEqual(image);
    expect(store.list()).toEqual([image]);
    await store.verify(image.id);
    expect(await store.use(image.id)).toEqual(image);
  });

  it('stores the same content once, and other content or another command line apart', async () => {
    const { store, sources } = fixture();
    const one = await store.import(sources);
    expect(await store.import({ ...sources, name: 'again' })).toEqual(one);
    const others = [
      { ...sources, append: 'quiet' },
      { ...sources, initrd: undefined },
      { ...sources, disk: sources.kernel },
    ];
    const ids = new Set([one.id]);
    for (const other of others) ids.add((await store.import(other)).id);
    expect(ids.size).toBe(4);
    expect(store.list()).toHaveLength(4);
  });

  it('tells its progress', async () => {
    const { store, sources } = fixture();
    const seen: number[] = [];
    await store.import(sources, { onProgress: (fraction) => seen.push(fraction) });
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.at(-1)).toBe(1);
  });

  it.each<[string, string, string, (fixture: Fixture) => Partial<ImageSources>]>([
    ['a kernel that is none', 'bad_kernel', 'kernel', ({ sources }) => ({ kernel: sources.disk })],
    [
      'a kernel that was not copied to its end',
      'image_truncated',
      'kernel',
      ({ folder, sources }) => ({
        kernel: written(folder, fs.readFileSync(sources.kernel).subarray(0, 4900).toString('latin1')),
      }),
    ],
    ['a missing kernel', 'not_found', 'kernel', ({ folder }) => ({ kernel: `${folder}/none` })],
    ['a missing disk', 'not_found', 'disk', ({ folder }) => ({ disk: `${folder}/none` })],
    ['a folder as disk', 'bad_image', 'disk', ({ folder }) => ({ disk: folder })],
    ['an empty disk', 'bad_image', 'disk', ({ folder }) => ({ disk: written(folder, '') })],
    [
      'a COW file as disk',
      'bad_image',
      'disk',
      ({ folder }) => ({ disk: written(folder, 'OOOM\0\0\0\x03') }),
    ],
    [
      'a qcow2 file without a disk',
      'bad_image',
      'disk',
      ({ folder }) => ({ disk: written(folder, 'QFI\xfb\0\0\0\x03') }),
    ],
    ['a bad name', 'invalid_input', 'name', () => ({ name: '../x' })],
    ['a command line of two lines', 'invalid_input', 'append', () => ({ append: 'a\nb' })],
    ['a command line that is too long', 'invalid_input', 'append', () => ({ append: 'x'.repeat(2048) })],
  ])('refuses %s and leaves nothing', async (_what, code, field, change) => {
    const all = fixture();
    await expect(all.store.import({ ...all.sources, ...change(all) })).rejects.toMatchObject({ code, field });
    expect(fs.readdirSync(all.store.dir)).toEqual([]);
  });

  it('leaves nothing when it is cancelled', async () => {
    const { store, sources } = fixture();
    const result = store.import(sources, { signal: AbortSignal.abort() });
    await expect(result).rejects.toMatchObject({ code: 'canceled' });
    expect(fs.readdirSync(store.dir)).toEqual([]);
  });
});

function written(folder: string, content: string): string {
  const file = path.join(folder, 'other');
  fs.writeFileSync(file, content, 'latin1');
  return file;
}

describe('a damaged image', () => {
  it.each<[string, string, (image: Image) => void]>([
    ['cut', 'image_truncated', ({ disk }) => damage(disk, (file) => fs.truncateSync(file, 1000))],
    ['grown', 'image_corrupt', ({ kernel }) => damage(kernel, (file) => fs.appendFileSync(file, 'x'))],
    ['without its kernel', 'image_corrupt', ({ kernel }) => damage(kernel, fs.rmSync)],
    [
      'changed at another time',
      'image_corrupt',
      ({ disk }) => {
        flipNow(disk);
      },
    ],
  ])('that is %s is refused on use', async (_what, code, change) => {
    const { store, sources } = fixture();
    const image = await store.import(sources);
    change(image);
    await expect(store.use(image.id)).rejects.toMatchObject({ code });
    await expect(store.verify(image.id)).rejects.toMatchObject({ code });
  });

  it('with changed bytes and its old time is found by verify', async () => {
    const { store, sources } = fixture();
    const image = await store.import(sources);
    damage(image.initrd!, flip);
    await expect(store.verify(image.id)).rejects.toMatchObject({ code: 'image_corrupt', field: 'initrd' });
  });

  it.each([
    ['no JSON', '{'],
    ['another shape', '{"format":1}'],
  ])('with a manifest of %s is refused, not listed, and can be removed', async (_what, text) => {
    const { store, sources } = fixture();
    const image = await store.import(sources);
    damage(path.join(store.dir, image.id, 'manifest.json'), (file) => fs.writeFileSync(file, text));
    expect(() => store.get(image.id)).toThrow(expect.objectContaining({ code: 'image_corrupt' }));
    expect(store.list()).toEqual([]);
    store.remove(image.id, []);
    expect(fs.readdirSync(store.dir)).toEqual([]);
  });

  it('with a manifest of other content is refused', async () => {
    const { store, sources } = fixture();
    const image = await store.import(sources);
    damage(path.join(store.dir, image.id, 'manifest.json'), (file) => {
      fs.writeFileSync(file, fs.readFileSync(file, 'utf8').replace('root=/dev/vda', 'root=/dev/vdb'));
    });
    expect(() => store.get(image.id)).toThrow(expect.objectContaining({ code: 'image_corrupt' }));
  });
});

function flipNow(file: string): void {
  fs.chmodSync(file, 0o600);
  flip(file);
  fs.utimesSync(file, 1, 1);
}

it('puts times right that a copy of the store has lost, so that COW files still fit', async () => {
  const { store, sources, folder } = fixture();
  const image = await store.import(sources);
  const config = { device: 'ubd0', file: image.disk, cow: path.join(folder, 'cow'), readOnly: false };
  await openDisk(config).close();
  fs.utimesSync(image.disk, 1, 1);
  expect(() => openDisk(config)).toThrow(expect.objectContaining({ code: 'cow_backing_changed' }));
  await store.use(image.id);
  await openDisk(config).close();
});

describe('remove', () => {
  it('refuses while disks depend on the image', async () => {
    const { store, sources } = fixture();
    const { id } = await store.import(sources);
    expect(() => store.remove(id, ['vm1/ubd0', 'vm2/ubd0'])).toThrow('vm1/ubd0, vm2/ubd0');
    store.remove(id, []);
    expect(fs.readdirSync(store.dir)).toEqual([]);
    expect(() => store.remove(id, [])).toThrow(expect.objectContaining({ code: 'not_found' }));
  });

  it.each(['', '..', '../images', 'x'.repeat(64), 'a'.repeat(64)])('knows no image %j', (id) => {
    const { store } = fixture();
    expect(() => store.get(id)).toThrow(expect.objectContaining({ code: 'not_found' }));
    expect(() => store.remove(id, [])).toThrow(expect.objectContaining({ code: 'not_found' }));
  });
});

it('removes at its start what killed processes left, and nothing of living ones', () => {
  const { store } = fixture();
  const { pid } = spawnSync(process.execPath, ['--version']);
  for (const name of [
    `.draft-${pid}-0011`,
    `.draft-${process.pid}-0022`,
    `.draft-${process.ppid}-0033`,
    '.draft-x',
  ]) {
    fs.mkdirSync(path.join(store.dir, name));
  }
  new ImageStore(store.dir);
  expect(fs.readdirSync(store.dir).sort()).toEqual(
    [`.draft-${process.pid}-0022`, `.draft-${process.ppid}-0033`].sort(),
  );
});
