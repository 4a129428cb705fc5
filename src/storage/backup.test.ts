import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pattern, randomNumbers, scratchFolder, smallFileSystem } from '../../test/support/storage.ts';
import { BACKUP_CHUNK_BYTES, type BackupRun, beginBackup } from './backup.ts';
import { openDisk } from './disk.ts';
import { GuestDisk } from './guest-disk.ts';
import { hostFile, SYNC_BYTES_MAX } from './host-file.ts';
import { RawVolume } from './raw-volume.ts';
import { copyDisk } from './restore.ts';

const SIZE = 8 << 20;

interface Fixture {
  readonly folder: string;
  readonly disk: GuestDisk;
  /** Its content, kept in step with the writes. */
  readonly model: Uint8Array;
  readonly target: string;
}

function fixture(name = 'a', folder = scratchFolder()): Fixture {
  const backing = path.join(folder, `${name}.backing`);
  const model = pattern(SIZE, name.charCodeAt(0));
  model.fill(0, 1 << 20, 3 << 20);
  fs.writeFileSync(backing, model);
  const disk = openDisk({
    device: 'ubd0',
    file: backing,
    cow: path.join(folder, `${name}.cow`),
    readOnly: false,
  });
  onTestFinished(() => disk.close());
  return { folder, disk, model, target: path.join(folder, `${name}.backup`) };
}

/** Writes at random places until the backup has ended. */
async function writeUntilEnd({ disk, model }: Fixture, run: BackupRun, seed: number): Promise<number> {
  const random = randomNumbers(seed);
  let ended = false;
  void run.finished
    .catch(() => undefined)
    .finally(() => {
      ended = true;
    });
  let writes = 0;
  for (; !ended; writes++) {
    const length = 512 * (1 + random(random(5) === 0 ? 1000 : 16));
    const offset = 512 * random((SIZE - length) / 512);
    const bytes = pattern(length, writes);
    await (random(9) === 0 ? disk.writeZeroes(offset, length, true) : disk.write(offset, [bytes]));
    if (random(20) === 0) await disk.flush();
    await new Promise(setImmediate);
  }
  model.fill(0);
  return writes;
}

describe('an online backup', () => {
  it('has the content of the moment it began, whatever is written meanwhile', async () => {
    const fixtures = ['a', 'b'].map((name) => fixture(name));
    for (const { disk, model } of fixtures) {
      model.fill(0x77, 0, 200_192);
      await disk.write(0, [model.subarray(0, 200_192)]);
    }
    const expected = fixtures.map(({ model }) => Buffer.from(model));
    const run = beginBackup(
      fixtures.map(({ disk }) => disk),
      fixtures.map(({ target }) => target),
    );
    const writes = await Promise.all(fixtures.map((one, index) => writeUntilEnd(one, run, index + 1)));
    await run.finished;
    expect(Math.min(...writes)).toBeGreaterThan(3);
    for (const [index, { target }] of fixtures.entries()) {
      expect(fs.readFileSync(target).equals(expected[index]!)).toBe(true);
      expect(fs.existsSync(`${target}.partial`)).toBe(false);
    }
  });

  it('has no write that began after it, and every write that ended before it', async () => {
    const { disk, model, target } = fixture();
    await disk.write(0, [new Uint8Array(4096).fill(1)]);
    const run = beginBackup([disk], [target]);
    const late = [disk.write(4096, [new Uint8Array(4096).fill(2)]), disk.discard(0, SIZE)];
    await Promise.all(late);
    await run.finished;
    const copy = fs.readFileSync(target);
    expect(copy.subarray(0, 4096).every((byte) => byte === 1)).toBe(true);
    expect(copy.subarray(4096).equals(model.subarray(4096))).toBe(true);
  });

  it('has each write that was under way as a whole or not at all', async () => {
    const { disk, model, target } = fixture();
    const bytes = new Uint8Array(SYNC_BYTES_MAX + 4096).fill(3);
    const underWay = disk.write(0, [bytes]);
    expect(underWay).toBeInstanceOf(Promise);
    const run = beginBackup([disk], [target]);
    await Promise.all([underWay, run.finished]);
    const copy = fs.readFileSync(target).subarray(0, bytes.length);
    expect(copy.equals(bytes) || copy.equals(model.subarray(0, bytes.length))).toBe(true);
  });

  it('is sparse where the disk is zeros', async () => {
    const { disk, target } = fixture();
    await beginBackup([disk], [target]).finished;
    expect(fs.statSync(target).size).toBe(SIZE);
    expect(fs.statSync(target).blocks * 512).toBeLessThanOrEqual(SIZE - (2 << 20) + BACKUP_CHUNK_BYTES);
  });

  it('tells its progress up to the end', async () => {
    const { disk, target } = fixture();
    const seen: number[] = [];
    const run = beginBackup([disk], [target], (done, total) => {
      expect(total).toBe(SIZE);
      seen.push(done);
    });
    await run.finished;
    expect(seen[0]).toBe(0);
    expect(seen.at(-1)).toBe(SIZE);
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(seen.length).toBeGreaterThan(4);
  });

  it('is cancelled without a trace, and the disk goes on', async () => {
    const { disk, target, folder } = fixture();
    const before = fs.readdirSync(folder);
    const run = beginBackup([disk], [target]);
    const write = disk.write(0, [new Uint8Array(512).fill(4)]);
    await run.cancel();
    await write;
    await expect(run.finished).rejects.toMatchObject({ code: 'canceled' });
    expect(fs.readdirSync(folder)).toEqual(before);
    const content = new Uint8Array(512);
    await disk.read(0, [content]);
    expect(content[0]).toBe(4);
    await beginBackup([disk], [target]).finished;
  });

  it('ends when the disk is closed', async () => {
    const { disk, target } = fixture();
    const run = beginBackup([disk], [target]);
    await disk.close();
    await expect(run.finished).rejects.toMatchObject({ code: 'canceled' });
    expect(fs.existsSync(`${target}.partial`)).toBe(false);
  });

  it('is one at a time for a disk, and leaves existing files alone', async () => {
    const { disk, target, folder } = fixture();
    const run = beginBackup([disk], [target]);
    expect(() => beginBackup([disk], [`${target}2`])).toThrow('being backed up already');
    expect(fs.existsSync(`${target}2.partial`)).toBe(false);
    await run.finished;
    expect(() => beginBackup([disk], [target])).toThrow(expect.objectContaining({ code: 'already_exists' }));
    expect(() => beginBackup([disk], [path.join(folder, 'no', 'folder')])).toThrow(
      expect.objectContaining({ code: 'io_error' }),
    );
    await beginBackup([disk], [`${target}2`]).finished;
  });

  it('fails with the disk whose content cannot be read, and that disk goes on', async () => {
    const { folder, target } = fixture();
    const file = path.join(folder, 'short');
    fs.writeFileSync(file, Buffer.alloc(SIZE));
    const volume = new RawVolume(hostFile(fs.openSync(file, 'r+')), SIZE);
    const bad = new GuestDisk('ubd1', volume, { readOnly: false });
    const read = volume.read.bind(volume);
    volume.read = (offset, into, background) => {
      if (background && offset >= SIZE / 2)
        return Promise.reject(Object.assign(new Error('bad sector'), { code: 'EIO' }));
      return read(offset, into, background);
    };
    const run = beginBackup([bad], [target]);
    await expect(run.finished).rejects.toMatchObject({ code: 'io_error' });
    await bad.write(SIZE - 512, [new Uint8Array(512).fill(1)]);
    await bad.close();
    expect(fs.readFileSync(file).at(-1)).toBe(1);
  });

  it('fails on a full disk, removes its file, and the guest goes on', async () => {
    const folder = smallFileSystem('3m');
    const { disk, model } = fixture();
    const target = path.join(folder, 'backup');
    const run = beginBackup([disk], [target]);
    const writes = writeUntilEnd({ folder, disk, model, target }, run, 5);
    await expect(run.finished).rejects.toMatchObject({ code: 'disk_full' });
    await writes;
    expect(fs.readdirSync(folder)).toEqual([]);
    await disk.write(0, [new Uint8Array(512).fill(6)]);
    await disk.flush();
  });
});

describe('a full host disk', () => {
  it('is an I/O error of the request, and no data is lost', async () => {
    const folder = smallFileSystem('2m');
    const { folder: elsewhere } = fixture();
    const disk = openDisk({
      device: 'ubd0',
      file: path.join(elsewhere, 'a.backing'),
      cow: path.join(folder, 'cow'),
      readOnly: false,
    });
    const bytes = new Uint8Array(SIZE).fill(8);
    expect(() => {
      for (let at = 0; at < SIZE; at += 65536) void disk.write(at, [bytes.subarray(0, 65536)]);
    }).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    await expect(Promise.resolve(disk.write(0, [bytes]))).rejects.toMatchObject({ code: 'ENOSPC' });
    await disk.flush();
    const content = new Uint8Array(65536);
    await disk.read(0, [content]);
    expect(content.every((byte) => byte === 8)).toBe(true);
    await disk.close();
  });
});

describe('copyDisk', () => {
  it('makes an equal, sparse file', async () => {
    const folder = scratchFolder();
    const [from, to] = [path.join(folder, 'from'), path.join(folder, 'to')];
    const bytes = Buffer.concat([pattern(100_000, 1), Buffer.alloc(3 << 20), pattern(777, 2)]);
    fs.writeFileSync(from, bytes);
    await copyDisk(from, to);
    expect(fs.readFileSync(to).equals(bytes)).toBe(true);
    expect(fs.statSync(to).blocks * 512).toBeLessThan(1 << 20);
  });

  it('refuses to replace a file, and stops when told', async () => {
    const folder = scratchFolder();
    const [from, to] = [path.join(folder, 'from'), path.join(folder, 'to')];
    fs.writeFileSync(from, pattern(100, 1));
    await expect(copyDisk(from, from)).rejects.toMatchObject({ code: 'already_exists' });
    await expect(copyDisk(path.join(folder, 'no'), to)).rejects.toMatchObject({ code: 'not_found' });
    const stopped = AbortSignal.abort();
    await copyDisk(from, to, { signal: stopped }).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'canceled' });
      expect(fs.readdirSync(folder)).toEqual(['from']);
    });
  });
});
