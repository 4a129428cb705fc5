/** Whole disks, with file systems made by mke2fs; and hostile ones. */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { writePartitioned } from '../../test/support/partition-table.ts';
import { pattern, randomNumbers, scratchFolder } from '../../test/support/storage.ts';
import { requireTool } from '../../test/support/tools.ts';
import { AppError } from '../contracts/errors.ts';
import { openSource } from '../storage/open-source.ts';
import { type Partition, readPartitions } from '../storage/partitions.ts';
import { takeBootFiles } from './boot-files.ts';

type Tree = Readonly<Record<string, string | Buffer>>;

/** An ext4 file system with these files. */
function fileSystem(folder: string, tree: Tree): string {
  const mke2fs = requireTool('mke2fs', 'e2fsprogs');
  requireTool('debugfs', 'e2fsprogs');
  const root = fs.mkdtempSync(path.join(folder, 'tree-'));
  for (const [name, content] of Object.entries(tree)) {
    fs.mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
    fs.writeFileSync(path.join(root, name), content);
  }
  const file = path.join(folder, `fs-${path.basename(root)}`);
  execFileSync(mke2fs, ['-q', '-t', 'ext4', '-d', root, file, '16M'], { stdio: 'pipe' });
  return file;
}

async function partitionsOf(disk: string): Promise<Partition[]> {
  const source = await openSource(disk, { format: 'raw' });
  try {
    return await readPartitions(source);
  } finally {
    await source.close();
  }
}

async function taken(disk: string) {
  const folder = scratchFolder();
  const { kernel, initrd, append } = await takeBootFiles(disk, folder);
  return {
    kernel: fs.readFileSync(kernel, 'latin1'),
    initrd: initrd === undefined ? undefined : fs.readFileSync(initrd, 'latin1'),
    append,
  };
}

const GRUB = `
set default=0
menuentry 'Debian' {
  linux /boot/vmlinuz-6.1.0-28-cloud-amd64 root=PARTUUID=1-2 ro console=tty0 console=ttyS0,115200 $vt quiet
  initrd /boot/initrd.img-6.1.0-28-cloud-amd64
}
menuentry 'recovery' {
  linux /boot/vmlinuz-6.1.0-28-cloud-amd64 root=PARTUUID=1-2 ro single
}
`;
const DEBIAN: Tree = {
  'boot/vmlinuz-6.1.0-9-cloud-amd64': 'old kernel',
  'boot/initrd.img-6.1.0-9-cloud-amd64': 'old initrd',
  'boot/vmlinuz-6.1.0-28-cloud-amd64': 'new kernel',
  'boot/initrd.img-6.1.0-28-cloud-amd64': 'new initrd',
  'boot/vmlinuz-$(reboot)': 'no',
  'boot/grub/grub.cfg': GRUB,
  'etc/fstab': 'x',
};

describe('a whole disk', () => {
  it.each(['gpt', 'mbr'] as const)(
    'with a %s gives its newest kernel as its boot loader starts it',
    async (table) => {
      const folder = scratchFolder();
      const disk = path.join(folder, 'disk');
      writePartitioned(disk, fileSystem(folder, DEBIAN), { table, number: 2 });
      expect(await partitionsOf(disk)).toEqual([{ number: 2, offset: 1 << 20, sizeBytes: 16 << 20 }]);
      expect(await taken(disk)).toEqual({
        kernel: 'new kernel',
        initrd: 'new initrd',
        append: 'root=PARTUUID=1-2 ro console=tty0 console=ttyS0,115200 quiet',
      });
    },
  );

  it('without GRUB boots from the partition that has the kernel', async () => {
    const folder = scratchFolder();
    const disk = path.join(folder, 'disk');
    const tree = { 'boot/vmlinuz-5.14.0-70.el9.x86_64': 'k', 'boot/initramfs-5.14.0-70.el9.x86_64.img': 'i' };
    writePartitioned(disk, fileSystem(folder, tree), { table: 'gpt', number: 3 });
    expect(await taken(disk)).toEqual({
      kernel: 'k',
      initrd: 'i',
      append: 'root=/dev/vda3 ro console=ttyS0',
    });
  });

  it('may be a file system itself, and have no initial RAM disk', async () => {
    const disk = fileSystem(scratchFolder(), { 'boot/vmlinuz-1': 'k' });
    expect(await taken(disk)).toEqual({
      kernel: 'k',
      initrd: undefined,
      append: 'root=/dev/vda ro console=ttyS0',
    });
  });

  it('without a kernel is refused', async () => {
    const folder = scratchFolder();
    const empty = path.join(folder, 'empty');
    fs.writeFileSync(empty, Buffer.alloc(1 << 20));
    for (const disk of [empty, fileSystem(folder, { 'etc/fstab': 'x', 'boot/readme': 'x' })]) {
      await expect(taken(disk)).rejects.toMatchObject({ code: 'bad_image', field: 'kernel' });
    }
  });

  it('that is damaged or hostile gives an error or files, and nothing else', async () => {
    const folder = scratchFolder();
    const disk = path.join(folder, 'disk');
    writePartitioned(disk, fileSystem(folder, DEBIAN), { table: 'gpt', number: 1 });
    const good = fs.readFileSync(disk);
    const random = randomNumbers(5);
    let refused = 0;
    for (let round = 0; round < 25; round++) {
      const bytes = Buffer.from(good);
      const area = [0, 512, 1024, (1 << 20) + 1024, (1 << 20) + 4096][round % 5]!;
      for (let change = 0; change < 40; change++) bytes[area + random(512)] = random(256);
      fs.writeFileSync(disk, bytes);
      try {
        await taken(disk);
      } catch (error) {
        if (!(error instanceof AppError)) throw error;
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(5);
    const short = path.join(folder, 'short');
    for (const length of [0, 511, 512, 600, 1100, 20_000, (1 << 20) + 1000]) {
      fs.writeFileSync(short, good.subarray(0, length));
      await expect(taken(short)).rejects.toBeInstanceOf(AppError);
    }
    expect(fs.readdirSync(folder).filter((name) => !/^(tree|fs|disk|short)/.test(name))).toEqual([]);
  }, 120_000);

  it('whose tables are larger than anything is refused', async () => {
    const file = path.join(scratchFolder(), 'disk');
    const bytes = Buffer.from(pattern(40_000, 1));
    bytes.writeUInt16BE(0x55aa, 510);
    bytes[450] = 0xee;
    bytes.write('EFI PART', 512, 'latin1');
    bytes.writeBigUInt64LE(2n, 512 + 72);
    bytes.writeUInt32LE(0xffff_ffff, 512 + 80);
    bytes.writeUInt32LE(128, 512 + 84);
    fs.writeFileSync(file, bytes);
    await expect(partitionsOf(file)).rejects.toMatchObject({ code: 'bad_image', field: 'disk' });
  });
});
