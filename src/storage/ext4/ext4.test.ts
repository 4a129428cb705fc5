/** File systems that mke2fs makes, with what debugfs reads from them; and hostile ones. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { pattern, randomNumbers, scratchFolder } from '../../../test/support/storage.ts';
import { requireTool } from '../../../test/support/tools.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ByteSource } from '../disk-source.ts';
import { Ext4, type FileEntry } from './file-system.ts';

/** Counts what is read. */
class FileSource implements ByteSource {
  readonly sizeBytes: number;
  readonly #bytes: Buffer;
  read_ = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.sizeBytes = bytes.length;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    if (offset < 0 || offset + into.length > this.#bytes.length)
      throw new Error('a read outside of the disk');
    this.read_ += into.length;
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }
}

async function opened(file: string): Promise<Ext4> {
  const fileSystem = await Ext4.open(new FileSource(fs.readFileSync(file)));
  if (fileSystem === undefined) throw new Error('no file system');
  return fileSystem;
}

async function contentOf(fileSystem: Ext4, name: string, pieceBytes = 100_000): Promise<Buffer> {
  const { entry, read } = await fileSystem.openFile(name);
  const content = Buffer.alloc(entry.sizeBytes, 0xee);
  for (let at = 0; at < content.length; at += pieceBytes) {
    await read(at, content.subarray(at, at + pieceBytes));
  }
  return content;
}

async function listAll(fileSystem: Ext4, folder: string, limit = 1000): Promise<FileEntry[]> {
  const all: FileEntry[] = [];
  let from: number | null = 0;
  while (from !== null) {
    const page = await fileSystem.list(folder, from, limit);
    all.push(...page.entries);
    from = page.next;
  }
  return all;
}

const sorted = (names: Iterable<string>): string[] => [...names].sort();

/** A tree with all that is hard, small enough for 64 MiB. */
function makeTree(root: string): void {
  const write = (name: string, content: string | Uint8Array): void => {
    fs.mkdirSync(path.dirname(path.join(root, name)), { recursive: true });
    fs.writeFileSync(path.join(root, name), content);
  };
  write('etc/hostname', 'guest\n');
  write('empty', '');
  write('tiny', pattern(50, 1));
  write('small', pattern(130, 2));
  write('exact', pattern(4096, 3));
  write('medium', pattern(300_001, 4));
  write('large', pattern(3_000_000, 5));
  write('name with spaces\nand a line', 'x');
  write(`${'n'.repeat(255)}`, 'long name');
  write('systemd\\x2dfile', 'backslash');
  for (let index = 0; index < 700; index++) write(`many/a-rather-long-name-of-a-file-${index}`, `${index}`);
  for (let index = 0; index < 3; index++) write(`few/${index}`, `${index}`);
  const sparse = fs.openSync(path.join(root, 'sparse'), 'w');
  for (let index = 0; index < 20; index++)
    fs.writeSync(sparse, pattern(5000, index), 0, 5000, index * 777_777);
  fs.writeSync(sparse, pattern(100, 1), 0, 100, 30_000_000);
  fs.closeSync(sparse);
  fs.symlinkSync('/etc/hostname', path.join(root, 'absolute'));
  fs.symlinkSync('../../../../../../../etc/hostname', path.join(root, 'outside'));
  fs.symlinkSync('etc', path.join(root, 'folder-link'));
  fs.symlinkSync('loop-b', path.join(root, 'loop-a'));
  fs.symlinkSync('loop-a', path.join(root, 'loop-b'));
  fs.symlinkSync(`${'./'.repeat(200)}etc/hostname`, path.join(root, 'long-link'));
  fs.symlinkSync('nowhere', path.join(root, 'dangling'));
  fs.chmodSync(path.join(root, 'etc/hostname'), 0o4750);
  fs.utimesSync(path.join(root, 'etc/hostname'), 1_600_000_000, 1_600_000_000.123);
}

function make(file: string, root: string, size: string, options: readonly string[]): void {
  const mke2fs = requireTool('mke2fs', 'e2fsprogs');
  requireTool('debugfs', 'e2fsprogs');
  execFileSync(mke2fs, ['-q', '-F', ...options, '-d', root, file, size], { stdio: 'pipe' });
}

const debugfs = (file: string, ...commands: string[]): Buffer =>
  execFileSync(requireTool('debugfs', 'e2fsprogs'), ['-w', '-f', '-', file], {
    input: `${commands.join('\n')}\n`,
    stdio: ['pipe', 'pipe', 'ignore'],
    maxBuffer: 1 << 28,
  });

const cat = (file: string, name: string): Buffer =>
  execFileSync(requireTool('debugfs', 'e2fsprogs'), ['-R', `cat "${name}"`, file], {
    stdio: ['ignore', 'pipe', 'ignore'],
    maxBuffer: 1 << 28,
  });

const KINDS = {
  'ext4 as Debian makes it': ['-t', 'ext4', '-b', '4096'],
  'ext4 with 64 bits and checksums': ['-t', 'ext4', '-b', '4096', '-O', '64bit,metadata_csum'],
  'ext4 without checksums and 64 bits': ['-t', 'ext4', '-b', '1024', '-O', '^64bit,^metadata_csum'],
  'ext4 with blocks of 1 KiB': ['-t', 'ext4', '-b', '1024', '-I', '256'],
  'ext4 with blocks of 64 KiB': ['-t', 'ext4', '-b', '65536'],
  'ext4 with data in inodes': ['-t', 'ext4', '-b', '4096', '-O', 'inline_data', '-I', '512'],
  'ext4 with groups of descriptors': [
    '-t',
    'ext4',
    '-b',
    '1024',
    '-O',
    'meta_bg,^resize_inode',
    '-g',
    '1024',
  ],
  'ext4 with clusters': ['-t', 'ext4', '-b', '4096', '-O', 'bigalloc', '-C', '16384'],
  'ext4 with two copies of its superblock': ['-t', 'ext4', '-b', '1024', '-O', 'sparse_super2', '-g', '2048'],
  'ext4 with more': ['-t', 'ext4', '-O', 'large_dir,ea_inode,project,quota,mmp,metadata_csum_seed,encrypt'],
  ext3: ['-t', 'ext3', '-b', '1024'],
  'ext3 with blocks of 4 KiB': ['-t', 'ext3', '-b', '4096'],
  ext2: ['-t', 'ext2', '-b', '1024', '-I', '128'],
  'ext2 of revision 0': ['-t', 'ext2', '-r', '0', '-b', '1024'],
} as const;

describe('a file system', () => {
  it.each(Object.entries(KINDS))(
    '%s',
    async (_kind, options) => {
      const folder = scratchFolder();
      const root = path.join(folder, 'root');
      makeTree(root);
      const file = path.join(folder, 'image');
      make(file, root, options.includes('65536' as never) ? '128M' : '32M', options);
      const fileSystem = await opened(file);
      expect(fileSystem.superblock.type).toBe(_kind.slice(0, 4));

      const names = fs.readdirSync(root);
      const entries = await listAll(fileSystem, '/');
      expect(sorted(entries.map(({ name }) => name))).toEqual(sorted([...names, 'lost+found']));
      for (const page of [7, 1000]) {
        const many = await listAll(fileSystem, 'many', page);
        expect(sorted(many.map(({ name }) => name))).toEqual(sorted(fs.readdirSync(path.join(root, 'many'))));
      }
      for (const entry of entries.filter(({ type }) => type === 'file')) {
        const stat = fs.statSync(path.join(root, entry.name));
        expect([entry.sizeBytes, entry.permissions]).toEqual([stat.size, stat.mode & 0o7777]);
        const content = await contentOf(fileSystem, entry.name);
        expect(content.equals(fs.readFileSync(path.join(root, entry.name)))).toBe(true);
        if (!/[\n]/.test(entry.name)) {
          const theirs = cat(file, entry.name);
          // debugfs of e2fsprogs 1.47 goes on with the rest of the 60 bytes that an inode has for data.
          const extra = theirs.length === 60 ? theirs.subarray(0, content.length) : theirs;
          expect(content.equals(extra), entry.name).toBe(true);
        }
      }
      expect((await contentOf(fileSystem, 'many/a-rather-long-name-of-a-file-699')).toString()).toBe('699');
      expect((await contentOf(fileSystem, 'few/1')).toString()).toBe('1');
      for (const name of [
        'etc/hostname',
        'absolute',
        'outside',
        'folder-link/hostname',
        'long-link',
        '//etc/./../etc/hostname',
      ]) {
        expect((await contentOf(fileSystem, name)).toString(), name).toBe('guest\n');
      }
      expect(entries.find(({ name }) => name === 'outside')).toMatchObject({
        type: 'symlink',
        target: '../../../../../../../etc/hostname',
      });
      const stat = await fileSystem.stat('etc/hostname');
      expect(stat).toMatchObject({ permissions: 0o4750, uid: process.getuid?.() });
      expect(Math.floor(stat.modifiedAt / 1000)).toBe(1_600_000_000);
      for (const name of ['loop-a', 'dangling', 'nothing', 'etc/hostname/x']) {
        await expect(fileSystem.openFile(name)).rejects.toMatchObject({ code: 'not_found', field: 'path' });
      }
      await expect(fileSystem.openFile('etc')).rejects.toMatchObject({
        code: 'invalid_input',
        field: 'path',
      });
      expect((await fileSystem.list('folder-link/hostname', 0, 10)).entries).toEqual([stat]);
      await expect(fileSystem.stat('x/'.repeat(3000))).rejects.toMatchObject({ code: 'invalid_input' });
    },
    120_000,
  );

  it('is none', async () => {
    for (const length of [0, 100, 2047, 4096, 100_000]) {
      expect(await Ext4.open(new FileSource(Buffer.from(pattern(length, 7))))).toBeUndefined();
    }
  });

  it('finds names that are no UTF-8, as they are listed', async () => {
    const folder = scratchFolder();
    const root = path.join(folder, 'root');
    fs.mkdirSync(root);
    fs.writeFileSync(Buffer.concat([Buffer.from(`${root}/caf`), Buffer.from([0xe9])]), 'latin');
    fs.writeFileSync(path.join(root, 'café'), 'utf');
    const file = path.join(folder, 'image');
    make(file, root, '8M', ['-t', 'ext4']);
    const fileSystem = await opened(file);
    const names = (await listAll(fileSystem, '')).map(({ name }) => name);
    expect(sorted(names)).toEqual(sorted(['caf\ufffd', 'café', 'lost+found']));
    expect((await contentOf(fileSystem, 'caf\ufffd')).toString()).toBe('latin');
    expect((await contentOf(fileSystem, 'café')).toString()).toBe('utf');
  });
});

describe('a journal', () => {
  it.each([
    ['with checksums', ['-O', 'metadata_csum']],
    ['with 64 bits', ['-O', '64bit,^metadata_csum']],
    ['of ext3', ['-O', '^64bit,^metadata_csum,^extent']],
  ] as const)('%s is gone through: blocks that it has, and those that it revokes', async (_kind, options) => {
    const folder = scratchFolder();
    const root = path.join(folder, 'root');
    fs.mkdirSync(root);
    for (const name of ['a', 'b', 'c', 'd'])
      fs.writeFileSync(path.join(root, name), pattern(1024, name.charCodeAt(0)));
    const file = path.join(folder, 'image');
    make(file, root, '32M', ['-t', 'ext4', '-b', '1024', ...options]);
    const blockOf = (name: string): string =>
      debugfs(file, `bmap ${name} 0`)
        .toString()
        .match(/^(\d+)$/m)![1]!;
    const blocks = Object.fromEntries(['a', 'b', 'c', 'd'].map((name) => [name, blockOf(name)]));
    const fresh = (name: string, bytes: Uint8Array): string => {
      fs.writeFileSync(path.join(folder, name), bytes);
      return path.join(folder, name);
    };
    // The second begins with the journal's magic number, which is not written as it is.
    const magic = Buffer.from(pattern(1024, 70));
    magic.writeUInt32BE(0xc03b3998);
    debugfs(
      file,
      'jo',
      `jw -b ${blocks.a} ${fresh('1', pattern(1024, 61))}`,
      `jw -b ${blocks.b} ${fresh('2', magic)}`,
      `jw -b ${blocks.c} ${fresh('3', pattern(1024, 63))}`,
      `jw -r ${blocks.c}`,
      `jw -b ${blocks.a} ${fresh('4', pattern(1024, 64))}`,
      `jw -b ${blocks.d} -c ${fresh('5', pattern(1024, 65))}`,
      'jc',
    );
    const bytes = fs.readFileSync(file);
    expect(bytes.readUInt32LE(1024 + 0x60) & 4).toBe(4);
    const fileSystem = await opened(file);
    const ours: Record<string, string> = {};
    for (const name of ['a', 'b', 'c', 'd']) ours[name] = (await contentOf(fileSystem, name)).toString('hex');
    expect(ours.a).toBe(Buffer.from(pattern(1024, 64)).toString('hex'));
    expect(ours.b).toBe(magic.toString('hex'));
    expect(ours.c).toBe(Buffer.from(pattern(1024, 'c'.charCodeAt(0))).toString('hex'));
    // What e2fsck makes of it.
    execFileSync(requireTool('e2fsck', 'e2fsprogs'), ['-E', 'journal_only', '-p', file], { stdio: 'pipe' });
    for (const name of ['a', 'b', 'c', 'd']) expect(cat(file, name).toString('hex')).toBe(ours[name]);
  });
});

describe('a hostile file system', () => {
  /** Reads all that it can, within bounds. */
  async function readAll(source: FileSource): Promise<void> {
    const fileSystem = await Ext4.open(source);
    if (fileSystem === undefined) return;
    const piece = Buffer.alloc(65_536);
    for (const folder of ['/', 'many', 'etc']) {
      const { entries } = await fileSystem.list(folder, 0, 200);
      for (const { name, type } of entries) {
        if (type !== 'file') continue;
        const { entry, read } = await fileSystem.openFile(`${folder}/${name}`);
        const end = Math.min(entry.sizeBytes, 4 << 20);
        for (let at = 0; at < end; at += piece.length) {
          await read(at, piece.subarray(0, Math.min(piece.length, end - at)));
        }
      }
    }
  }

  it.each([
    ['ext4', ['-t', 'ext4', '-b', '1024', '-O', 'inline_data', '-I', '256', '-N', '400']],
    ['ext4 in use', ['-t', 'ext4', '-b', '1024', '-N', '400']],
    ['ext2', ['-t', 'ext2', '-b', '1024', '-N', '400']],
  ] as const)(
    '%s is refused or read, within bounds',
    async (kind, options) => {
      const folder = scratchFolder();
      const root = path.join(folder, 'root');
      fs.mkdirSync(path.join(root, 'etc'), { recursive: true });
      fs.mkdirSync(path.join(root, 'many'));
      fs.writeFileSync(path.join(root, 'etc/hostname'), 'x');
      fs.writeFileSync(path.join(root, 'data'), pattern(300_000, 1));
      for (let index = 0; index < 150; index++)
        fs.writeFileSync(path.join(root, `many/file-${index}`), pattern(index * 7, index));
      const file = path.join(folder, 'image');
      make(file, root, '8M', options);
      if (kind.endsWith('use')) {
        fs.writeFileSync(path.join(folder, 'block'), pattern(1024, 3));
        debugfs(file, 'jo', `jw -b 4000-4003 ${path.join(folder, 'block')}`, `jw -r 4001`, 'jc');
      }
      const good = fs.readFileSync(file);
      // Where there is something: superblock, descriptors, inodes, directories, extents, the journal.
      const areas: number[] = [];
      for (let at = 1024; at < good.length; at += 512) {
        if (good.subarray(at, at + 512).some((byte) => byte !== 0)) areas.push(at);
      }
      const random = randomNumbers(kind.length * 7919);
      let refused = 0;
      const bytes = Buffer.from(good);
      for (let round = 0; round < 200; round++) {
        // The first areas are the superblock and the tables.
        const area = areas[random(random(2) === 0 ? 60 : areas.length)]!;
        for (let change = 0; change < 1 + random(12); change++) {
          bytes[area + random(512)] = [0, 0xff, 0x80, random(256)][random(4)]!;
        }
        const source = new FileSource(bytes);
        try {
          await readAll(source);
        } catch (error) {
          if (!(error instanceof AppError)) throw error;
          expect(['bad_file_system', 'unsupported', 'not_found', 'invalid_input']).toContain(error.code);
          refused++;
        } finally {
          good.copy(bytes, area, area, area + 512);
        }
        expect(source.read_).toBeLessThan(600 << 20);
      }
      expect(refused).toBeGreaterThan(5);
    },
    240_000,
  );

  it('whose directory is within itself or has no end, is given up', async () => {
    const folder = scratchFolder();
    const root = path.join(folder, 'root');
    fs.mkdirSync(path.join(root, 'many'), { recursive: true });
    for (let index = 0; index < 100; index++) fs.writeFileSync(path.join(root, `many/file-${index}`), 'x');
    const file = path.join(folder, 'image');
    make(file, root, '8M', ['-t', 'ext4', '-b', '1024', '-O', '^metadata_csum']);
    const many = debugfs(file, 'stat many')
      .toString()
      .match(/Inode: (\d+)/)![1]!;
    debugfs(file, `link many many/self`, `sif many size 0x7fffffffff`);
    const fileSystem = await opened(file);
    expect(many).toBeTruthy();
    // A hole without end.
    await expect(listAll(fileSystem, 'many')).resolves.toHaveLength(101);
    // The same blocks again and again.
    const deep = `many${'/self'.repeat(300)}`;
    expect(await (await opened(file)).stat(deep)).toMatchObject({ type: 'directory' });
    debugfs(
      file,
      'sif many flags 0',
      ...Array.from({ length: 12 }, (_, index) => `sif many block[${index}] 100`),
    );
    await expect(listAll(await opened(file), 'many')).rejects.toBeInstanceOf(AppError);
  });
});
