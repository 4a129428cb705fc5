/**
 * A host's file whose n-th operation fails, for every n: what was acknowledged before and after is there, the sectors of what failed
 * have old or new content, each whole, and the file opens again.
 */
import { describe, expect, it } from 'vitest';
import { randomNumbers } from '../../../test/support/storage.ts';
import { BlockError, type MaybePromise } from '../../engine/backends.ts';
import type { HostFile } from '../host-file.ts';
import type { Volume } from '../volume.ts';
import { CowVolume } from './volume.ts';

const SECTOR = 512;
const SECTORS = 2048;
const PLACEMENT = { sizeBytes: SECTORS * SECTOR, bitmapOffset: 8192, bitmapBytes: 256, dataOffset: 12_288 };
const BACKING = 0xbb;
const STEPS = 150;

/** A file in memory. Writes that fail leave their first half, as a full disk may. */
class FaultyFile implements HostFile {
  readonly bytes = Buffer.alloc(PLACEMENT.dataOffset + PLACEMENT.sizeBytes);
  operations = 0;
  /** Number of the operation that fails. */
  failAt = Number.POSITIVE_INFINITY;
  /** And how many after it. */
  failures = 1;

  read(offset: number, into: readonly Uint8Array[]): void {
    let at = offset;
    for (const piece of into) {
      this.bytes.copy(piece, 0, at, at + piece.length);
      at += piece.length;
    }
  }
  write(offset: number, from: readonly Uint8Array[]): void {
    const bytes = Buffer.concat(from);
    if (this.#fails()) {
      const half = Math.floor(bytes.length / 2 / SECTOR) * SECTOR;
      bytes.copy(this.bytes, offset, 0, half);
      throw new BlockError('ENOSPC', 'no space left on device');
    }
    bytes.copy(this.bytes, offset);
  }
  sync(): Promise<void> {
    return Promise.resolve();
  }
  makeHole(_how: 'punch' | 'zero', offset: number, length: number): 'done' {
    if (this.#fails()) throw new BlockError('EIO', 'fallocate');
    this.bytes.fill(0, offset, offset + length);
    return 'done';
  }
  setSize(): void {
    throw new Error('nobody makes it larger');
  }

  state(): string {
    return '';
  }
  close(): void {}

  #fails(): boolean {
    const number = this.operations++;
    return number >= this.failAt && number < this.failAt + this.failures;
  }
}

const backing: HostFile = {
  read(_offset, into) {
    for (const piece of into) piece.fill(BACKING);
  },
  write() {
    throw new Error('the backing file was written to');
  },
  sync: () => Promise.resolve(),
  makeHole: () => 'unsupported',
  setSize: () => undefined,
  state: () => '',
  close() {},
};

async function succeeds(work: () => MaybePromise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    return false;
  }
}

/** The values that each sector may have: one, unless a request over it failed. */
type Model = Set<number>[];

async function workload(disk: Volume, model: Model): Promise<void> {
  const random = randomNumbers(31);
  for (let step = 1; step <= STEPS; step++) {
    const first = random(SECTORS - 64);
    const count = 1 + random(64);
    const kind = random(6);
    if (kind === 0) {
      await succeeds(() => disk.flush());
      continue;
    }
    const value = kind === 1 || kind === 2 ? 0 : step;
    const bytes = new Uint8Array(count * SECTOR).fill(value);
    const [at, length] = [first * SECTOR, count * SECTOR];
    const done = await succeeds(() => {
      if (kind === 1) return disk.discard(at, length);
      return kind === 2 ? disk.writeZeroes(at, length, true) : disk.write(at, [bytes]);
    });
    for (let sector = first; sector < first + count; sector++) {
      if (done) model[sector] = new Set([value]);
      else model[sector]!.add(value);
    }
  }
}

async function check(disk: Volume, model: Model): Promise<void> {
  const content = new Uint8Array(PLACEMENT.sizeBytes);
  await disk.read(0, [content]);
  for (const [sector, allowed] of model.entries()) {
    const bytes = content.subarray(sector * SECTOR, (sector + 1) * SECTOR);
    const [value = 0] = bytes;
    if (!bytes.every((byte) => byte === value)) throw new Error(`sector ${sector} is torn`);
    if (!allowed.has(value))
      throw new Error(`sector ${sector} is ${value}, not ${[...allowed].join(' or ')}`);
  }
}

const fresh = (): Model => Array.from({ length: SECTORS }, () => new Set([BACKING]));

async function run(failAt: number, failures: number): Promise<number> {
  const file = new FaultyFile();
  file.failAt = failAt;
  file.failures = failures;
  const disk = new CowVolume(file, backing, PLACEMENT);
  const model = fresh();
  await workload(disk, model);
  await check(disk, model);
  file.failures = 0;
  await disk.flush();
  await disk.close();
  await check(new CowVolume(file, backing, PLACEMENT), model);
  return file.operations;
}

describe('a COW disk whose file fails', () => {
  it.each([1, 3])('at any operation, and %d in a row, loses nothing else', async (failures) => {
    const operations = await run(Number.POSITIVE_INFINITY, 1);
    expect(operations).toBeGreaterThan(100);
    for (let failAt = 0; failAt < operations; failAt++) await run(failAt, failures);
  });
});
