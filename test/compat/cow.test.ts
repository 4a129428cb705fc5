/** COW files against uml_mkcow and uml_moo, the tools of User Mode Linux (Debian package uml-utilities). */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { createCow, inspectCow, openDisk } from '../../src/storage/index.ts';
import { pattern, scratchFolder } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';
import { brokenVersionThree, MTIME, SIZE, versionOne, versionTwo } from './cow-headers.ts';

const PACKAGE = 'uml-utilities';

interface Files {
  readonly folder: string;
  readonly backing: string;
  readonly cow: string;
  readonly out: string;
}

function files(size = SIZE): Files {
  const folder = fs.realpathSync(scratchFolder());
  const backing = path.join(folder, 'back.img');
  fs.writeFileSync(backing, pattern(size, 1));
  fs.utimesSync(backing, MTIME, MTIME);
  return { folder, backing, cow: path.join(folder, 'a.cow'), out: path.join(folder, 'out.img') };
}

const WRITTEN = [0, 5, 9, 127, 1000, 2047];

/** Writes some sectors through a disk and gives what the disk then holds. */
async function writeSome({ backing, cow }: Files, sectors = WRITTEN): Promise<Buffer> {
  const expected = fs.readFileSync(backing);
  const disk = openDisk({ device: 'ubd0', file: backing, cow, readOnly: false });
  for (const sector of sectors) {
    const bytes = pattern(512, sector + 50);
    expected.set(bytes, sector * 512);
    await disk.write(sector * 512, [bytes]);
  }
  await disk.discard(1024 * 512, 4096);
  expected.fill(0, 1024 * 512, 1024 * 512 + 4096);
  await disk.close();
  return expected;
}

async function contentOf({ backing, cow }: Files): Promise<Buffer> {
  const disk = openDisk({ device: 'ubd0', file: backing, cow, readOnly: true });
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, [bytes]);
  await disk.close();
  return bytes;
}

describe('uml_mkcow', () => {
  it.each([SIZE, 65536, 24 << 20, 1000, 100_001])('makes the same file for %d bytes', (size) => {
    const mkcow = requireTool('uml_mkcow', PACKAGE);
    const { backing, cow, out } = files(size);
    createCow(cow, backing, { alignment: 4096 });
    execFileSync(mkcow, [out, backing]);
    expect(fs.readFileSync(cow).equals(fs.readFileSync(out))).toBe(true);
  });

  it('makes files that disks can use', async () => {
    const mkcow = requireTool('uml_mkcow', PACKAGE);
    const moo = requireTool('uml_moo', PACKAGE);
    const all = files();
    execFileSync(mkcow, [all.cow, all.backing]);
    const expected = await writeSome(all);
    execFileSync(moo, [all.cow, all.out]);
    expect(fs.readFileSync(all.out).equals(expected)).toBe(true);
  });

  it('refuses to make a COW file where a disk has one, as we do where it has', () => {
    const mkcow = requireTool('uml_mkcow', PACKAGE);
    const { backing, cow } = files();
    execFileSync(mkcow, [cow, backing]);
    expect(() => createCow(cow, backing)).toThrow(expect.objectContaining({ code: 'already_exists' }));
  });
});

describe('uml_moo', () => {
  it('merges what a disk wrote', async () => {
    const moo = requireTool('uml_moo', PACKAGE);
    const all = files();
    const expected = await writeSome(all);
    execFileSync(moo, [all.cow, all.out]);
    expect(fs.readFileSync(all.out).equals(expected)).toBe(true);
    expect((await contentOf(all)).equals(expected)).toBe(true);
  });

  it('merges in place', async () => {
    const moo = requireTool('uml_moo', PACKAGE);
    const all = files();
    const expected = await writeSome(all);
    execFileSync(moo, ['-d', all.cow]);
    expect(fs.readFileSync(all.backing).equals(expected)).toBe(true);
    expect(() => openDisk({ device: 'ubd0', file: all.backing, cow: all.cow, readOnly: false })).toThrow(
      expect.objectContaining({ code: 'cow_backing_changed' }),
    );
  });

  it.each<[string, typeof versionOne]>([
    ['version 1', versionOne],
    ['version 2', versionTwo],
    ['the broken 64-bit version 3', brokenVersionThree],
  ])('and a disk agree on %s, before and after writing', async (_what, make) => {
    const moo = requireTool('uml_moo', PACKAGE);
    const all = files();
    const { header, bitmapOffset, dataOffset } = make(all.backing);
    const cow = Buffer.alloc(dataOffset + SIZE);
    header.copy(cow);
    cow[bitmapOffset] = 0b1000_0001;
    pattern(512, 9).forEach((byte, at) => {
      cow[dataOffset + at] = byte;
      cow[dataOffset + 7 * 512 + at] = byte;
    });
    fs.writeFileSync(all.cow, cow);
    expect(inspectCow(all.cow)).toMatchObject({ bitmapOffset, dataOffset, backingPath: all.backing });
    execFileSync(moo, [all.cow, all.out], { stdio: 'pipe' });
    expect((await contentOf(all)).equals(fs.readFileSync(all.out))).toBe(true);
    expect(
      fs
        .readFileSync(all.out)
        .subarray(7 * 512, 8 * 512)
        .equals(pattern(512, 9)),
    ).toBe(true);
    await writeSome(all);
    execFileSync(moo, [all.cow, all.out], { stdio: 'pipe' });
    expect((await contentOf(all)).equals(fs.readFileSync(all.out))).toBe(true);
  });

  it.each<[string, (all: Files) => void, string]>([
    ['a changed size', ({ backing }) => fs.appendFileSync(backing, 'x'), 'cow_backing_changed'],
    ['a changed time', ({ backing }) => fs.utimesSync(backing, 1, 1), 'cow_backing_changed'],
    ['a missing backing file', ({ backing }) => fs.rmSync(backing), 'cow_backing_missing'],
    ['a file that is no COW file', ({ cow }) => fs.writeFileSync(cow, 'x'.repeat(9000)), 'cow_corrupt'],
    [
      'a file that is cut in its bitmap',
      ({ cow }) => fs.truncateSync(cow, inspectCow(cow).bitmapOffset + 8),
      'cow_corrupt',
    ],
  ])('and a disk both refuse %s', (_what, damage, code) => {
    const moo = requireTool('uml_moo', PACKAGE);
    const all = files();
    createCow(all.cow, all.backing);
    damage(all);
    expect(() => execFileSync(moo, [all.cow, all.out], { stdio: 'pipe' })).toThrow();
    expect(() => openDisk({ device: 'ubd0', file: all.backing, cow: all.cow, readOnly: true })).toThrow(
      expect.objectContaining({ code }),
    );
  });
});
