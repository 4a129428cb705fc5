/**
 * COW files under the real User-mode Linux (Debian package user-mode-linux): it boots from what we write, and what it writes we
 * read and write on, in turns over the same files.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createCow, type GuestDisk, inspectCow, openDisk } from '../../src/storage/index.ts';
import { pattern, scratchFolder } from '../support/storage.ts';
import { requireTool, skipTest } from '../support/tools.ts';

const MINUTE_MS = 60_000;
const ROOT_BYTES = 16 << 20;
const DATA_BYTES = 4 << 20;
const BLOCK = 4096;

/** Says what it finds, and leaves something: a file on the root file system, and blocks on the second disk. */
const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
echo "FILE $($b cat /from-us 2>/dev/null)"
echo "DATA $($b sha256sum < /dev/ubdb)"
echo "RUNS $($b wc -l < /from-uml)"
echo run >> /from-uml
$b dd if=/dev/zero bs=4096 count=3 2>/dev/null | $b tr '\\0' u | $b dd of=/dev/ubdb bs=4096 seek=7 conv=notrunc,fsync 2>/dev/null
$b sync
echo DONE
$b poweroff -f
`;

interface Files {
  readonly folder: string;
  readonly root: string;
  readonly rootCow: string;
  readonly data: string;
  readonly dataCow: string;
}

function prepare(): Files {
  const folder = fs.realpathSync(scratchFolder());
  const tree = path.join(folder, 'tree');
  for (const name of ['bin', 'dev', 'sbin']) fs.mkdirSync(path.join(tree, name), { recursive: true });
  fs.copyFileSync(requireTool('busybox', 'busybox-static'), path.join(tree, 'bin/busybox'));
  fs.writeFileSync(path.join(tree, 'sbin/init'), INIT, { mode: 0o755 });
  fs.writeFileSync(path.join(tree, 'from-uml'), '');
  const at = (name: string): string => path.join(folder, name);
  const made = {
    folder,
    root: at('root.img'),
    rootCow: at('root.cow'),
    data: at('data.img'),
    dataCow: at('data.cow'),
  };
  const mke2fs = requireTool('mke2fs', 'e2fsprogs');
  // Without a journal, which would undo what debugfs writes after a power-off.
  execFileSync(
    mke2fs,
    ['-q', '-t', 'ext4', '-O', '^has_journal', '-d', tree, made.root, `${ROOT_BYTES >> 10}`],
    { stdio: 'pipe' },
  );
  fs.writeFileSync(made.data, pattern(DATA_BYTES, 1));
  return made;
}

async function contentOf(file: string, cow: string): Promise<Buffer> {
  const disk = openDisk({ device: 'ubd0', file, cow, readOnly: true });
  const bytes = Buffer.alloc(disk.sizeBytes);
  await disk.read(0, [bytes]);
  await disk.close();
  return bytes;
}

async function change(file: string, cow: string, work: (disk: GuestDisk) => Promise<void>): Promise<void> {
  const disk = openDisk({ device: 'ubd0', file, cow, readOnly: false });
  await work(disk);
  await disk.close();
}

/** Puts a file into the root file system, by what debugfs changes of its blocks. */
async function writeFromUs({ folder, root, rootCow }: Files, text: string): Promise<void> {
  const before = await contentOf(root, rootCow);
  const copy = path.join(folder, 'copy.img');
  fs.writeFileSync(copy, before);
  fs.writeFileSync(path.join(folder, 'from-us'), `${text}\n`);
  const debugfs = requireTool('debugfs', 'e2fsprogs');
  for (const command of ['rm /from-us', `write ${folder}/from-us from-us`]) {
    execFileSync(debugfs, ['-w', '-R', command, copy], { stdio: 'pipe' });
  }
  const after = fs.readFileSync(copy);
  await change(root, rootCow, async (disk) => {
    for (let at = 0; at < after.length; at += BLOCK) {
      const block = after.subarray(at, at + BLOCK);
      if (!block.equals(before.subarray(at, at + BLOCK))) await disk.write(at, [block]);
    }
  });
}

/** Boots it to its power-off; what it printed. */
async function runUml({ folder, rootCow, dataCow }: Files): Promise<string> {
  const uml = requireTool('linux.uml', 'user-mode-linux');
  const words = ['mem=64M', `ubd0=${rootCow}`, `ubd1=${dataCow}`, 'root=/dev/ubda', 'rw', 'init=/sbin/init'];
  const child = spawn(
    'setarch',
    ['-R', uml, ...words, 'con=null', 'con0=null,fd:1', 'ssl=null', `uml_dir=${folder}/run`],
    {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, HOME: folder, TMPDIR: folder },
      detached: true,
    },
  );
  onTestFinished(() => {
    try {
      process.kill(-child.pid!, 'SIGKILL');
    } catch {
      // It has ended.
    }
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (bytes: Buffer) => {
      output += bytes.toString('latin1');
    });
  }
  await once(child, 'close');
  if (!output.includes('FILE')) skipTest(`linux.uml does not come up here: ${output.slice(-200)}`);
  expect(output).toContain('DONE');
  return output;
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

test(
  'linux.uml boots from COW files of ours, and we go on with what it wrote',
  async () => {
    requireTool('linux.uml', 'user-mode-linux');
    const files = prepare();
    const { folder, root, rootCow, data, dataCow } = files;
    createCow(rootCow, root);
    createCow(dataCow, data);
    const model = fs.readFileSync(data);
    // Whole blocks, as a page cache writes them: linux.uml 6.1 reads what follows a block that is only in part in the COW file
    // from the wrong place when one request has both.
    const ours = async (at: number, seed: number): Promise<void> => {
      const bytes = pattern(BLOCK, seed);
      model.set(bytes, at);
      await change(data, dataCow, async (disk) => void (await disk.write(at, [bytes])));
    };
    await writeFromUs(files, 'first');
    await ours(13 * BLOCK, 5);
    await ours(DATA_BYTES - BLOCK, 6);
    for (const [run, text] of ['first', 'second'].entries()) {
      const output = await runUml(files);
      expect(output).toContain(`FILE ${text}`);
      expect(output).toContain(`RUNS ${run}`);
      expect(output).toContain(`DATA ${sha256(model)}`);
      model.fill('u', 7 * BLOCK, 10 * BLOCK);
      expect((await contentOf(data, dataCow)).equals(model)).toBe(true);
      await writeFromUs(files, 'second');
      await ours((8 + run) * BLOCK, 7 + run);
    }
    const whole = path.join(folder, 'whole.img');
    fs.writeFileSync(whole, await contentOf(root, rootCow));
    const debugfs = requireTool('debugfs', 'e2fsprogs');
    const written = execFileSync(debugfs, ['-R', 'cat /from-uml', whole], {
      encoding: 'utf8',
      stdio: 'pipe',
    });
    expect(written).toBe('run\nrun\n');
    // The backing files are as they were, and the real tool merges the same.
    const moo = requireTool('uml_moo', 'uml-utilities');
    execFileSync(moo, [dataCow, path.join(folder, 'moo.img')], { stdio: 'pipe' });
    expect(fs.readFileSync(path.join(folder, 'moo.img')).equals(model)).toBe(true);
    expect(fs.readFileSync(data).equals(pattern(DATA_BYTES, 1))).toBe(true);
    expect(inspectCow(dataCow)).toMatchObject({ version: 3, backingPath: data });
  },
  4 * MINUTE_MS,
);

test(
  'linux.uml makes COW files that we read and write on',
  async () => {
    requireTool('linux.uml', 'user-mode-linux');
    const files = prepare();
    const { root, rootCow, data, dataCow } = files;
    const output = await runUml({ ...files, rootCow: `${rootCow},${root}`, dataCow: `${dataCow},${data}` });
    const model = Buffer.from(pattern(DATA_BYTES, 1));
    expect(output).toContain(`DATA ${sha256(model)}`);
    model.fill('u', 7 * BLOCK, 10 * BLOCK);
    expect((await contentOf(data, dataCow)).equals(model)).toBe(true);
    const bytes = pattern(BLOCK, 3);
    model.set(bytes, 8 * BLOCK + 1024);
    await change(data, dataCow, async (disk) => void (await disk.write(8 * BLOCK + 1024, [bytes])));
    await writeFromUs(files, 'after');
    const again = await runUml(files);
    expect(again).toContain('FILE after');
    expect(again).toContain('RUNS 1');
    expect(again).toContain(`DATA ${sha256(model)}`);
  },
  4 * MINUTE_MS,
);
