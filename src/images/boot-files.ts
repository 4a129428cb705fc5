/**
 * Taking kernel, initial RAM disk and command line out of a whole disk, as cloud images are: from its ext2, ext3 or ext4 file
 * system with /boot, by debugfs of e2fsprogs. What is in the disk is hostile: names are taken only as Debian's and
 * Fedora's kernels have them, and debugfs runs within limits.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { openSource } from '../storage/open-source.ts';
import { type Partition, readPartitions } from '../storage/partitions.ts';
import { needTool, runTool } from './tools.ts';

export interface BootFiles {
  readonly kernel: string;
  readonly initrd: string | undefined;
  readonly append: string;
}

const SUPERBLOCK_MAGIC_AT = 1024 + 56;
const FILE_BYTES_MAX = 512 << 20;
const MEMORY_BYTES_MAX = 2 ** 30;
const CPU_SECONDS_MAX = 60;
const APPEND_CHARACTERS_MAX = 1500;
const KERNEL = /^vmlinuz-([A-Za-z0-9][A-Za-z0-9._+~-]{0,100})$/;
/** Of the release of the kernel. */
const INITRDS = [
  (release: string) => `initrd.img-${release}`,
  (release: string) => `initramfs-${release}.img`,
];
const GRUB_FOLDERS = ['grub', 'grub2'];

interface FileSystem {
  readonly partition: Partition | undefined;
  /** As debugfs takes it. */
  readonly device: string;
}

/** What holds the kernel: /boot of a root file system, or a file system of its own that is mounted there. */
interface BootFolder {
  readonly fileSystem: FileSystem;
  readonly folder: '/boot' | '/';
  readonly names: ReadonlySet<string>;
}

/**
 * Writes the files of the newest kernel in the raw disk `disk` into `folder`. AppErrors: `bad_image` when there is none,
 * `tool_missing`, `job_failed`, `canceled`.
 */
export async function takeBootFiles(disk: string, folder: string, signal?: AbortSignal): Promise<BootFiles> {
  const debugfs = new Debugfs(folder, signal);
  const fileSystems = await fileSystemsOf(disk);
  const boot = await findBoot(debugfs, fileSystems);
  if (boot === undefined) throw noKernel(fileSystems.length);
  const release = newest([...boot.names].flatMap((name) => KERNEL.exec(name)?.[1] ?? []));
  const kernelName = `vmlinuz-${release}`;
  const initrdName = INITRDS.map((nameOf) => nameOf(release)).find((name) => boot.names.has(name));
  const at = (name: string): string => path.posix.join(boot.folder, name);
  const kernel = await debugfs.dump(boot.fileSystem, at(kernelName), 'kernel');
  const initrd =
    initrdName === undefined ? undefined : await debugfs.dump(boot.fileSystem, at(initrdName), 'initrd');
  const options = await grubOptions(debugfs, boot, kernelName);
  return { kernel, initrd, append: await commandLine(debugfs, boot, fileSystems, options) };
}

async function fileSystemsOf(disk: string): Promise<FileSystem[]> {
  const source = await openSource(disk, { format: 'raw' });
  const isExt = async (offset: number): Promise<boolean> => {
    const magic = Buffer.alloc(2);
    if (offset + SUPERBLOCK_MAGIC_AT + 2 > source.sizeBytes) return false;
    await source.read(offset + SUPERBLOCK_MAGIC_AT, magic);
    return magic.readUInt16LE(0) === 0xef53;
  };
  try {
    const found: FileSystem[] = [];
    for (const partition of await readPartitions(source)) {
      const { offset } = partition;
      if (await isExt(offset)) found.push({ partition, device: `${disk}?offset=${offset}` });
    }
    return found.length === 0 && (await isExt(0)) ? [{ partition: undefined, device: disk }] : found;
  } finally {
    await source.close();
  }
}

async function findBoot(
  debugfs: Debugfs,
  fileSystems: readonly FileSystem[],
): Promise<BootFolder | undefined> {
  for (const fileSystem of fileSystems) {
    for (const folder of ['/boot', '/'] as const) {
      const names = await debugfs.files(fileSystem, folder);
      if ([...names].some((name) => KERNEL.test(name))) return { fileSystem, folder, names };
    }
  }
  return undefined;
}

function newest(releases: readonly string[]): string {
  const order = new Intl.Collator('en', { numeric: true });
  // INVARIANT: called with the kernels of a folder that has one.
  return [...releases].sort(order.compare).at(-1)!;
}

/** The options that GRUB gives the kernel in its first menu entry with it, if it has one. */
async function grubOptions(debugfs: Debugfs, boot: BootFolder, kernel: string): Promise<string[]> {
  for (const grub of GRUB_FOLDERS) {
    const folder = path.posix.join(boot.folder, grub);
    if (!(await debugfs.files(boot.fileSystem, folder)).has('grub.cfg')) continue;
    const file = await debugfs.dump(boot.fileSystem, `${folder}/grub.cfg`, 'grub.cfg');
    for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
      const [, image = '', options = ''] = /^\s*linux(?:16|efi)?\s+(\S+)\s*(.*)$/.exec(line) ?? [];
      if (path.posix.basename(image) === kernel) return optionWords(options);
    }
  }
  return [];
}

/** Without variables of GRUB, and what no command line has. */
function optionWords(options: string): string[] {
  const words = options.split(/\s+/).filter((word) => /^[\x21-\x7e]+$/.test(word) && !word.includes('$'));
  while (words.join(' ').length > APPEND_CHARACTERS_MAX) words.pop();
  return words;
}

async function commandLine(
  debugfs: Debugfs,
  boot: BootFolder,
  fileSystems: readonly FileSystem[],
  options: readonly string[],
): Promise<string> {
  const words = [...options];
  if (!words.some((word) => word.startsWith('root='))) {
    const root = boot.folder === '/boot' ? boot.fileSystem : await findRoot(debugfs, fileSystems);
    words.unshift(`root=/dev/vda${root?.partition?.number ?? ''}`);
    if (!words.includes('ro') && !words.includes('rw')) words.push('ro');
  }
  if (!words.some((word) => word.startsWith('console=ttyS'))) words.push('console=ttyS0');
  return words.join(' ');
}

async function findRoot(
  debugfs: Debugfs,
  fileSystems: readonly FileSystem[],
): Promise<FileSystem | undefined> {
  for (const fileSystem of fileSystems) {
    if ((await debugfs.files(fileSystem, '/etc')).has('fstab')) return fileSystem;
  }
  return undefined;
}

function noKernel(fileSystems: number): AppError {
  const where =
    fileSystems === 0 ? 'no ext2, ext3 or ext4 file system' : 'no /boot/vmlinuz-* in its ext file systems';
  return new AppError('bad_image', `the disk has ${where} to take a kernel from`, {
    field: 'kernel',
    remedy: 'give the kernel, and the initial RAM disk if there is one, as files of their own',
  });
}

class Debugfs {
  readonly #folder: string;
  readonly #signal: AbortSignal | undefined;

  constructor(folder: string, signal: AbortSignal | undefined) {
    this.#folder = folder;
    this.#signal = signal;
  }

  /** Names of the regular files in a folder; none when there is no such folder. */
  async files({ device }: FileSystem, folder: string): Promise<ReadonlySet<string>> {
    const names = new Set<string>();
    for (const line of (await this.#run(device, `ls -p ${folder}`)).split('\n')) {
      const [, , mode = '', , , name = ''] = line.split('/');
      if (mode.startsWith('10') && /^[\x21-\x7e]+$/.test(name)) names.add(name);
    }
    return names;
  }

  /** Copies a file out of the file system, to `name` in the folder. */
  async dump({ device }: FileSystem, file: string, name: string): Promise<string> {
    const to = path.join(this.#folder, name);
    await this.#run(device, `dump ${file} ${name}`);
    const stat = fs.statSync(to, { throwIfNoEntry: false });
    if (stat !== undefined && stat.size > 0) return to;
    throw new AppError('bad_image', `${file} cannot be read out of the disk: its file system is damaged`, {
      field: 'disk',
      remedy: 'check the file system with e2fsck, or give the kernel as a file of its own',
    });
  }

  #run(device: string, command: string): Promise<string> {
    const debugfs = needTool('debugfs', 'e2fsprogs');
    // Units of ulimit: 512 bytes, KiB, seconds. Only a shell can set them.
    const limits = `ulimit -f ${FILE_BYTES_MAX / 512} -v ${MEMORY_BYTES_MAX / 1024} -t ${CPU_SECONDS_MAX}`;
    const script = limits.replaceAll(/ (-[vt])/g, ' && ulimit $1');
    return runTool('/bin/sh', ['-c', `${script} && exec "$@"`, 'sh', debugfs, '-R', command, device], {
      cwd: this.#folder,
      signal: this.#signal,
    });
  }
}
