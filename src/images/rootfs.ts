/** The default guest's root file system, and the initramfs that finds it. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import { GUEST_FILES, GUEST_FOLDERS, GUEST_LINKS, INITRAMFS_INIT } from './guest-files.ts';
import { type KernelModule, loadOrder, modulesAlias, modulesDep } from './modules.ts';
import type { RootfsTools } from './rootfs-tools.ts';
import { runTool } from './tools.ts';

/**
 * What the initramfs loads to reach the root disk. Debian 12's cloud kernel (6.1) has as modules: virtio_pci, virtio_blk, virtio_net,
 * virtio_console, virtio-rng, virtio_balloon, the ACPI button, evdev. Built in: ext4, jbd2, crc32c, i8042, atkbd, 8250 with console,
 * MAGIC_SYSRQ and MAGIC_SYSRQ_SERIAL, KVM_GUEST, PVH, devtmpfs, packet sockets, IPv6. 9p is absent (CONFIG_NET_9P is not set).
 * Its bzImage payload is LZ4 in the legacy format (02 21 4c 18) and modules are not compressed. Names that another
 * kernel has built in are passed over.
 */
const ROOT_MODULES = ['virtio_pci', 'virtio_blk', 'ext4', 'crc32c_generic'];

/** Uncompressed: 2.5 MB cost an emulated CPU less to copy than to inflate. */
export function buildInitramfs(
  busybox: Uint8Array,
  modulesFolder: string,
  modules: ReadonlyMap<string, KernelModule>,
): Buffer {
  const load = loadOrder(modules, ROOT_MODULES);
  const folders = ['bin', 'dev', 'proc', 'sys', 'root', 'modules'].map(
    (name): CpioEntry => ({ kind: 'folder', path: name }),
  );
  const files = load.map(
    ({ name, file }): CpioEntry => ({
      kind: 'file',
      path: `modules/${name}.ko`,
      content: fs.readFileSync(path.join(modulesFolder, file)),
      executable: false,
    }),
  );
  const order = load.map(({ name }) => `${name}.ko\n`).join('');
  return cpioArchive([
    ...folders,
    { kind: 'file', path: 'bin/busybox', content: busybox, executable: true },
    { kind: 'link', path: 'bin/sh', target: 'busybox' },
    { kind: 'file', path: 'init', content: Buffer.from(INITRAMFS_INIT), executable: true },
    { kind: 'file', path: 'modules/order', content: Buffer.from(order), executable: false },
    ...files,
  ]);
}

export interface RootTree {
  /** Empty; filled here. */
  readonly folder: string;
  readonly busybox: string;
  /** lib/modules/RELEASE of the unpacked kernel package, on the same file system: it is moved. */
  readonly modulesFolder: string;
  readonly modules: ReadonlyMap<string, KernelModule>;
}

/** Lays out the root file system's files. Modes are set explicitly: the builder's umask must not show. */
export async function layOutRoot(tree: RootTree): Promise<void> {
  const at = (name: string): string => path.join(tree.folder, name);
  fs.chmodSync(tree.folder, 0o755);
  for (const folder of GUEST_FOLDERS) {
    fs.mkdirSync(at(folder));
    fs.chmodSync(at(folder), folderMode(folder));
  }
  for (const { path: name, content, mode } of GUEST_FILES) {
    fs.writeFileSync(at(name), content);
    fs.chmodSync(at(name), mode ?? 0o644);
  }
  for (const [name, target] of GUEST_LINKS) fs.symlinkSync(target, at(name));
  fs.copyFileSync(tree.busybox, at('bin/busybox'));
  fs.chmodSync(at('bin/busybox'), 0o755);
  const applets = (await runTool(tree.busybox, ['--list-full'])).split('\n').filter((name) => name !== '');
  for (const applet of applets) linkApplet(at(applet));
  layOutModules(at(`lib/modules/${path.basename(tree.modulesFolder)}`), tree);
}

function folderMode(folder: string): number {
  if (folder === 'tmp' || folder === 'var/tmp') return 0o1777;
  return folder === 'root' ? 0o700 : 0o755;
}

function linkApplet(file: string): void {
  if (fs.existsSync(path.dirname(file)) && fs.lstatSync(file, { throwIfNoEntry: false }) === undefined) {
    fs.symlinkSync('/bin/busybox', file);
  }
}

function layOutModules(to: string, tree: RootTree): void {
  fs.mkdirSync(path.dirname(to));
  fs.renameSync(tree.modulesFolder, to);
  fs.writeFileSync(path.join(to, 'modules.dep'), modulesDep(tree.modules));
  fs.writeFileSync(path.join(to, 'modules.alias'), modulesAlias(tree.modules));
}

/**
 * Makes a sparse ext4 file of `sizeBytes` with the content of `folder`, all owned by root. mke2fs -d keeps the owner of each
 * file, so an ordinary user's build sets the owners afterwards with debugfs.
 */
export async function makeExt4(
  tools: RootfsTools,
  folder: string,
  disk: string,
  sizeBytes: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  fs.writeFileSync(disk, '', { flag: 'wx' });
  fs.truncateSync(disk, sizeBytes);
  // Without lazy initialisation: else the guest would write zeros into its COW file after the first mount.
  const extended = 'lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0';
  const args = [
    '-q',
    '-F',
    '-t',
    'ext4',
    '-b',
    '4096',
    '-m',
    '1',
    '-L',
    'umlaut',
    '-E',
    extended,
    '-d',
    folder,
    disk,
  ];
  await runTool(tools.mke2fs, args, { env: tools.env, signal });
  if (process.getuid?.() === 0) return;
  const names = [...walk(folder)];
  const commands = names.flatMap((name) => [`sif "/${name}" uid 0`, `sif "/${name}" gid 0`]);
  await runTool(tools.debugfs, ['-w', '-f', '-', disk], {
    env: tools.env,
    input: `${commands.join('\n')}\n`,
    signal,
  });
}

/** Everything below a folder, relative to it. Unlike readdir's recursion it does not follow links, which may lead out. */
function* walk(folder: string, below = ''): Generator<string> {
  for (const entry of fs.readdirSync(path.join(folder, below), { withFileTypes: true })) {
    const name = path.join(below, entry.name);
    yield name;
    if (entry.isDirectory()) yield* walk(folder, name);
  }
}
