import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { inPieces, pattern, randomNumbers, scratchFolder } from '../../test/support/storage.ts';
import { AppError } from '../contracts/errors.ts';
import type { DiskConfig } from '../contracts/machine.ts';
import { BlockError } from '../engine/backends.ts';
import { backingFileOf, createCow, inspectCow } from './cow/create.ts';
import { openDisk } from './disk.ts';
import type { GuestDisk } from './guest-disk.ts';

function config(part: Partial<DiskConfig> & Pick<DiskConfig, 'file'>): DiskConfig {
  return { device: 'ubd0', readOnly: false, ...part };
}

function code(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof AppError || error instanceof BlockError) return error.code;
    throw error;
  }
  return 'accepted';
}

async function contentOf(disk: GuestDisk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.sizeBytes);
  await disk.read(0, [bytes]);
  return bytes;
}

/** Random requests, some of them overlapping in time, against an array. */
async function exercise(open: () => GuestDisk, initial: Uint8Array, seed: number): Promise<void> {
  const random = randomNumbers(seed);
  const model = new Uint8Array(Math.ceil(initial.length / 512) * 512);
  model.set(initial);
  let disk = open();
  const sectors = disk.sizeBytes / 512;
  for (let step = 0; step < 300; step++) {
    const from = random(sectors);
    const count = 1 + random(Math.min(sectors - from, random(4) === 0 ? 600 : 12));
    const [offset, length] = [from * 512, count * 512];
    switch (random(8)) {
      case 0:
      case 1:
      case 2: {
        const bytes = pattern(length, step);
        model.set(bytes, offset);
        await disk.write(offset, inPieces(bytes, random));
        break;
      }
      case 3:
        await disk.writeZeroes(offset, length, random(2) === 0);
        model.fill(0, offset, offset + length);
        break;
      case 4:
        await disk.discard(offset, length);
        // On file systems without holes the content may stay; on those with, it is zeros.
        await disk.read(offset, [model.subarray(offset, offset + length)]);
        break;
      case 5:
        await disk.flush();
        break;
      case 6:
        if (random(6) > 0) break;
        await disk.close();
        disk = open();
        break;
      default: {
        const into = new Uint8Array(length);
        await disk.read(offset, inPieces(into, random));
        expect(Buffer.from(into).equals(model.subarray(offset, offset + length))).toBe(true);
      }
    }
  }
  expect(Buffer.from(await contentOf(disk)).equals(model)).toBe(true);
  await disk.close();
}

describe('a raw disk', () => {
  it.each([1 << 20, 300 * 512, 1000])('of %d bytes holds what is written', async (size) => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, pattern(size, 1));
    await exercise(() => openDisk(config({ file })), fs.readFileSync(file), size);
  });

  it('reads the rest of a partial last sector as zeros', async () => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, Buffer.alloc(1000, 7));
    const disk = openDisk(config({ file, readOnly: true }));
    expect(disk.sizeBytes).toBe(1024);
    const content = await contentOf(disk);
    expect([content[999], content[1000], content[1023]]).toEqual([7, 0, 0]);
    await disk.close();
  });

  it('is not changed when it is read-only', async () => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, Buffer.alloc(4096));
    const disk = openDisk(config({ file, readOnly: true }));
    expect(code(() => disk.write(0, [new Uint8Array(512)]))).toBe('EROFS');
    expect(code(() => disk.discard(0, 512))).toBe('EROFS');
    await disk.close();
  });

  it.each([
    [-512, 512],
    [0, 4608],
    [4096, 512],
    [1, 512],
    [0, 100],
    [2 ** 53, 512],
    [Number.NaN, 512],
  ])('refuses a request at %d of %d bytes', async (offset, length) => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, Buffer.alloc(4096));
    const disk = openDisk(config({ file }));
    expect(code(() => disk.read(offset, [new Uint8Array(length)]))).toBe('EINVAL');
    expect(code(() => disk.write(offset, [new Uint8Array(length)]))).toBe('EINVAL');
    expect(code(() => disk.discard(offset, length))).toBe('EINVAL');
    await disk.close();
    expect(code(() => disk.read(0, [new Uint8Array(512)]))).toBe('EBADF');
    expect(fs.statSync(file).size).toBe(4096);
  });

  it('has one writer, or readers', async () => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, Buffer.alloc(4096));
    const writer = openDisk(config({ file }));
    expect(code(() => openDisk(config({ file })))).toBe('in_use');
    expect(code(() => openDisk(config({ file, readOnly: true })))).toBe('in_use');
    await writer.close();
    const readers = [openDisk(config({ file, readOnly: true })), openDisk(config({ file, readOnly: true }))];
    expect(code(() => openDisk(config({ file })))).toBe('in_use');
    await Promise.all(readers.map((reader) => reader.close()));
  });

  it('has several writers when it is not locked', async () => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, Buffer.alloc(4096));
    const shared = { file, unlocked: true };
    const disks = [openDisk(config(shared)), openDisk(config(shared))];
    await disks[0]!.write(0, [Buffer.alloc(512, 7)]);
    const read = Buffer.alloc(512);
    await disks[1]!.read(0, [read]);
    expect(read.equals(Buffer.alloc(512, 7))).toBe(true);
    await Promise.all(disks.map((disk) => disk.close()));
  });

  it('is a file with content', () => {
    const folder = scratchFolder();
    fs.writeFileSync(path.join(folder, 'empty'), '');
    expect(code(() => openDisk(config({ file: path.join(folder, 'none') })))).toBe('not_found');
    expect(code(() => openDisk(config({ file: path.join(folder, 'empty') })))).toBe('bad_image');
    expect(code(() => openDisk(config({ file: folder, readOnly: true })))).toBe('bad_image');
  });

  it('counts requests and bytes', async () => {
    const file = path.join(scratchFolder(), 'disk');
    fs.writeFileSync(file, Buffer.alloc(4096));
    const disk = openDisk(config({ file }));
    await disk.write(512, [new Uint8Array(1024), new Uint8Array(512)]);
    await disk.read(0, [new Uint8Array(512)]);
    await disk.flush();
    await disk.discard(0, 2048);
    await disk.writeZeroes(512, 512, true);
    expect(disk.stats).toMatchObject({
      device: 'ubd0',
      reads: 1,
      readBytes: 512,
      writes: 1,
      writtenBytes: 1536,
      flushes: 1,
      discards: 1,
      discardedBytes: 2048,
      zeroes: 1,
      zeroedBytes: 512,
      errors: 0,
      throttled: 0,
      inFlight: 0,
      held: 0,
    });
    expect(disk.stats.writeSeconds).toBeGreaterThan(0);
    expect(disk.stats.flushSeconds).toBeGreaterThan(0);
    await disk.close();
  });

  it('is not taken for a COW file because of what the guest wrote into it', async () => {
    const folder = scratchFolder();
    const [secret, file] = [path.join(folder, 'secret'), path.join(folder, 'disk')];
    fs.writeFileSync(secret, Buffer.alloc(4096, 0x53));
    createCow(file, secret);
    const disk = openDisk(config({ file, readOnly: true }));
    expect(Buffer.from(await contentOf(disk)).toString('latin1', 0, 4)).toBe('OOOM');
    expect(Buffer.from(await contentOf(disk)).includes(Buffer.alloc(64, 0x53))).toBe(false);
    await disk.close();
  });
});

function cowFixture(size = 1 << 20): {
  readonly folder: string;
  readonly file: string;
  readonly cow: string;
} {
  const folder = scratchFolder();
  const file = path.join(folder, 'backing');
  fs.writeFileSync(file, pattern(size, 3));
  return { folder, file, cow: path.join(folder, 'disk.cow') };
}

describe('a COW disk', () => {
  it('of a worker that is terminated, in the middle of requests, can be opened at once', async () => {
    const { file, cow } = cowFixture();
    const source = `
      const { openDisk } = await import(${JSON.stringify(new URL('./disk.ts', import.meta.url).href)});
      const { parentPort } = await import('node:worker_threads');
      const disk = openDisk({ device: 'ubd0', file: ${JSON.stringify(file)}, cow: ${JSON.stringify(cow)}, readOnly: false });
      await disk.write(0, [new Uint8Array(512).fill(5)]);
      await disk.flush();
      parentPort.postMessage('open');
      for (;;) await Promise.all([disk.write(0, [new Uint8Array(1 << 19).fill(5)]), disk.discard(1 << 19, 1 << 19), disk.flush()]);`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(source)}`));
    await once(worker, 'message');
    expect(code(() => openDisk(config({ file, cow })))).toBe('in_use');
    await worker.terminate();
    const disk = openDisk(config({ file, cow }));
    expect((await contentOf(disk))[511]).toBe(5);
    await disk.close();
  });

  it.each([1 << 20, 999 * 512, 40_000, 1000])(
    'over %d bytes holds what is written and leaves the backing file alone',
    async (size) => {
      const { file, cow } = cowFixture(size);
      const before = fs.readFileSync(file);
      const mtime = fs.statSync(file).mtimeMs;
      await exercise(() => openDisk(config({ file, cow })), before, size);
      expect(fs.readFileSync(file).equals(before)).toBe(true);
      expect(fs.statSync(file).mtimeMs).toBe(mtime);
    },
  );

  it('is made sparse, of its final length', async () => {
    const { file, cow } = cowFixture(64 << 20);
    await openDisk(config({ file, cow })).close();
    const stat = fs.statSync(cow);
    expect(stat.size).toBe(inspectCow(cow).dataOffset + (64 << 20));
    expect(stat.blocks * 512).toBeLessThan(64 * 1024);
    expect(backingFileOf(cow)).toBe(fs.realpathSync(file));
    expect(backingFileOf(file)).toBeUndefined();
  });

  it('is never made over an existing file', () => {
    const { file, cow } = cowFixture();
    fs.writeFileSync(cow, 'precious');
    expect(code(() => createCow(cow, file))).toBe('already_exists');
    expect(fs.readFileSync(cow, 'utf8')).toBe('precious');
    expect(fs.readdirSync(path.dirname(cow))).toHaveLength(2);
  });

  it('has one writer, and keeps writers from its backing file', async () => {
    const { file, cow } = cowFixture();
    const disk = openDisk(config({ file, cow }));
    expect(code(() => openDisk(config({ file, cow })))).toBe('in_use');
    expect(code(() => openDisk(config({ file })))).toBe('in_use');
    const sibling = openDisk(config({ file, cow: `${cow}2` }));
    await Promise.all([disk.close(), sibling.close()]);
  });

  it('refuses itself as backing file, also through links', () => {
    const { folder, file, cow } = cowFixture();
    createCow(cow, file);
    const link = path.join(folder, 'link');
    fs.symlinkSync(cow, link);
    expect(code(() => openDisk(config({ file: cow, cow })))).toBe('cow_backing_self');
    expect(code(() => openDisk(config({ file: link, cow })))).toBe('cow_backing_self');
    expect(code(() => createCow(`${folder}/x`, `${folder}/./x`))).toBe('cow_backing_missing');
    expect(code(() => createCow(link, cow))).toBe('cow_backing_self');
  });

  it('refuses a backing file that is missing or changed', () => {
    const { file, cow } = cowFixture();
    createCow(cow, file);
    const { mtime } = fs.statSync(file);
    fs.utimesSync(file, 1, 1);
    expect(code(() => openDisk(config({ file, cow })))).toBe('cow_backing_changed');
    fs.appendFileSync(file, 'x');
    fs.utimesSync(file, mtime, mtime);
    expect(code(() => openDisk(config({ file, cow })))).toBe('cow_backing_changed');
    fs.rmSync(file);
    expect(code(() => openDisk(config({ file, cow })))).toBe('cow_backing_missing');
  });

  it('follows a backing file that was moved, and its header with it', async () => {
    const { folder, file, cow } = cowFixture();
    const disk = openDisk(config({ file, cow }));
    await disk.write(512, [new Uint8Array(512).fill(9)]);
    await disk.close();
    const moved = path.join(folder, 'moved');
    fs.renameSync(file, moved);
    const again = openDisk(config({ file: moved, cow }));
    expect((await contentOf(again))[512]).toBe(9);
    await again.close();
    expect(backingFileOf(cow)).toBe(fs.realpathSync(moved));
  });

  it('stores the real path of the folder and the last component as it is', () => {
    const { folder, file, cow } = cowFixture();
    fs.mkdirSync(path.join(folder, 'real'));
    fs.symlinkSync('real', path.join(folder, 'alias'));
    fs.symlinkSync(file, path.join(folder, 'real', 'name'));
    expect(createCow(cow, path.join(folder, 'alias', 'name')).backingPath).toBe(
      path.join(fs.realpathSync(folder), 'real', 'name'),
    );
  });

  it('refuses a file that is cut in its bitmap', () => {
    const { file, cow } = cowFixture();
    createCow(cow, file);
    fs.truncateSync(cow, 8192 + 100);
    expect(code(() => openDisk(config({ file, cow })))).toBe('cow_corrupt');
    fs.truncateSync(cow, 100);
    expect(code(() => openDisk(config({ file, cow })))).toBe('cow_corrupt');
  });

  it('opens a version 2 file without bits for its last sectors for reading only', async () => {
    const { file, cow } = cowFixture(65536 + 512);
    const header = Buffer.alloc(8192);
    header.write('OOOM', 0);
    header.writeUInt32BE(2, 4);
    header.write(file, 8);
    header.writeUInt32BE(Math.floor(fs.statSync(file).mtimeMs / 1000), 4104);
    header.writeBigUInt64BE(66048n, 4108);
    header.writeUInt32BE(512, 4116);
    fs.writeFileSync(cow, header);
    expect(code(() => openDisk(config({ file, cow })))).toBe('unsupported');
    const disk = openDisk(config({ file, cow, readOnly: true }));
    expect(Buffer.from(await contentOf(disk)).equals(fs.readFileSync(file))).toBe(true);
    await disk.close();
  });
});
