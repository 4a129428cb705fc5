/** Layers over each other as files: what is read through them, freezing, merging, and the checks when they are opened. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import {
  inPieces,
  pattern,
  randomNumbers,
  scratchFolder,
  smallFileSystem,
} from '../../../test/support/storage.ts';
import { createCow, inspectCow } from '../cow/create.ts';
import { openDisk } from '../disk.ts';
import type { GuestDisk } from '../guest-disk.ts';
import { createLayers, openFrozen, openLower, openNewTop, replaceLayer } from './files.ts';
import type { TopMergeOptions } from './layered-volume.ts';
import { LayerStack } from './layer-stack.ts';

const SECTOR = 512;
/** More than a page of the index, and no multiple of a block. */
const SECTORS = 40_001;
const SIZE = SECTORS * SECTOR;

/** A disk with a model of its content, which can be frozen and merged. */
class Model {
  readonly folder = scratchFolder();
  readonly base: string;
  readonly files: string[] = [];
  readonly content: Uint8Array;
  disk: GuestDisk;
  /** Writes that nobody has waited for. */
  #underWay: { readonly start: number; readonly end: number; readonly done: Promise<void> }[] = [];
  #made = 0;

  constructor(raw = false) {
    this.base = path.join(this.folder, 'base');
    this.content = new Uint8Array(pattern(SIZE, 1));
    fs.writeFileSync(this.base, this.content);
    if (!raw) {
      this.files.push(path.join(this.folder, 'first'));
      createCow(this.files[0]!, this.base);
    }
    this.disk = this.open();
  }

  open(): GuestDisk {
    const [cow, frozen] = [this.files.at(-1), this.files.slice(0, -1)];
    return openDisk({ device: 'ubd0', file: this.base, cow, frozen, readOnly: false });
  }

  async change(random: (below: number) => number, count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      const from = random(SECTORS);
      const length = (1 + random(Math.min(SECTORS - from, random(5) === 0 ? 900 : 9))) * SECTOR;
      const at = from * SECTOR;
      // Which of two requests for the same sectors comes first is open while both are under way.
      await this.#settled(at, at + length);
      if (random(5) === 0) {
        await this.disk.writeZeroes(at, length, true);
        this.content.fill(0, at, at + length);
      } else {
        const bytes = pattern(length, random(1 << 30));
        this.content.set(bytes, at);
        const done = this.disk.write(at, inPieces(bytes, random));
        if (random(2) === 0) await done;
        else if (done !== undefined) this.#underWay.push({ start: at, end: at + length, done });
      }
      if (random(4) === 0) void this.disk.flush();
    }
  }

  async #settled(start: number, end: number): Promise<void> {
    const here = this.#underWay.filter((one) => one.start < end && one.end > start);
    await Promise.all(here.map(({ done }) => done));
    this.#underWay = this.#underWay.filter((one) => !here.includes(one));
  }

  async freeze(): Promise<void> {
    const file = path.join(this.folder, `layer-${this.#made++}`);
    const mtime = 1_000_000_000 + this.#made;
    createLayers([{ file, below: this.files.at(-1) ?? this.base, mtime, sizeBytes: SIZE }]);
    const { layers } = this.disk;
    layers.freeze(openNewTop(layers, file, { mtime, readOnly: false }), mtime);
    this.files.push(file);
  }

  /** Merges the top into the layer below, which takes its name. */
  async merge(during: () => Promise<void> = async () => undefined): Promise<void> {
    const { layers } = this.disk;
    const upper = this.files.at(-1)!;
    const lower = this.files.at(-2) ?? this.base;
    const copying = layers.mergeTop(mergeInto(upper, lower));
    await during();
    await copying;
    await during();
    await layers.holdForMerge();
    replaceLayer(lower, upper);
    layers.finishMerge({ path: upper });
    this.files.splice(-2, 1);
  }

  async check(): Promise<void> {
    const seen = new Uint8Array(SIZE);
    await this.#settled(0, SIZE);
    await this.disk.read(0, [seen]);
    expect(Buffer.from(seen).equals(this.content)).toBe(true);
  }
}

function mergeInto(upper: string, lower: string): TopMergeOptions {
  return {
    upper,
    openLower: (below) => openLower(lower, below),
    onProgress: () => undefined,
    bytesPerSecond: undefined,
  };
}

describe('layers over each other', () => {
  it.each([1, 2, 3])('read as the disk that was written (history %d)', async (seed) => {
    const random = randomNumbers(seed);
    const model = new Model(seed === 2);
    for (let step = 0; step < 14; step++) {
      await model.change(random, 12);
      if (random(3) > 0) await model.freeze();
      await model.change(random, 4);
      await model.check();
      if (random(4) === 0) {
        await model.disk.close();
        model.disk = model.open();
      }
    }
    expect(model.files.length).toBeGreaterThan(5);
    await model.disk.close();
    model.disk = model.open();
    await model.check();
    await model.disk.close();
  });

  it.each([4, 5])('are merged while they are written (history %d)', async (seed) => {
    const random = randomNumbers(seed);
    const model = new Model();
    for (let step = 0; step < 6; step++) {
      await model.change(random, 10);
      await model.freeze();
      await model.change(random, 10);
      if (random(2) === 0) await model.freeze();
      await model.change(random, 3);
      const depth = model.files.length;
      await model.merge(() => model.change(random, 20));
      expect(model.files.length).toBe(depth - 1);
      await model.change(random, 10);
      await model.check();
      if (step % 2 === 0) {
        await model.disk.close();
        model.disk = model.open();
        await model.check();
      }
    }
    await model.disk.close();
  });

  it('keep the frozen content whatever is written above it, and say what they are over', async () => {
    const model = new Model();
    const random = randomNumbers(9);
    await model.change(random, 20);
    await model.freeze();
    const before = Uint8Array.from(model.content);
    await model.change(random, 40);
    await model.disk.flush();
    const [first, second] = model.files as [string, string];
    expect(inspectCow(second).backingPath).toBe(fs.realpathSync(first));
    expect(Math.floor(fs.statSync(first).mtimeMs / 1000)).toBe(inspectCow(second).backingMtime);
    const stack = new LayerStack(openFrozen({ file: model.base, frozen: [first] }));
    const seen = new Uint8Array(SIZE);
    await stack.read(0, [seen]);
    expect(Buffer.from(seen).equals(before)).toBe(true);
    stack.close();
    await model.disk.close();
  });

  it('that were changed by somebody else are refused', async () => {
    const model = new Model();
    await model.freeze();
    await model.freeze();
    await model.disk.close();
    const [first] = model.files as [string];
    const { mtimeMs } = fs.statSync(first);
    fs.utimesSync(first, 5, 5);
    expect(() => model.open()).toThrow(
      expect.objectContaining({ code: 'cow_backing_changed', field: 'mtime' }),
    );
    fs.utimesSync(first, mtimeMs / 1000, mtimeMs / 1000);
    fs.copyFileSync(model.base, `${model.base}.other`);
    fs.truncateSync(model.base, SIZE - SECTOR);
    expect(() => model.open()).toThrow(
      expect.objectContaining({ code: 'cow_backing_changed', field: 'size' }),
    );
  });

  it('are not opened for writing while another disk is over them', async () => {
    const model = new Model();
    await model.freeze();
    await model.disk.layers.sealed();
    const [first] = model.files as [string];
    expect(() => openDisk({ device: 'ubd1', file: model.base, cow: first, readOnly: false })).toThrow(
      expect.objectContaining({ code: 'in_use' }),
    );
    await model.disk.close();
  });

  it('take nothing for their new top that was not made for it', async () => {
    const model = new Model();
    const other = path.join(model.folder, 'other');
    createLayers([{ file: other, below: model.files[0]!, mtime: 7, sizeBytes: SIZE }]);
    const { layers } = model.disk;
    const wrong = expect.objectContaining({ code: 'cow_corrupt' });
    expect(() => openNewTop(layers, other, { mtime: 8, readOnly: false })).toThrow(wrong);
    const small = path.join(model.folder, 'small');
    createLayers([{ file: small, below: model.files[0]!, mtime: 8, sizeBytes: SIZE - SECTOR }]);
    expect(() => openNewTop(layers, small, { mtime: 8, readOnly: false })).toThrow(wrong);
    await model.disk.close();
  });

  it('can be frozen while they are merged: then they stay apart', async () => {
    const model = new Model();
    const random = randomNumbers(11);
    await model.change(random, 30);
    await model.freeze();
    await model.change(random, 30);
    const [lower, upper] = model.files.slice(-2) as [string, string];
    const begun = Promise.withResolvers<void>();
    const copying = model.disk.layers.mergeTop({
      ...mergeInto(upper, lower),
      onProgress: () => begun.resolve(),
      bytesPerSecond: 1 << 20,
    });
    await begun.promise;
    await model.freeze();
    await expect(copying).rejects.toMatchObject({ code: 'interrupted' });
    await model.change(random, 30);
    await model.check();
    await model.disk.close();
  });

  it('let the guest go on when a merge is called off in its last step', async () => {
    const model = new Model();
    const random = randomNumbers(12);
    await model.freeze();
    await model.change(random, 30);
    const [lower, upper] = model.files.slice(-2) as [string, string];
    const { layers } = model.disk;
    await layers.mergeTop(mergeInto(upper, lower));
    await layers.holdForMerge();
    const waiting = model.change(random, 5);
    layers.finishMerge(undefined);
    await waiting;
    await model.check();
    await model.disk.close();
  });
});

/** The process's descriptors of a file. */
function descriptorsOf(file: string): number[] {
  return fs
    .readdirSync('/proc/self/fd')
    .map(Number)
    .filter((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`) === file;
      } catch {
        return false;
      }
    });
}

function isOpen(fd: number): boolean {
  try {
    fs.fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

describe('a top that was merged away', () => {
  it('never writes to a file that is opened afterwards, whatever it had not written yet', async () => {
    const model = new Model();
    await model.freeze();
    await model.disk.layers.sealed();
    const [fd] = descriptorsOf(fs.realpathSync(model.files.at(-1)!));
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    try {
      const bytes = pattern(8 * SECTOR, 7);
      await model.disk.write(0, [bytes]);
      model.content.set(bytes, 0);
      await model.merge();
      while (isOpen(fd!)) await new Promise(setImmediate);
      const others: number[] = [];
      while (others.at(-1) !== fd) {
        others.push(fs.openSync(path.join(model.folder, `other-${others.length}`), 'w+'));
        expect(others.length).toBeLessThan(100);
      }
      // Longer than what is written waits for a flush.
      vi.advanceTimersByTime(60_000);
      // Time for what the timers may have begun in the thread pool.
      for (let i = 0; i < 20; i++) await fs.promises.open(model.base).then((file) => file.close());
      expect(fs.fstatSync(fd!).size).toBe(0);
      for (const other of others) fs.closeSync(other);
    } finally {
      vi.useRealTimers();
    }
    await model.check();
    await model.disk.close();
  });
});

it('a layer put over a disk that runs can tell of all that it took when the host got full', async () => {
  const pageBytes = 4096;
  const bytesPerBitmapPage = 16 << 20;
  const folder = smallFileSystem('4m');
  const [base, first, top] = [
    path.join(scratchFolder(), 'base'),
    path.join(folder, 'first'),
    path.join(folder, 'top'),
  ];
  fs.writeFileSync(base, '');
  fs.truncateSync(base, 8 * bytesPerBitmapPage);
  const disk = openDisk({ device: 'ubd0', file: base, cow: first, readOnly: false });
  createLayers([{ file: top, below: first, mtime: 1, sizeBytes: disk.sizeBytes }]);
  disk.layers.freeze(openNewTop(disk.layers, top, { mtime: 1, readOnly: false }), 1);
  await disk.layers.sealed();
  const { bavail, bsize } = fs.statfsSync(folder);
  fs.writeFileSync(path.join(folder, 'filler'), Buffer.alloc((bavail - 6) * bsize));
  let written = 0;
  const fill = (): void => {
    for (; written < 8; written++) disk.write(written * bytesPerBitmapPage, [pattern(pageBytes, written)]);
  };
  expect(fill).toThrow('ENOSPC');
  expect(written).toBeGreaterThan(2);
  await disk.flush();
  await disk.close();
  const again = openDisk({ device: 'ubd0', file: base, cow: top, frozen: [first], readOnly: true });
  for (let page = 0; page < written; page++) {
    const bytes = new Uint8Array(pageBytes);
    await again.read(page * bytesPerBitmapPage, [bytes]);
    expect(Buffer.from(bytes).equals(pattern(pageBytes, page))).toBe(true);
  }
  await again.close();
});
