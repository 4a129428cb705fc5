/**
 * What a power cut leaves of a merge into the backing file: of its writes that are not durable any sectors. Whatever they
 * are, the disk reads the same through the COW file, and a second merge makes the backing file what it should be.
 */
import { describe, expect, it } from 'vitest';
import { pattern, randomNumbers } from '../../../test/support/storage.ts';
import type { HostFile } from '../host-file.ts';
import { encodeCowHeader } from './header.ts';
import { copySectors } from './merge.ts';
import { CowVolume } from './volume.ts';

const SECTOR = 512;
const SECTORS = 4001;
const SIZE = SECTORS * SECTOR;
const { header: HEADER } = encodeCowHeader({ backingPath: '/b', backingMtime: 1, sizeBytes: SIZE });

interface Write {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** A file in memory that keeps what is written to it. */
function memoryFile(content: Buffer, writes: Write[] = []): HostFile {
  return {
    read(offset, into) {
      let at = offset;
      for (const piece of into) {
        piece.set(content.subarray(at, at + piece.length));
        at += piece.length;
      }
    },
    write(offset, from) {
      const bytes = Buffer.concat(from);
      writes.push({ offset, bytes });
      content.set(bytes, offset);
    },
    sync: () => Promise.resolve(),
    makeHole: () => 'unsupported',
    setSize: () => undefined,
    state: () => '',
    close: () => undefined,
  };
}

/** A COW file with runs of sectors, some of them as the backing file has them already. */
function makeFiles(seed: number): { cow: Buffer; backing: Buffer; expected: Buffer } {
  const random = randomNumbers(seed);
  const backing = Buffer.from(pattern(SIZE, seed));
  const expected = Buffer.from(backing);
  const cow = Buffer.alloc(HEADER.dataOffset + SIZE);
  for (let sector = random(8); sector < SECTORS; sector += 1 + random(40)) {
    for (const end = Math.min(sector + 1 + random(20), SECTORS); sector < end; sector++) {
      const bit = HEADER.bitmapOffset + (sector >> 3);
      cow[bit] = cow[bit]! | (1 << (sector & 7));
      if (random(4) > 0) expected.fill(random(256), sector * SECTOR, (sector + 1) * SECTOR);
      expected.copy(cow, HEADER.dataOffset + sector * SECTOR, sector * SECTOR, (sector + 1) * SECTOR);
    }
  }
  return { cow, backing, expected };
}

/** The sectors of the first `count` writes that a power cut let through. */
function cut(
  backing: Buffer,
  writes: readonly Write[],
  count: number,
  random: (n: number) => number,
): Buffer {
  const left = Buffer.from(backing);
  for (const { offset, bytes } of writes.slice(0, count)) {
    for (let at = 0; at < bytes.length; at += SECTOR) {
      if (random(2) === 0) left.set(bytes.subarray(at, at + SECTOR), offset + at);
    }
  }
  return left;
}

describe('a merge into the backing file that loses power', () => {
  it.each([1, 2, 3, 4])('loses nothing (history %d)', async (seed) => {
    const { cow, backing, expected } = makeFiles(seed);
    const cowBefore = Buffer.from(cow);
    const writes: Write[] = [];
    let begun = 0;
    const merged = Buffer.from(backing);
    const begin = (): void => {
      expect(writes.length).toBe(begun);
      begun++;
    };
    const cowFile = memoryFile(cow);
    const bytes = await copySectors(cowFile, memoryFile(merged, writes), HEADER, begin, {});
    expect(merged.equals(expected)).toBe(true);
    expect(bytes).toBe(writes.reduce((sum, write) => sum + write.bytes.length, 0));
    expect(begun).toBe(writes.length);
    expect(writes.length).toBeGreaterThan(50);
    const random = randomNumbers(seed);
    for (let count = 0; count <= writes.length; count++) {
      const left = cut(backing, writes, count, random);
      const seen = Buffer.alloc(SIZE);
      await new CowVolume(cowFile, memoryFile(left), HEADER).read(0, [seen]);
      expect(seen.equals(expected)).toBe(true);
      await copySectors(cowFile, memoryFile(left), HEADER, () => undefined, {});
      expect(left.equals(expected)).toBe(true);
    }
    expect(cow.equals(cowBefore)).toBe(true);
  });

  it('writes nothing, and does not begin, where all is there already', async () => {
    const { cow, expected } = makeFiles(5);
    const never = (): never => {
      throw new Error('begun');
    };
    expect(await copySectors(memoryFile(cow), memoryFile(expected), HEADER, never, {})).toBe(0);
  });
});
