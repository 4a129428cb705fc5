/** `umlaut moo` and `umlaut disk repair-header` against uml_moo (Debian package uml-utilities). */
import { execFileSync, spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli } from '../../src/cli/program.ts';
import {
  createCow,
  inspectCow,
  mergeCow,
  mergeCowIntoBacking,
  openDisk,
  repairCowHeader,
} from '../../src/storage/index.ts';
import { pattern, scratchFolder } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';
import { brokenVersionThree, MTIME, SIZE, versionOne, versionTwo } from './cow-headers.ts';
import { mergeKillRounds } from './merge-kills.ts';

const moo = (): string => requireTool('uml_moo', 'uml-utilities');

interface Files {
  readonly folder: string;
  readonly backing: string;
  readonly cow: string;
}

function files(size = SIZE): Files {
  const folder = fs.realpathSync(scratchFolder());
  const backing = path.join(folder, 'back.img');
  // With holes and zeros, which a merge must leave and make.
  const bytes = Buffer.from(pattern(size, 1)).fill(0, 20_480, 40_960);
  fs.writeFileSync(backing, bytes);
  fs.utimesSync(backing, MTIME, MTIME);
  return { folder, backing, cow: path.join(folder, 'a.cow') };
}

/** A disk over `backing` with writes at both ends and in between, zeros over data and data over zeros. */
async function written(size = SIZE): Promise<Files> {
  const all = files(size);
  createCow(all.cow, all.backing);
  const disk = openDisk({ device: 'ubd0', file: all.backing, cow: all.cow, readOnly: false });
  for (let sector = 0; sector < disk.sizeBytes / 512; sector += 37) {
    const bytes = sector % 2 === 0 ? pattern(512, sector) : new Uint8Array(512);
    await disk.write(sector * 512, [bytes]);
  }
  await disk.write(disk.sizeBytes - 512, [pattern(512, 7)]);
  await disk.close();
  return all;
}

/** A COW file of an old version with some sectors. */
function handMade(make: typeof versionOne): Files {
  const all = files();
  const { header, bitmapOffset, dataOffset } = make(all.backing);
  const cow = Buffer.alloc(dataOffset + SIZE);
  header.copy(cow);
  for (const sector of [0, 7, 8, 300, 2047]) {
    cow[bitmapOffset + (sector >> 3)]! |= 1 << (sector & 7);
    cow.set(pattern(512, sector), dataOffset + sector * 512);
  }
  fs.writeFileSync(all.cow, cow);
  return all;
}

const VERSIONS: [string, () => Files | Promise<Files>][] = [
  ['version 1', () => handMade(versionOne)],
  ['version 2', () => handMade(versionTwo)],
  ['version 3', () => written()],
  ['the broken 64-bit version 3', () => handMade(brokenVersionThree)],
];

/** A second set of the same files, with the times that the COW file asks for. */
function twin({ folder, backing, cow }: Files): { backing: string; cow: string } {
  const other = { backing: path.join(folder, 'twin.img'), cow: path.join(folder, 'twin.cow') };
  fs.copyFileSync(backing, other.backing);
  fs.copyFileSync(cow, other.cow);
  fs.utimesSync(other.backing, MTIME, MTIME);
  return other;
}

const same = (one: string, other: string): boolean => fs.readFileSync(one).equals(fs.readFileSync(other));

async function cli(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  let stdout = '';
  let stderr = '';
  const io = {
    stdout: { write: (text: string) => (stdout += text) },
    stderr: { write: (text: string) => (stderr += text) },
    env: {},
    exitCode: 0,
  };
  const status = await runCli(args, io);
  return { status, stdout, stderr };
}

describe('a merge to a new file', () => {
  it.each(VERSIONS)('gives the bytes of uml_moo for %s', async (_what, make) => {
    const tool = moo();
    const all = await make();
    const [ours, theirs] = [path.join(all.folder, 'ours'), path.join(all.folder, 'theirs')];
    execFileSync(tool, [all.cow, theirs], { stdio: 'pipe' });
    expect(await cli('moo', all.cow, ours)).toMatchObject({ status: 0, stderr: '' });
    expect(same(ours, theirs)).toBe(true);
    expect(fs.readdirSync(all.folder)).not.toContain('ours.partial');
  });

  it('keeps the last sector of an odd size, which uml_moo loses', async () => {
    const tool = moo();
    const all = await written(100_001);
    const [ours, theirs] = [path.join(all.folder, 'ours'), path.join(all.folder, 'theirs')];
    execFileSync(tool, [all.cow, theirs]);
    await mergeCow(all.cow, ours);
    const merged = fs.readFileSync(ours);
    expect(merged.length).toBe(196 * 512);
    expect(merged.subarray(0, 195 * 512).equals(fs.readFileSync(theirs))).toBe(true);
    expect(merged.subarray(195 * 512).equals(pattern(512, 7))).toBe(true);
  });

  it('takes another backing file if its size and time are right', async () => {
    const all = await written();
    const other = twin(all);
    fs.rmSync(all.backing);
    const made = path.join(all.folder, 'new');
    expect(await cli('moo', all.cow, made)).toMatchObject({ status: 1, stdout: '' });
    expect(await cli('moo', '-b', other.backing, all.cow, made)).toMatchObject({ status: 0 });
    expect(fs.existsSync(made)).toBe(true);
    fs.utimesSync(other.backing, 1, 1);
    await expect(mergeCow(all.cow, made, { backing: other.backing })).rejects.toMatchObject({
      code: 'cow_backing_changed',
    });
  });

  it('replaces a file only when it is complete, and never one of its own sources', async () => {
    const all = await written();
    const made = path.join(all.folder, 'new');
    fs.writeFileSync(made, 'before');
    fs.writeFileSync(`${made}.partial`, 'left by a killed process');
    const stop = new AbortController();
    const cut = mergeCow(all.cow, made, { onProgress: () => stop.abort(), signal: stop.signal });
    await cut.catch(() => undefined);
    await mergeCow(all.cow, made);
    expect(fs.statSync(made).size).toBe(SIZE);
    for (const source of [all.cow, all.backing]) {
      await expect(mergeCow(all.cow, source)).rejects.toMatchObject({ code: 'invalid_input', field: 'new' });
    }
  });

  it('leaves the old file when it is cut off', async () => {
    const all = await written(3 << 20);
    const made = path.join(all.folder, 'new');
    fs.writeFileSync(made, 'before');
    const stop = new AbortController();
    await expect(
      mergeCow(all.cow, made, { onProgress: () => stop.abort(), signal: stop.signal }),
    ).rejects.toMatchObject({ code: 'canceled' });
    expect(fs.readFileSync(made, 'utf8')).toBe('before');
    expect(fs.existsSync(`${made}.partial`)).toBe(false);
  });
});

describe('a merge into the backing file', () => {
  it.each(VERSIONS)('gives the bytes of uml_moo for %s', async (_what, make) => {
    const tool = moo();
    const all = await make();
    const other = twin(all);
    execFileSync(tool, ['-d', '-b', other.backing, other.cow], { stdio: 'pipe' });
    const cowBefore = fs.readFileSync(all.cow);
    expect(await cli('moo', '-d', all.cow)).toMatchObject({ status: 0, stderr: '' });
    expect(same(all.backing, other.backing)).toBe(true);
    expect(fs.readFileSync(all.cow).equals(cowBefore)).toBe(true);
    expect(fs.readdirSync(all.folder).filter((name) => name.includes('.merge'))).toEqual([]);
    await expect(mergeCowIntoBacking(all.cow)).rejects.toMatchObject({ code: 'cow_backing_changed' });
  });

  it('can be cut off after every piece and taken up again', async () => {
    const all = await written(4 << 20);
    const expected = path.join(all.folder, 'expected');
    await mergeCow(all.cow, expected);
    for (let cut = 0; ; cut++) {
      const { folder } = all;
      const [backing, cow] = [path.join(folder, `${cut}.img`), path.join(folder, `${cut}.cow`)];
      fs.copyFileSync(all.backing, backing);
      fs.utimesSync(backing, MTIME, MTIME);
      fs.copyFileSync(all.cow, cow);
      const sibling = path.join(folder, `${cut}-sibling.cow`);
      createCow(sibling, backing);
      // The bitmap has some 450 runs: not after each, or the test takes long.
      let left = cut * 60;
      const run = mergeCowIntoBacking(cow, {
        backing,
        onProgress: () => {
          if (left-- === 0) throw new Error('cut');
        },
      });
      const cutOff = await run.then(
        () => false,
        () => true,
      );
      expect(() => openDisk({ device: 'ubd0', file: backing, cow: sibling, readOnly: true })).toThrow(
        expect.objectContaining({ code: 'cow_backing_changed' }),
      );
      if (cutOff) {
        expect(await mergeCowIntoBacking(cow, { backing })).toMatchObject({ resumed: true });
      }
      expect(same(backing, expected)).toBe(true);
      expect(fs.existsSync(`${cow}.merge`)).toBe(false);
      for (const file of [backing, cow, sibling]) fs.rmSync(file);
      if (!cutOff) {
        expect(cut).toBeGreaterThan(4);
        return;
      }
    }
  });

  it('survives a killed process', async () => {
    const all = await written(4 << 20);
    const expected = path.join(all.folder, 'expected');
    await mergeCow(all.cow, expected);
    const storage = JSON.stringify(new URL('../../src/storage/index.ts', import.meta.url).href);
    for (const steps of [1, 150, 300]) {
      const program = `
        import { mergeCowIntoBacking } from ${storage};
        let left = ${steps};
        const onProgress = () => { if (left-- === 0) process.kill(process.pid, 'SIGKILL'); };
        await mergeCowIntoBacking(process.argv[1], { onProgress });`;
      const child = spawnSync(process.execPath, ['--input-type=module-typescript', '-e', program, all.cow]);
      expect(child.signal).toBe('SIGKILL');
      expect(fs.existsSync(`${all.cow}.merge`)).toBe(true);
      expect(() => openDisk({ device: 'ubd0', file: all.backing, cow: all.cow, readOnly: false })).toThrow(
        expect.objectContaining({ code: 'cow_backing_changed' }),
      );
    }
    expect(await cli('moo', '-d', all.cow, '--json')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('"resumed": true'),
    });
    expect(same(all.backing, expected)).toBe(true);
  });

  it('survives a process that is killed at any moment', async () => {
    await expect(mergeKillRounds(5, 1)).resolves.toBeTypeOf('number');
  }, 120_000);

  it('does not take the record of another merge for its own', async () => {
    const all = await written();
    fs.utimesSync(all.backing, 1, 1);
    fs.writeFileSync(`${all.cow}.merge`, '{"format":1}');
    await expect(mergeCowIntoBacking(all.cow)).rejects.toMatchObject({ code: 'cow_backing_changed' });
  });

  it('refuses a write-protected backing file, as images are, even for root', async () => {
    const all = await written();
    fs.chmodSync(all.backing, 0o444);
    await expect(mergeCowIntoBacking(all.cow)).rejects.toMatchObject({ code: 'protected', field: 'file' });
  });

  it('takes no second file', async () => {
    expect(await cli('moo', '-d', 'a', 'b')).toMatchObject({ status: 2 });
    expect(await cli('moo', 'a')).toMatchObject({ status: 2 });
  });
});

describe('a running machine', () => {
  it('keeps its files from being merged or repaired', async () => {
    const all = await written();
    const sibling = path.join(all.folder, 'sibling.cow');
    createCow(sibling, all.backing);
    const disk = openDisk({ device: 'ubd0', file: all.backing, cow: all.cow, readOnly: false });
    const inUse = { code: 'in_use' };
    await expect(mergeCow(all.cow, path.join(all.folder, 'new'))).rejects.toMatchObject(inUse);
    await expect(mergeCowIntoBacking(all.cow)).rejects.toMatchObject(inUse);
    await expect(mergeCowIntoBacking(sibling)).rejects.toMatchObject(inUse);
    expect(() => repairCowHeader(all.cow)).toThrow(expect.objectContaining(inUse));
    await mergeCow(sibling, path.join(all.folder, 'of-sibling'));
    await disk.close();
  });

  it('keeps its raw disk from being replaced', async () => {
    const all = await written();
    const raw = path.join(all.folder, 'raw');
    fs.writeFileSync(raw, pattern(4096, 3));
    const disk = openDisk({ device: 'ubd0', file: raw, readOnly: false });
    await expect(mergeCow(all.cow, raw)).rejects.toMatchObject({ code: 'in_use', field: 'new' });
    await disk.close();
    expect(fs.statSync(raw).size).toBe(4096);
  });
});

describe('repair-header', () => {
  it.each(VERSIONS)(
    'lets %s open again, for us and for uml_moo, with the same content',
    async (_what, make) => {
      const tool = moo();
      const all = await make();
      const [before, after] = [path.join(all.folder, 'before'), path.join(all.folder, 'after')];
      await mergeCow(all.cow, before);
      fs.utimesSync(all.backing, 1_700_000_000, 1_700_000_000);
      await expect(mergeCow(all.cow, after)).rejects.toMatchObject({
        code: 'cow_backing_changed',
        remedy: expect.stringContaining('repair-header'),
      });
      const { status, stdout } = await cli('disk', 'repair-header', all.cow);
      expect({ status, stdout }).toEqual({
        status: 0,
        stdout: `${all.cow} takes ${all.backing} as of 2023-11-14T22:13:20.000Z; it was of 2020-02-02T02:02:02.000Z\n`,
      });
      expect(inspectCow(all.cow).backingMtime).toBe(1_700_000_000);
      execFileSync(tool, [all.cow, after], { stdio: 'pipe' });
      expect(same(before, after)).toBe(true);
      expect((await cli('disk', 'repair-header', all.cow)).stdout).toContain('already');
    },
  );

  it('refuses another size', async () => {
    const all = await written();
    fs.appendFileSync(all.backing, Buffer.alloc(512));
    expect(() => repairCowHeader(all.cow)).toThrow(
      expect.objectContaining({ code: 'cow_backing_changed', field: 'size' }),
    );
  });
});
