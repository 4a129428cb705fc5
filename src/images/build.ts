/**
 * Builds the default guest image without root: Debian's cloud kernel and static busybox, obtained with the host's apt,
 * an ext4 root file system made by mke2fs, and a small initramfs that loads the disk's driver.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import { fileError } from '../storage/errors.ts';
import { Apt } from './apt.ts';
import { decompressModules, readModules } from './modules.ts';
import { buildInitramfs, layOutRoot, makeExt4 } from './rootfs.ts';
import { rootfsTools, unpack } from './rootfs-tools.ts';
import type { Image, ImageStore } from './store.ts';

export type BuildPhase = 'resolve' | 'download' | 'unpack' | 'filesystem' | 'import';

/** `phase` is the work at hand, `fraction` how much of the whole build is done, 0 to 1. */
export interface BuildProgress {
  readonly phase: BuildPhase;
  /** For people. */
  readonly label: string;
  readonly fraction: number;
}

export interface BuildOptions {
  /** Debian suite (`bookworm`, `trixie`); the host's own by default. */
  readonly suite?: string | undefined;
  readonly name?: string | undefined;
  /** `cloud` by default. */
  readonly kernel?: KernelFlavour | undefined;
  /** Of the root file system; sparse. 512 MiB by default, at least 256 MiB. */
  readonly diskBytes?: number | undefined;
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The command line of the default image. quiet: every character on an emulated serial port costs an exit (the guest's rcS raises
 * the console's level again after boot, so that SysRq answers show). cryptomgr.notests: the self-tests of the kernel's ciphers cost
 * emulated seconds. mitigations=off: the emulated CPU does not speculate. tsc=reliable, no_timer_check: the clocks are the host's.
 */
export const DEFAULT_APPEND =
  'console=ttyS0 root=/dev/vda rw quiet sysrq_always_enabled no_timer_check tsc=reliable mitigations=off cryptomgr.notests';

/** Debian's kernels: the one for clouds boots fastest, the generic one has drivers for everything, 9P among it. */
const KERNEL_PACKAGES = { cloud: 'linux-image-cloud-amd64', generic: 'linux-image-amd64' } as const;
export type KernelFlavour = keyof typeof KERNEL_PACKAGES;
const BUSYBOX_PACKAGE = 'busybox-static';
const DISK_BYTES = 512 << 20;
const DISK_BYTES_MIN = 256 << 20;
const DISK_BYTES_MAX = 2 ** 40;

/** Where each phase begins, in fractions of the whole: as measured, with some seconds for the network. */
const PHASES: Readonly<
  Record<BuildPhase, { readonly label: string; readonly from: number; readonly to: number }>
> = {
  resolve: { label: 'asking apt for packages', from: 0, to: 0.1 },
  download: { label: 'downloading Debian packages', from: 0.1, to: 0.55 },
  unpack: { label: 'unpacking packages', from: 0.55, to: 0.7 },
  filesystem: { label: 'making the root file system', from: 0.7, to: 0.85 },
  import: { label: 'storing and hashing the image', from: 0.85, to: 1 },
};

/**
 * Builds the default image into `store`. It needs apt, dpkg and the network; mke2fs and debugfs are fetched when the host lacks them.
 * AppErrors: `tool_missing`, `job_failed`, `disk_full`, `io_error`, `invalid_input`, `canceled`.
 */
export async function buildDefaultImage(store: ImageStore, options: BuildOptions = {}): Promise<Image> {
  const diskBytes = options.diskBytes ?? DISK_BYTES;
  if (!(diskBytes >= DISK_BYTES_MIN && diskBytes <= DISK_BYTES_MAX && diskBytes % 4096 === 0)) {
    throw new AppError('invalid_input', `a root disk of ${diskBytes} bytes cannot be built`, {
      field: 'disk_bytes',
      remedy: 'give a multiple of 4096 between 256 MiB and 1 TiB',
    });
  }
  const folder = store.draftFolder();
  try {
    return await build(store, folder, diskBytes, options);
  } catch (error) {
    throw fileError(error, 'image', 'cannot build the image');
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

async function build(
  store: ImageStore,
  folder: string,
  diskBytes: number,
  options: BuildOptions,
): Promise<Image> {
  const { signal } = options;
  const report = (phase: BuildPhase, fraction: number): void => {
    const { label, from, to } = PHASES[phase];
    options.onProgress?.({ phase, label, fraction: from + (to - from) * fraction });
  };
  const subfolder = (name: string): string => {
    const made = path.join(folder, name);
    fs.mkdirSync(made);
    return made;
  };

  report('resolve', 0);
  const metaPackage = KERNEL_PACKAGES[options.kernel ?? 'cloud'];
  const apt = await Apt.open(subfolder('packages'), metaPackage, options.suite, signal);
  const kernelPackage = await versionedKernel(apt, metaPackage);

  report('download', 0);
  const packages = await apt.download([kernelPackage, BUSYBOX_PACKAGE], (fraction) =>
    report('download', fraction),
  );

  report('unpack', 0);
  const unpacked = subfolder('unpacked');
  await unpack(packages, unpacked, signal);
  const tools = await rootfsTools(subfolder('tools'), signal);
  const guest = findParts(unpacked);
  report('unpack', 0.5);
  await decompressModules(guest.modulesFolder, guest.busybox, signal);
  const modules = await readModules(guest.modulesFolder);
  const initrd = path.join(folder, 'initrd');
  fs.writeFileSync(initrd, buildInitramfs(fs.readFileSync(guest.busybox), guest.modulesFolder, modules));
  const root = subfolder('root');
  await layOutRoot({ folder: root, busybox: guest.busybox, modulesFolder: guest.modulesFolder, modules });

  report('filesystem', 0);
  const disk = path.join(folder, 'disk');
  await makeExt4(tools, root, disk, diskBytes, signal);

  report('import', 0);
  const release = path.basename(guest.modulesFolder);
  return store.import(
    { kernel: guest.kernel, initrd, disk, name: options.name ?? `debian-${release}`, append: DEFAULT_APPEND },
    { onProgress: (fraction) => report('import', fraction), signal },
  );
}

/** `metaPackage` is a name for the current versioned package. */
async function versionedKernel(apt: Apt, metaPackage: string): Promise<string> {
  const name = (await apt.dependencies(metaPackage)).find((dependency) => /^linux-image-\d/.test(dependency));
  if (name !== undefined) return name;
  throw new AppError('job_failed', `${metaPackage} depends on no kernel`, { field: 'image' });
}

interface GuestParts {
  readonly kernel: string;
  readonly busybox: string;
  readonly modulesFolder: string;
}

/** Debian 12 has lib/modules and bin/busybox, later releases have them below usr. */
function findParts(unpacked: string): GuestParts {
  const kernel = fs.readdirSync(path.join(unpacked, 'boot')).find((name) => name.startsWith('vmlinuz-'));
  const existing = (...names: string[]): string | undefined =>
    names.map((name) => path.join(unpacked, name)).find((file) => fs.existsSync(file));
  const busybox = existing('bin/busybox', 'usr/bin/busybox');
  const allModules = existing('lib/modules', 'usr/lib/modules');
  const release = kernel?.slice('vmlinuz-'.length);
  if (kernel === undefined || release === undefined || busybox === undefined || allModules === undefined) {
    throw new AppError('job_failed', 'the Debian packages lack the kernel, its modules or busybox', {
      field: 'image',
    });
  }
  return {
    kernel: path.join(unpacked, 'boot', kernel),
    busybox,
    modulesFolder: path.join(allModules, release),
  };
}
