/** mke2fs and debugfs: the host's, or those of the e2fsprogs package unpacked in a private folder. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { Apt } from './apt.ts';
import { findTool, needTool, runTool } from './tools.ts';

export interface RootfsTools {
  readonly mke2fs: string;
  readonly debugfs: string;
  /** Environment that they need. */
  readonly env: Readonly<Record<string, string>>;
}

/** Containers often lack e2fsprogs; then the package and its libraries are fetched as the guest's packages are. */
export async function rootfsTools(folder: string, signal: AbortSignal | undefined): Promise<RootfsTools> {
  const mke2fs = findTool('mke2fs');
  const debugfs = findTool('debugfs');
  if (mke2fs !== undefined && debugfs !== undefined) return { mke2fs, debugfs, env: {} };
  // The host's own suite, whatever the guest's: these run here.
  const apt = await Apt.open(folder, 'e2fsprogs', undefined, signal);
  const libraries = (await apt.dependencies('e2fsprogs')).filter((name) =>
    /^lib(ext2fs|ss|com-err|blkid|uuid)/.test(name),
  );
  const packages = await apt.download(['e2fsprogs', ...libraries], () => undefined);
  await unpack(packages, folder, signal);
  const find = (name: string): string =>
    ['usr/sbin', 'sbin'].map((bin) => path.join(folder, bin, name)).find((file) => fs.existsSync(file)) ??
    needTool(name, 'e2fsprogs');
  const libraryFolders = ['usr/lib', 'lib'].flatMap((lib) => librariesIn(path.join(folder, lib)));
  const config = path.join(folder, 'etc/mke2fs.conf');
  return {
    mke2fs: find('mke2fs'),
    debugfs: find('debugfs'),
    env: {
      LD_LIBRARY_PATH: libraryFolders.join(':'),
      ...(fs.existsSync(config) && { MKE2FS_CONFIG: config }),
    },
  };
}

function librariesIn(folder: string): string[] {
  if (!fs.existsSync(folder)) return [];
  return fs
    .readdirSync(folder)
    .flatMap((name) => (name.includes('-linux-gnu') ? [path.join(folder, name)] : []));
}

/** Unpacks packages into a folder, without running their scripts. */
export async function unpack(
  packages: readonly string[],
  folder: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const dpkgDeb = needTool('dpkg-deb', 'dpkg');
  for (const file of packages) await runTool(dpkgDeb, ['-x', file, folder], { signal });
}
