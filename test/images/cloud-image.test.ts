/**
 * A cloud image is a qcow2 file of a whole disk: partition table, ext4, kernel and initial RAM disk in /boot, GRUB. One is
 * made here of Debian's packages, by way of the default image, then imported by its name alone, and booted.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Image } from '../../src/images/index.ts';
import { Daemon } from '../support/daemon.ts';
import { writePartitioned } from '../support/partition-table.ts';
import { requireTestImage, TEST_IMAGE_FOLDER } from '../support/test-image.ts';
import { requireTool } from '../support/tools.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;
const RELEASE = '6.1.0-99-cloud-amd64';

let home: string;
let folder: string;
let daemon: Daemon;

beforeAll(async () => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-cloud-'));
  daemon = await Daemon.start(home);
  // Of the folders that a daemon of the tests allows.
  folder = fs.mkdtempSync(path.join(TEST_IMAGE_FOLDER, 'cloud-'));
}, MINUTE_MS);

afterAll(async () => {
  await daemon?.stop();
  for (const made of [home, folder]) fs.rmSync(made, { recursive: true, force: true });
}, MINUTE_MS);

/** The default image's root file system with a /boot, in the first of the partitions of a disk. */
function cloudImage({ disk, kernel, initrd }: Image): string {
  const at = (name: string): string => path.join(folder, name);
  const run = (tool: string, debianPackage: string, ...args: string[]): void => {
    execFileSync(requireTool(tool, debianPackage), args, { cwd: folder, stdio: 'pipe' });
  };
  const [root, whole, qcow2] = [at('root.img'), at('whole.img'), at('cloud.qcow2')];
  fs.copyFileSync(disk, root);
  fs.chmodSync(root, 0o600);
  fs.truncateSync(root, fs.statSync(root).size + 96 * MIB);
  run('e2fsck', 'e2fsprogs', '-f', '-p', root);
  run('resize2fs', 'e2fsprogs', root);
  fs.writeFileSync(
    at('grub.cfg'),
    `menuentry 'Debian' {\n  linux /boot/vmlinuz-${RELEASE} root=/dev/vda1 rw quiet from=grub\n}\n`,
  );
  fs.writeFileSync(at('old'), 'an older kernel');
  const commands = [
    ...['mkdir /boot', 'mkdir /boot/grub', 'cd /boot'],
    `write ${kernel} vmlinuz-${RELEASE}`,
    `write ${initrd} initrd.img-${RELEASE}`,
    ...['write old vmlinuz-6.1.0-9-cloud-amd64', 'cd grub', 'write grub.cfg grub.cfg'],
  ];
  fs.writeFileSync(at('commands'), commands.join('\n'));
  run('debugfs', 'e2fsprogs', '-w', '-f', at('commands'), root);
  writePartitioned(whole, root, { table: 'gpt', number: 1 });
  run('qemu-img', 'qemu-utils', 'convert', '-c', '-O', 'qcow2', whole, qcow2);
  for (const file of [root, whole]) fs.rmSync(file);
  return qcow2;
}

test(
  'a cloud image is imported without a kernel and boots with its own',
  async () => {
    const image = await requireTestImage();
    const disk = cloudImage(image);
    const { client } = daemon;
    await daemon.finish(await client.importImage({ name: 'cloud', disk }), 'image');
    const imported = await client.getImage('cloud');
    expect(imported.append).toBe('root=/dev/vda1 rw quiet from=grub console=ttyS0');
    const sizes = Object.fromEntries(imported.files.map((file) => [file.role, file.size_bytes]));
    expect(sizes).toMatchObject({
      kernel: fs.statSync(image.kernel).size,
      initrd: fs.statSync(image.initrd!).size,
    });
    await client.createVm({ name: 'cloud', image: 'cloud', memory_bytes: 192 * MIB, nics: [] });
    const session = await daemon.boot('cloud');
    expect(await session.check('cat /proc/cmdline')).toContain('from=grub');
    expect(await session.check('ls /boot')).toContain(`vmlinuz-${RELEASE}`);
    await session.check('grep vda1 /proc/partitions && echo ok > /root/file && sync');
    session.close();
    await client.mconsole('cloud', 'halt');
  },
  10 * MINUTE_MS,
);
