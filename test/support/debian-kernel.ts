/** Stock generic kernels of Debian with the modules that a test wants, in an initial RAM disk with busybox. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AppError } from '../../src/contracts/errors.ts';
import { Apt } from '../../src/images/apt.ts';
import { type CpioEntry, cpioArchive } from '../../src/images/cpio.ts';
import { decompressModules, loadOrder, readModules } from '../../src/images/modules.ts';
import { runTool } from '../../src/images/tools.ts';
import { requireTool, skipTest } from './tools.ts';

const CACHE = fileURLToPath(new URL('../../build/test-generic', import.meta.url));
const META_PACKAGE = 'linux-image-amd64';
/** What tests of devices need beside what is built in. */
const MODULES = [
  'virtio_pci',
  'virtio_blk',
  'virtio_console',
  '9pnet_virtio',
  '9p',
  'i6300esb',
  'pvpanic-mmio',
  'virtio_net',
  'isofs',
  'virtio_balloon',
];
/** A cache of other modules is none. */
const CACHE_KEY = createHash('sha256').update(MODULES.join()).digest('hex').slice(0, 8);

export interface DebianKernel {
  readonly kernel: string;
  /** Files of the modules, in the order to load them. */
  readonly modules: readonly string[];
}

/** The kernel of a suite; the current test is skipped when apt cannot deliver it. */
export async function debianKernel(suite: 'bookworm' | 'trixie'): Promise<DebianKernel> {
  try {
    return await cachedKernel(suite);
  } catch (error) {
    const known = error instanceof AppError && (error.code === 'job_failed' || error.code === 'tool_missing');
    if (!known) throw error;
    return skipTest(`apt does not deliver ${META_PACKAGE} of ${suite}: ${error.message.slice(0, 200)}`);
  }
}

async function cachedKernel(suite: string): Promise<DebianKernel> {
  const folder = join(CACHE, `${suite}-${CACHE_KEY}`);
  if (!existsSync(folder)) await download(suite, folder);
  const order = readFileSync(join(folder, 'order'), 'utf8').trim().split('\n');
  return { kernel: join(folder, 'vmlinuz'), modules: order.map((name) => join(folder, name)) };
}

async function download(suite: string, folder: string): Promise<void> {
  const draft = `${folder}.${process.pid}`;
  const root = join(draft, 'root');
  mkdirSync(root, { recursive: true });
  try {
    const apt = await Apt.open(draft, META_PACKAGE, suite);
    const name = (await apt.dependencies(META_PACKAGE)).find((item) => item.startsWith('linux-image-'));
    if (name === undefined) throw new AppError('job_failed', `apt-cache names no kernel for ${META_PACKAGE}`);
    const [file] = await apt.download([name], () => {});
    await runTool('dpkg-deb', ['-x', file!, root]);
    const kernel = readdirSync(join(root, 'boot')).find((entry) => entry.startsWith('vmlinuz-'))!;
    const all = ['lib/modules', 'usr/lib/modules']
      .map((path) => join(root, path))
      .find((path) => existsSync(path))!;
    const modulesFolder = join(all, kernel.slice('vmlinuz-'.length));
    await decompressModules(modulesFolder, requireTool('busybox', 'busybox-static'), undefined);
    const order = loadOrder(await readModules(modulesFolder), MODULES);
    const kept = join(draft, 'kept');
    mkdirSync(kept);
    renameSync(join(root, 'boot', kernel), join(kept, 'vmlinuz'));
    for (const module of order)
      renameSync(join(modulesFolder, module.file), join(kept, basename(module.file)));
    writeFileSync(join(kept, 'order'), order.map((module) => `${basename(module.file)}\n`).join(''));
    // Another test's process may have been faster.
    if (!existsSync(folder)) renameSync(kept, folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/** A machine of 256 MiB that boots an archive, with a console on ttyS0 and nothing else. */
export function guestConfig({ kernel }: DebianKernel, initrd: string) {
  return {
    ...{ name: 'guest', memoryBytes: 256 << 20, kernel, initrd },
    ...{ append: 'console=ttyS0 quiet panic=-1', disks: [], nics: [] },
  };
}

/** An archive with busybox, the modules, `programs`, and an init that loads modules, mounts the usual, and runs `script`. */
export function initrdWith(
  { modules }: DebianKernel,
  script: string,
  programs: Readonly<Record<string, Uint8Array>> = {},
): Buffer {
  const busybox = requireTool('busybox', 'busybox-static');
  const init = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in ${modules.map((file) => basename(file)).join(' ')}; do insmod /modules/$module; done
${script}
poweroff -f
`;
  const folders = ['bin', 'proc', 'sys', 'dev', 'tmp', 'mnt', 'modules'];
  const entries: CpioEntry[] = [
    ...folders.map((path): CpioEntry => ({ kind: 'folder', path })),
    { kind: 'file', path: 'bin/busybox', content: readFileSync(busybox), executable: true },
    { kind: 'file', path: 'init', content: Buffer.from(init), executable: true },
    ...modules.map(
      (file): CpioEntry => ({
        kind: 'file',
        path: `modules/${basename(file)}`,
        content: readFileSync(file),
        executable: false,
      }),
    ),
    ...Object.entries(programs).map(
      ([name, content]): CpioEntry => ({
        kind: 'file',
        path: name,
        content: Buffer.from(content),
        executable: true,
      }),
    ),
  ];
  return cpioArchive(entries);
}
