import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  inPieces,
  pattern,
  randomNumbers,
  scratchFolder,
  smallFileSystem,
} from '../../test/support/storage.ts';
import { hostFile, SYNC_BYTES_MAX } from './host-file.ts';
import { CANNOT, readCached, writeShared } from './shared-io.ts';

const SIZE = 4 << 20;

function open(content: Uint8Array | undefined): { readonly fd: number; readonly name: string } {
  const name = path.join(scratchFolder(), 'file');
  if (content === undefined) {
    fs.writeFileSync(name, '');
    fs.truncateSync(name, SIZE);
  } else fs.writeFileSync(name, content);
  return { fd: fs.openSync(name, 'r+'), name };
}

/** What a guest's RAM is, and what everything else is. */
const MEMORIES = [
  ['shared', () => new SharedArrayBuffer(8 << 20)],
  ['ordinary', () => new ArrayBuffer(8 << 20)],
] as const;

describe.each(MEMORIES)('a file, from and to %s memory', (_kind, allocate) => {
  it('holds what is written, in pieces, small and large, past its end and in holes', async () => {
    const random = randomNumbers(7);
    const memory = new Uint8Array(allocate());
    const { fd, name } = open(undefined);
    const file = hostFile(fd);
    const model = new Uint8Array(SIZE + (1 << 20));
    for (let round = 0; round < 300; round++) {
      const offset = random(SIZE);
      const length = 1 + random(random(4) === 0 ? 1 << 20 : 20_000);
      const place = memory.subarray(random(4096)).subarray(0, length);
      if (round % 2 === 0) {
        place.set(pattern(length, round));
        model.set(place, offset);
        await file.write(offset, inPieces(place, random));
      } else {
        place.fill(0xee);
        await file.read(offset, inPieces(place, random));
        expect(Buffer.from(place).equals(model.subarray(offset, offset + length))).toBe(true);
      }
    }
    await file.sync();
    file.close();
    const end = fs.readFileSync(name);
    expect(end.equals(model.subarray(0, end.length))).toBe(true);
  });

  it('is zeros behind its end', async () => {
    const { fd } = open(pattern(5000, 1));
    const file = hostFile(fd);
    const into = new Uint8Array(allocate(), 0, 9000).fill(1);
    await file.read(4000, [into.subarray(0, 100), into.subarray(100)]);
    expect(Buffer.from(into.subarray(0, 1000)).equals(pattern(5000, 1).subarray(4000))).toBe(true);
    expect(into.subarray(1000).every((byte) => byte === 0)).toBe(true);
    file.close();
  });

  it('is read and written at once as far as the page cache goes, and past a limit in the background', async () => {
    const { fd } = open(pattern(SIZE, 3));
    const file = hostFile(fd);
    const some = new Uint8Array(allocate(), 0, 65_536);
    expect(file.read(0, [some])).toBeUndefined();
    expect(file.write(0, [some])).toBeUndefined();
    const many = new Uint8Array(allocate(), 0, SYNC_BYTES_MAX + 512);
    const [read, written] = [file.read(0, [many]), file.write(0, [many])];
    expect(read).toBeInstanceOf(Promise);
    expect(written).toBeInstanceOf(Promise);
    await Promise.all([read, written]);
    file.close();
  });

  it('on a file system that does not tell what is in memory is read as well', async () => {
    const name = path.join(smallFileSystem('8m'), 'file');
    fs.writeFileSync(name, '');
    fs.truncateSync(name, 4 << 20);
    const file = hostFile(fs.openSync(name, 'r+'));
    const memory = new Uint8Array(allocate());
    for (const length of [4096, 1 << 20]) {
      const [from, into] = [memory.subarray(0, length), memory.subarray(4 << 20).subarray(0, length)];
      into.fill(9);
      await file.read(1 << 20, [into]);
      expect(into.every((byte) => byte === 0)).toBe(true);
      from.set(pattern(length, length));
      await file.write(0, [from]);
      await file.read(0, [into]);
      expect(Buffer.from(into).equals(from)).toBe(true);
    }
    file.close();
  });

  it('gives errors by their name', async () => {
    const { fd, name } = open(pattern(4096, 3));
    const readOnly = fs.openSync(name, 'r');
    const some = new Uint8Array(allocate(), 0, 512);
    const refused = async (): Promise<void> => await hostFile(readOnly).write(0, [some]);
    await expect(refused()).rejects.toMatchObject({ code: 'EBADF' });
    fs.closeSync(readOnly);
    fs.closeSync(fd);
  });
});

describe('shared memory', () => {
  it('alone is given to the C library', () => {
    const { fd } = open(pattern(4096, 3));
    const shared = new Uint8Array(new SharedArrayBuffer(1024));
    expect(readCached(fd, [shared.subarray(0, 512), new Uint8Array(512)], 0)).toBe(CANNOT);
    expect(writeShared(fd, [new Uint8Array(512)], 0)).toBe(CANNOT);
    expect(readCached(fd, [shared.subarray(100, 200), shared.subarray(300, 700)], 50)).toBe(500);
    const expected = pattern(4096, 3);
    expect(Buffer.from(shared.subarray(100, 200)).equals(expected.subarray(50, 150))).toBe(true);
    expect(Buffer.from(shared.subarray(300, 700)).equals(expected.subarray(150, 550))).toBe(true);
    expect(shared[99]).toBe(0);
    expect(shared[200]).toBe(0);
    fs.closeSync(fd);
  });
});
