/**
 * A guest with real programs of Debian: a disk that has packages with all that they need, unpacked and not configured.
 * Built once, kept in build/debian-guest.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Apt } from '../../src/images/apt.ts';
import { cpioArchive, type CpioEntry } from '../../src/images/cpio.ts';
import { decompressModules, loadOrder, readModules } from '../../src/images/modules.ts';
import { makeExt4 } from '../../src/images/rootfs.ts';
import { rootfsTools, unpack } from '../../src/images/rootfs-tools.ts';
import { runTool } from '../../src/images/tools.ts';

const PACKAGES = [
  ...['bash', 'busybox-static', 'coreutils', 'dash', 'gcc', 'grep', 'gzip', 'libc6-dev', 'openssl'],
  ...['python3', 'sed', 'sqlite3'],
];
const KERNEL_PACKAGE = 'linux-image-cloud-amd64';
const DISK_BYTES = 1 << 30;
/** Folders that Debian has below /usr, with links to them. */
const MERGED = ['bin', 'lib', 'lib64', 'sbin'];
const FOLDERS = ['dev', 'proc', 'sys', 'tmp'];
const SELF = fileURLToPath(import.meta.url);
const CACHE = path.join(path.dirname(SELF), '../../build/debian-guest');
const DISK_MODULES = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic'];

export interface DebianGuest {
  readonly kernel: string;
  readonly kernelVersion: string;
  /** ext4, to be mounted read only. */
  readonly disk: string;
  /** What is on the disk, as a folder of the host. */
  readonly root: string;
  readonly folder: string;
}

/** Builds it when there is none. AppErrors `tool_missing` and `job_failed` say what the host lacks. */
export async function debianGuest(note: (text: string) => void): Promise<DebianGuest> {
  const key = createHash('sha256').update(fs.readFileSync(SELF)).digest('hex').slice(0, 16);
  const folder = path.join(CACHE, key);
  if (!fs.existsSync(folder)) {
    // what an interrupted build leaves is not taken for a guest
    const draft = `${folder}.${process.pid}`;
    fs.rmSync(CACHE, { recursive: true, force: true });
    fs.mkdirSync(draft, { recursive: true });
    await build(draft, note);
    fs.renameSync(draft, folder);
  }
  const root = path.join(folder, 'root');
  const kernelVersion = fs.readdirSync(path.join(root, 'usr/lib/modules'))[0]!;
  return {
    kernel: path.join(root, 'boot', `vmlinuz-${kernelVersion}`),
    kernelVersion,
    disk: path.join(folder, 'disk'),
    root,
    folder,
  };
}

async function build(folder: string, note: (text: string) => void): Promise<void> {
  const subfolder = (name: string): string => {
    const made = path.join(folder, name);
    fs.mkdirSync(made);
    return made;
  };
  note('downloading programs of Debian for a guest');
  const packages = subfolder('packages');
  const apt = await Apt.open(packages, KERNEL_PACKAGE);
  const kernel = (await apt.dependencies(KERNEL_PACKAGE)).find((name) => /^linux-image-\d/.test(name))!;
  const files = await apt.download([...(await apt.closure(PACKAGES)), kernel], () => {});
  note('unpacking them into a disk');
  const root = subfolder('root');
  await unpack(files, root, undefined);
  await merge(root);
  for (const name of FOLDERS) fs.mkdirSync(path.join(root, name), { recursive: true });
  const release = fs.readdirSync(path.join(root, 'usr/lib/modules'))[0]!;
  const modules = path.join(root, 'usr/lib/modules', release);
  await decompressModules(modules, path.join(root, 'usr/bin/busybox'), undefined);
  const tools = await rootfsTools(subfolder('tools'), undefined);
  await makeExt4(tools, root, path.join(folder, 'disk'), DISK_BYTES, undefined);
  fs.rmSync(packages, { recursive: true });
}

/** Moves what older packages have in /bin and its like to /usr. */
async function merge(root: string): Promise<void> {
  for (const name of MERGED) {
    const below = path.join(root, 'usr', name);
    fs.mkdirSync(below, { recursive: true });
    if (fs.existsSync(path.join(root, name))) {
      await runTool('cp', ['-a', `${path.join(root, name)}/.`, below]);
      fs.rmSync(path.join(root, name), { recursive: true });
    }
    fs.symlinkSync(`usr/${name}`, path.join(root, name));
  }
}

/**
 * An initial RAM disk that mounts the guest's disk, and runs a shell script in it, with `files` in /tmp, a file system
 * in memory. Then it powers off, unless the script does not end.
 */
export async function debianInitrd(
  guest: DebianGuest,
  name: string,
  script: string,
  files: Readonly<Record<string, Uint8Array>>,
): Promise<string> {
  const modulesFolder = path.join(guest.root, 'usr/lib/modules', guest.kernelVersion);
  const modules = loadOrder(await readModules(modulesFolder), DISK_MODULES);
  const init = [
    '#!/bin/busybox sh',
    'B=/bin/busybox',
    '$B mount -t devtmpfs dev /dev',
    ...modules.map((module) => `$B insmod /modules/${module.name}.ko`),
    'while [ ! -b /dev/vda ]; do $B usleep 20000; done',
    '$B mount -t ext4 -o ro,noload /dev/vda /root',
    '$B mount -t tmpfs tmpfs /root/tmp',
    '$B mount -t proc proc /root/proc',
    '$B mount -t sysfs sysfs /root/sys',
    '$B mount -o move /dev /root/dev',
    '$B mv /files/* /root/tmp',
    '$B chroot /root /bin/sh /tmp/script',
    '$B poweroff -f',
  ];
  const file = (at: string, content: Uint8Array): CpioEntry => ({
    kind: 'file',
    path: at,
    content,
    executable: true,
  });
  const entries: CpioEntry[] = [
    ...['bin', 'dev', 'files', 'modules', 'root'].map((at): CpioEntry => ({ kind: 'folder', path: at })),
    file('bin/busybox', fs.readFileSync(path.join(guest.root, 'usr/bin/busybox'))),
    file('init', Buffer.from(`${init.join('\n')}\n`)),
    file(
      'files/script',
      Buffer.from(`cd /tmp\nexport PATH=/usr/bin:/usr/sbin LC_ALL=C HOME=/tmp\n${script}\n`),
    ),
    ...modules.map((module) =>
      file(`modules/${module.name}.ko`, fs.readFileSync(path.join(modulesFolder, module.file))),
    ),
    ...Object.entries(files).map(([at, content]) => file(`files/${at}`, content)),
  ];
  const initrd = path.join(guest.folder, `${name}-${process.pid}.cpio`);
  fs.writeFileSync(initrd, cpioArchive(entries));
  return initrd;
}
