/** What becomes of requests that fail, and of limits. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { pattern, resizeFileSystem, scratchFolder, smallFileSystem } from '../../test/support/storage.ts';
import type { DiskErrorPolicy } from '../contracts/machine.ts';
import { BlockError, type MaybePromise } from '../engine/backends.ts';
import { openDisk } from './disk.ts';
import { DiskLost } from './errors.ts';
import { type DiskFailure, GuestDisk } from './guest-disk.ts';
import type { Volume } from './volume.ts';

const SIZE = 1 << 20;

/** A disk in memory whose requests fail, at once or later, while `failure` is set. */
class FailingVolume implements Volume {
  readonly sizeBytes = SIZE;
  readonly bytes = new Uint8Array(SIZE);
  failure: unknown;
  later = false;

  read(offset: number, into: readonly Uint8Array[]): MaybePromise<void> {
    return this.#do(() => into[0]!.set(this.bytes.subarray(offset, offset + into[0]!.length)));
  }
  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    return this.#do(() => this.bytes.set(from[0]!, offset));
  }
  flushes = 0;
  flush(): MaybePromise<void> {
    return this.#do(() => void this.flushes++);
  }
  discard(offset: number, length: number): MaybePromise<void> {
    return this.writeZeroes(offset, length);
  }
  writeZeroes(offset: number, length: number): MaybePromise<void> {
    return this.#do(() => void this.bytes.fill(0, offset, offset + length));
  }
  close(): Promise<void> {
    return Promise.resolve();
  }

  #do(work: () => void): MaybePromise<void> {
    const { failure } = this;
    if (!this.later) {
      if (failure !== undefined) throw failure;
      return work();
    }
    return Promise.resolve().then(() => {
      if (failure !== undefined) throw failure;
      work();
    });
  }
}

const FULL = new BlockError('ENOSPC', 'no space left on device');

function made(onError: DiskErrorPolicy, later: boolean) {
  const volume = new FailingVolume();
  volume.later = later;
  const disk = new GuestDisk('ubd0', volume, { readOnly: false, onError });
  const failures: DiskFailure[] = [];
  disk.onFailure = (failure) => failures.push(failure);
  return { volume, disk, failures };
}

const settled = async (work: () => MaybePromise<void>): Promise<unknown> => {
  try {
    await work();
    return 'done';
  } catch (error) {
    return error;
  }
};
const write = (disk: GuestDisk, value: number) =>
  settled(() => disk.write(0, [new Uint8Array(512).fill(value)]));

describe.each([false, true])('a request that fails (later: %s)', (later) => {
  it('is reported to the guest; of many such, not each to the operator', async () => {
    const { volume, disk, failures } = made('report', later);
    volume.failure = FULL;
    for (let count = 0; count < 5; count++) expect(await write(disk, 1)).toBe(FULL);
    expect(failures).toEqual([{ request: 'write', error: FULL, held: false, unreported: 0 }]);
    expect(disk.stats).toMatchObject({ writes: 5, errors: 5, held: 0, inFlight: 0 });
    volume.failure = undefined;
    expect(await write(disk, 2)).toBe('done');
    await disk.close();
  });

  it('is held, where so wished, until it is tried again with success', async () => {
    const { volume, disk, failures } = made('pause', later);
    volume.failure = FULL;
    const requests = [
      write(disk, 7),
      settled(() => disk.flush()),
      settled(() => disk.discard(4096, 4096)),
      settled(() => disk.read(0, [new Uint8Array(512)])),
    ];
    await expect.poll(() => disk.stats.held).toBe(4);
    expect(failures.map(({ request, held }) => [request, held])).toEqual([
      ['write', true],
      ['flush', true],
      ['discard', true],
      ['read', true],
    ]);
    await disk.retryHeld();
    expect(disk.stats).toMatchObject({ errors: 8, held: 4 });
    volume.failure = undefined;
    await disk.retryHeld();
    expect(await Promise.all(requests)).toEqual(['done', 'done', 'done', 'done']);
    expect(disk.stats).toMatchObject({ held: 0, inFlight: 0, writes: 1, reads: 1 });
    expect(volume.bytes[0]).toBe(7);
    await disk.close();
  });

  it('and is held fails when it is given up, and when the disk is closed', async () => {
    const { volume, disk } = made('pause', later);
    volume.failure = FULL;
    const first = write(disk, 1);
    await expect.poll(() => disk.stats.held).toBe(1);
    disk.failHeld();
    expect(await first).toBe(FULL);
    const second = write(disk, 1);
    await expect.poll(() => disk.stats.held).toBe(1);
    await disk.close();
    expect(await second).toBe(FULL);
  });

  it('for good is reported, whatever was wished', async () => {
    const { volume, disk, failures } = made('pause', later);
    const lost = new DiskLost(new Error('fdatasync'));
    for (const failure of [lost, new BlockError('EROFS', 'read-only')]) {
      volume.failure = failure;
      expect(await write(disk, 1)).toBe(failure);
    }
    expect(disk.stats).toMatchObject({ errors: 2, held: 0 });
    expect(failures).toMatchObject([{ held: false }]);
    await disk.close();
  });

  it('follows a wish that changes', async () => {
    const { volume, disk } = made('report', later);
    disk.configure({}, 'pause');
    volume.failure = FULL;
    const held = write(disk, 1);
    await expect.poll(() => disk.stats.held).toBe(1);
    disk.configure({}, 'report');
    await disk.retryHeld();
    expect(await held).toBe(FULL);
    await disk.close();
  });
});

describe('limits', () => {
  it('make requests wait, all but flushes, and count it; closing lets all of them go', async () => {
    const { volume, disk } = made('report', false);
    disk.configure({ iops: 1, iopsBurst: 1 }, 'report');
    expect(disk.write(0, [new Uint8Array(512).fill(1)])).toBeUndefined();
    expect(disk.flush()).toBeUndefined();
    const waiting = [write(disk, 2), settled(() => disk.discard(512, 512)), write(disk, 3)];
    expect(volume.bytes[0]).toBe(1);
    expect(disk.stats).toMatchObject({ inFlight: 3, throttled: 0, writes: 3 });
    // Not begun: a backup that starts now is told of them when they go.
    const watcher = { beforeChange: () => undefined, closing: () => Promise.resolve() };
    expect(disk.watch(watcher)).toEqual([]);
    await disk.close();
    expect(await Promise.all(waiting)).toEqual(['done', 'done', 'done']);
    expect(volume.bytes[0]).toBe(3);
    expect(disk.stats).toMatchObject({ inFlight: 0, throttled: 3 });
  });
});

describe('a host disk that is full', () => {
  it.each(['raw', 'cow'] as const)(
    'holds requests of a %s disk until there is space, and nothing is lost',
    async (kind) => {
      const folder = smallFileSystem('2m');
      const file = path.join(kind === 'cow' ? scratchFolder() : folder, 'disk');
      fs.writeFileSync(file, '');
      fs.truncateSync(file, 4 << 20);
      const cow = kind === 'cow' ? path.join(folder, 'cow') : undefined;
      const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false, onError: 'pause' });
      const content = pattern(4 << 20, 5);
      const requests: Promise<unknown>[] = [];
      for (let at = 0; at < content.length; at += 65_536) {
        requests.push(settled(() => disk.write(at, [content.subarray(at, at + 65_536)])));
      }
      requests.push(settled(() => disk.flush()));
      await expect.poll(() => disk.stats.held).toBeGreaterThan(20);
      const held = disk.stats.held;
      await disk.retryHeld();
      await expect.poll(() => disk.stats.held).toBe(held);
      resizeFileSystem(folder, '8m');
      await disk.retryHeld();
      expect(new Set(await Promise.all(requests))).toEqual(new Set(['done']));
      await disk.close();
      const again = openDisk({ device: 'ubd0', file, cow, readOnly: true });
      const read = new Uint8Array(content.length);
      await again.read(0, [read]);
      expect(Buffer.from(read).equals(content)).toBe(true);
      await again.close();
    },
  );
});

describe('a disk that is made larger', () => {
  it('has zeros where it is new, keeps the rest, and is as large when it is opened again', async () => {
    const file = path.join(scratchFolder(), 'raw');
    fs.writeFileSync(file, pattern(SIZE, 1));
    const disk = openDisk({ device: 'ubd0', file, readOnly: false });
    await disk.grow(3 * SIZE);
    expect(disk.sizeBytes).toBe(3 * SIZE);
    await disk.write(3 * SIZE - 512, [new Uint8Array(512).fill(7)]);
    await expect(disk.grow(SIZE)).rejects.toMatchObject({ code: 'invalid_input' });
    await disk.close();
    const expected = new Uint8Array(3 * SIZE);
    expected.set(pattern(SIZE, 1));
    expected.fill(7, 3 * SIZE - 512);
    expect(fs.readFileSync(file).equals(expected)).toBe(true);
    const again = openDisk({ device: 'ubd0', file, readOnly: false });
    expect(again.sizeBytes).toBe(3 * SIZE);
    await again.close();
  });

  it('is read as a whole by the next backup, and is not made larger during one', async () => {
    const file = path.join(scratchFolder(), 'raw');
    fs.writeFileSync(file, pattern(SIZE, 1));
    const disk = openDisk({ device: 'ubd0', file, readOnly: false });
    disk.tracker.begin('store', 'one').succeed();
    const begun = disk.tracker.begin('store', 'two');
    const watcher = { beforeChange: () => undefined, closing: () => Promise.resolve() };
    disk.watch(watcher);
    await expect(disk.grow(2 * SIZE)).rejects.toMatchObject({ code: 'locked' });
    disk.unwatch(watcher);
    expect(disk.tracker.changedSince('store', 'one')).toBeDefined();
    await disk.grow(2 * SIZE);
    begun.succeed();
    expect(disk.tracker.changedSince('store', 'one')).toBeUndefined();
    expect(disk.tracker.changedSince('store', 'two')).toBeUndefined();
    await disk.close();
  });

  it('is no copy-on-write disk: its header has the size of what is below it', async () => {
    const folder = scratchFolder();
    const [file, cow] = [path.join(folder, 'raw'), path.join(folder, 'cow')];
    fs.writeFileSync(file, pattern(SIZE, 1));
    const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
    await expect(disk.grow(2 * SIZE)).rejects.toMatchObject({ code: 'unsupported' });
    expect(disk.sizeBytes).toBe(SIZE);
    await disk.close();
  });

  it('stays as it is where the file system cannot hold it', async () => {
    const file = path.join(smallFileSystem('4m'), 'raw');
    fs.writeFileSync(file, pattern(SIZE, 1));
    const disk = openDisk({ device: 'ubd0', file, readOnly: false });
    await expect(disk.grow(2 ** 62)).rejects.toMatchObject({ code: 'io_error' });
    expect(disk.sizeBytes).toBe(SIZE);
    await disk.close();
  });
});

it('a synchronous disk flushes every change before it is done', async () => {
  const volume = new FailingVolume();
  const disk = new GuestDisk('ubd0', volume, { readOnly: false, synchronous: true });
  expect(await write(disk, 1)).toBe('done');
  await disk.discard(4096, 512);
  expect(volume.flushes).toBe(2);
  await disk.read(0, [new Uint8Array(512)]);
  expect(volume.flushes).toBe(2);
  volume.failure = FULL;
  expect(await write(disk, 2)).toBe(FULL);
});
