import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pattern, randomNumbers, scratchFolder, smallFileSystem } from '../../test/support/storage.ts';
import type { StoreConfig } from '../contracts/backup.ts';
import { type BackupRun, prepareBackup } from './backup.ts';
import { runStoreTask } from './backup-store/store-task.ts';
import { openDisk } from './disk.ts';
import { GuestDisk } from './guest-disk.ts';
import { hostFile, SYNC_BYTES_MAX } from './host-file.ts';
import { RawVolume } from './raw-volume.ts';
import { copyDisk } from './restore.ts';
import {
  backUp,
  backupPlan,
  beginBackup,
  contentOf,
  filesOf,
  storeFolder,
  storeIn,
} from './testing/store-kit.ts';

const SIZE = 8 << 20;
const CHUNK = 64 * 1024;

interface Fixture {
  readonly folder: string;
  readonly disk: GuestDisk;
  /** Its content, kept in step with the writes. */
  readonly model: Uint8Array;
  readonly store: StoreConfig;
}

function fixture(device = 'ubd0', folder = scratchFolder()): Fixture {
  const backing = path.join(folder, `${device}.backing`);
  const model = pattern(SIZE, device.charCodeAt(3));
  model.fill(0, 1 << 20, 3 << 20);
  fs.writeFileSync(backing, model);
  const disk = openDisk({ ...configOf(folder, device), readOnly: false });
  onTestFinished(() => disk.close());
  return { folder, disk, model, store: storeIn(folder) };
}

const configOf = (folder: string, device = 'ubd0') => ({
  device,
  file: path.join(folder, `${device}.backing`),
  cow: path.join(folder, `${device}.cow`),
  tracking: path.join(folder, `${device}.changes`),
});

async function refused(promise: Promise<unknown>, code: string): Promise<void> {
  await expect(promise).rejects.toMatchObject({ code });
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
    const folder = scratchFolder();
    const fixtures = ['ubd0', 'ubd1'].map((name) => fixture(name, folder));
    for (const { disk, model } of fixtures) {
      model.fill(0x77, 0, 200_192);
      await disk.write(0, [model.subarray(0, 200_192)]);
    }
    const expected = fixtures.map(({ model }) => Buffer.from(model));
    const { store } = fixtures[0]!;
    const run = await beginBackup(
      fixtures.map(({ disk }) => disk),
      store,
    );
    const writes = await Promise.all(fixtures.map((one, index) => writeUntilEnd(one, run, index + 1)));
    const { id, kind } = await run.finished;
    expect(kind).toBe('full');
    expect(Math.min(...writes)).toBeGreaterThan(3);
    for (const [index, device] of ['ubd0', 'ubd1'].entries()) {
      expect((await contentOf(store, id, device)).equals(expected[index]!)).toBe(true);
    }
  });

  it('has no write that began after it, and every write that ended before it', async () => {
    const { disk, model, store } = fixture();
    await disk.write(0, [new Uint8Array(4096).fill(1)]);
    const run = await beginBackup([disk], store);
    const late = [disk.write(4096, [new Uint8Array(4096).fill(2)]), disk.discard(0, SIZE)];
    await Promise.all(late);
    const copy = await contentOf(store, (await run.finished).id, 'ubd0');
    expect(copy.subarray(0, 4096).every((byte) => byte === 1)).toBe(true);
    expect(copy.subarray(4096).equals(model.subarray(4096))).toBe(true);
  });

  it('has each write that was under way as a whole or not at all', async () => {
    const { disk, model, store } = fixture();
    const bytes = new Uint8Array(SYNC_BYTES_MAX + 4096).fill(3);
    const prepared = beginBackup([disk], store);
    const underWay = disk.write(0, [bytes]);
    expect(underWay).toBeInstanceOf(Promise);
    const run = await prepared;
    await Promise.all([underWay, run.finished]);
    const copy = (await contentOf(store, (await run.finished).id, 'ubd0')).subarray(0, bytes.length);
    expect(copy.equals(bytes) || copy.equals(model.subarray(0, bytes.length))).toBe(true);
  });

  it('stores neither zeros nor anything twice', async () => {
    const { disk, store } = fixture();
    await disk.write(3 << 20, [new Uint8Array(2 << 20).fill(9)]);
    const { id, disks } = await backUp([disk], store);
    expect(disks[0]).toMatchObject({ sizeBytes: SIZE, scannedBytes: SIZE });
    expect(disks[0]!.storedBytes).toBeLessThan(4.2 * 2 ** 20);
    const again = await backUp([disk], store);
    expect(again.disks[0]).toMatchObject({ scannedBytes: SIZE, storedBytes: 0 });
    expect((await contentOf(store, id, 'ubd0')).equals(await contentOf(store, again.id, 'ubd0'))).toBe(true);
  });

  it('tells its progress up to the end', async () => {
    const { disk, store } = fixture();
    const seen: number[] = [];
    const run = await beginBackup([disk], store, null, (done, total) => {
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
    const { disk, store } = fixture();
    const run = await beginBackup([disk], store);
    const write = disk.write(0, [new Uint8Array(512).fill(4)]);
    await run.cancel();
    await write;
    await refused(run.finished, 'canceled');
    expect(filesOf(store).filter((name) => name.includes('manifest'))).toEqual([]);
    const content = new Uint8Array(512);
    await disk.read(0, [content]);
    expect(content[0]).toBe(4);
    await backUp([disk], store);
  });

  it('ends when the disk is closed', async () => {
    const { disk, store } = fixture();
    const run = await beginBackup([disk], store);
    await disk.close();
    await run.finished.catch((error: unknown) => expect(error).toMatchObject({ code: 'canceled' }));
  });

  it('is one at a time for a disk', async () => {
    const { disk, store } = fixture();
    const other = await prepareBackup([disk], backupPlan(store));
    const run = await beginBackup([disk], store);
    expect(() => other.begin('crash')).toThrow('being backed up already');
    await run.finished;
    await backUp([disk], store);
  });

  it('fails with the disk whose content cannot be read, and that disk goes on', async () => {
    const { folder, store } = fixture();
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
    const run = await beginBackup([bad], store);
    await refused(run.finished, 'io_error');
    await bad.write(SIZE - 512, [new Uint8Array(512).fill(1)]);
    await bad.close();
    expect(fs.readFileSync(file).at(-1)).toBe(1);
  });

  it('fails on a full disk, and the guest goes on', async () => {
    const folder = smallFileSystem('3m');
    const { disk, model } = fixture();
    const store = storeIn(folder);
    const run = await beginBackup([disk], store);
    const writes = writeUntilEnd({ folder, disk, model, store }, run, 5);
    await refused(run.finished, 'disk_full');
    await writes;
    expect(filesOf(store)).toEqual([]);
    await disk.write(0, [new Uint8Array(512).fill(6)]);
    await disk.flush();
  });
});

describe('an incremental backup', () => {
  it('reads what has changed, and is as whole as a full one', async () => {
    const { disk, model, store } = fixture();
    const first = await backUp([disk], store);
    const random = randomNumbers(7);
    let parent = first.id;
    for (let round = 1; round <= 3; round++) {
      const at = 512 * random(SIZE / 512 - 8);
      model.set(pattern(4096, round), at);
      await disk.write(at, [model.subarray(at, at + 4096)]);
      model.fill(0, 5 << 20, (5 << 20) + CHUNK);
      await disk.discard(5 << 20, CHUNK);
      const made = await backUp([disk], store, parent);
      expect(made).toMatchObject({ kind: 'incremental', parent });
      expect(made.disks[0]!.scannedBytes).toBeLessThanOrEqual(3 * CHUNK);
      expect((await contentOf(store, made.id, 'ubd0')).equals(model)).toBe(true);
      parent = made.id;
    }
    // No backup needs another.
    await runStoreTask(store, 'remove', { backupIds: [first.id] });
    await runStoreTask(store, 'collect', {});
    expect((await contentOf(store, parent, 'ubd0')).equals(model)).toBe(true);
  });

  it('has what was written while the one before it was made', async () => {
    const fixed = fixture();
    const { disk, store } = fixed;
    const run = await beginBackup([disk], store);
    await writeUntilEnd(fixed, run, 3);
    const made = await backUp([disk], store, (await run.finished).id);
    const now = Buffer.alloc(SIZE);
    await disk.read(0, [now]);
    expect(made.kind).toBe('incremental');
    expect((await contentOf(store, made.id, 'ubd0')).equals(now)).toBe(true);
  });

  it('counts on from the last that was completed', async () => {
    const { disk, model, store } = fixture();
    const first = await backUp([disk], store);
    model.fill(1, 0, 512);
    await disk.write(0, [model.subarray(0, 512)]);
    const failed = await beginBackup([disk], store, first.id);
    await failed.cancel();
    await failed.finished.catch(() => undefined);
    const made = await backUp([disk], store, first.id);
    expect(made.kind).toBe('incremental');
    expect((await contentOf(store, made.id, 'ubd0')).equals(model)).toBe(true);
  });

  it('goes on after the disk was closed, unless its files have been touched or it was killed', async () => {
    const { disk, folder, model, store } = fixture();
    const config = { ...configOf(folder), readOnly: false };
    let parent = (await backUp([disk], store)).id;
    model.fill(2, CHUNK, CHUNK + 512);
    await disk.write(CHUNK, [model.subarray(CHUNK, CHUNK + 512)]);
    await disk.close();

    const again = openDisk(config);
    expect(fs.existsSync(config.tracking)).toBe(false);
    const made = await backUp([again], store, parent);
    expect(made.disks[0]).toMatchObject({ scannedBytes: CHUNK });
    expect((await contentOf(store, made.id, 'ubd0')).equals(model)).toBe(true);
    parent = made.id;
    await again.close();

    // By another hand, with the time of last modification put back.
    const { atime, mtime } = fs.statSync(config.cow);
    const fd = fs.openSync(config.cow, 'r+');
    fs.writeSync(fd, 'x', fs.fstatSync(fd).size - 1);
    fs.closeSync(fd);
    fs.utimesSync(config.cow, atime, mtime);
    const touched = openDisk(config);
    const full = await backUp([touched], store, parent);
    expect(full).toMatchObject({ kind: 'full', disks: [{ scannedBytes: SIZE }] });
    await touched.close();

    // A kill leaves no tracking: here it is taken away while the disk is open.
    const killed = openDisk(config);
    const tracked = await backUp([killed], store, full.id);
    expect(tracked.kind).toBe('incremental');
    expect(fs.existsSync(config.tracking)).toBe(false);
    await killed.close();
  });

  it('reads everything when the one before it is gone from the store, or damaged there', async () => {
    const { disk, model, store } = fixture();
    const first = await backUp([disk], store);
    await runStoreTask(store, 'remove', { backupIds: [first.id] });
    await runStoreTask(store, 'collect', {});
    const second = await backUp([disk], store, first.id);
    expect(second).toMatchObject({ kind: 'full', parent: null, disks: [{ scannedBytes: SIZE }] });
    expect((await contentOf(store, second.id, 'ubd0')).equals(model)).toBe(true);
    fs.writeFileSync(path.join(storeFolder(store), 'manifests', `${second.id}.json`), 'no manifest');
    const third = await backUp([disk], store, second.id);
    expect(third).toMatchObject({ kind: 'full', parent: null });
    expect((await contentOf(store, third.id, 'ubd0')).equals(model)).toBe(true);
    const fourth = await backUp([disk], store, third.id);
    expect(fourth).toMatchObject({ kind: 'incremental', parent: third.id });
  });

  it('of a disk that is only read leaves its tracking to the next', async () => {
    const { disk, folder, store } = fixture();
    await disk.close();
    let parent: string | null = null;
    for (const kind of ['full', 'incremental', 'incremental']) {
      const reader = openDisk({ ...configOf(folder), readOnly: true });
      const made = await backUp([reader], store, parent);
      await reader.close();
      expect(made.kind).toBe(kind);
      parent = made.id;
    }
  });
});

describe('a full host disk', () => {
  it('is an I/O error of the request, and no data is lost', async () => {
    const folder = smallFileSystem('2m');
    const { folder: elsewhere } = fixture();
    const disk = openDisk({
      device: 'ubd0',
      file: path.join(elsewhere, 'ubd0.backing'),
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
