/**
 * A disk with an unchanged Debian with systemd and cloud-init, as Debian's cloud images have them. Built once by mmdebstrap, as root,
 * kept in build/cloud-guest.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { runTool } from '../../src/images/tools.ts';
import { requireTool, skipTest } from './tools.ts';

const SUITE = 'bookworm';
const PACKAGES = [
  ...['linux-image-cloud-amd64', 'initramfs-tools', 'systemd-sysv', 'udev', 'cloud-init', 'ifupdown'],
  ...['isc-dhcp-client', 'iproute2', 'openssh-server'],
];
/** Work of its own that a guest has no use for in a test. */
const TIMERS = ['apt-daily', 'apt-daily-upgrade', 'dpkg-db-backup', 'e2scrub_all', 'fstrim', 'logrotate'];
const DISK_SIZE = '1200M';
const SELF = fileURLToPath(import.meta.url);
const CACHE = path.join(path.dirname(SELF), '../../build/cloud-guest');

export interface CloudGuest {
  readonly folder: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly disk: string;
}

/** The current test is skipped where it cannot be built. */
export async function cloudGuest(): Promise<CloudGuest> {
  const key = createHash('sha256').update(fs.readFileSync(SELF)).digest('hex').slice(0, 16);
  const folder = path.join(CACHE, key);
  if (!fs.existsSync(folder)) {
    const draft = `${folder}.${process.pid}`;
    fs.rmSync(CACHE, { recursive: true, force: true });
    fs.mkdirSync(draft, { recursive: true });
    await build(draft);
    fs.renameSync(draft, folder);
  }
  const file = (name: string): string => path.join(folder, name);
  return { folder, kernel: file('vmlinuz'), initrd: file('initrd'), disk: file('disk') };
}

async function build(folder: string): Promise<void> {
  if (process.getuid?.() !== 0) skipTest('mmdebstrap needs root here');
  const mmdebstrap = requireTool('mmdebstrap', 'mmdebstrap');
  const root = path.join(folder, 'root');
  try {
    await runTool(mmdebstrap, ['--variant=minbase', `--include=${PACKAGES.join()}`, SUITE, root]);
  } catch (error) {
    fs.rmSync(folder, { recursive: true, force: true });
    skipTest(`mmdebstrap makes no ${SUITE} here: ${String(error).slice(-300)}`);
  }
  const at = (name: string): string => path.join(root, name);
  for (const timer of TIMERS) fs.symlinkSync('/dev/null', at(`etc/systemd/system/${timer}.timer`));
  // As an image has it: each guest makes its own.
  fs.writeFileSync(at('etc/machine-id'), '');
  for (const name of fs.readdirSync(at('etc/ssh')))
    if (name.startsWith('ssh_host_')) fs.rmSync(at(`etc/ssh/${name}`));
  const boot = fs.readdirSync(at('boot'));
  for (const [kept, start] of [
    ['vmlinuz', 'vmlinuz-'],
    ['initrd', 'initrd.img-'],
  ] as const)
    fs.copyFileSync(at(`boot/${boot.find((name) => name.startsWith(start))}`), path.join(folder, kept));
  const mke2fs = requireTool('mke2fs', 'e2fsprogs');
  await runTool(mke2fs, ['-q', '-F', '-t', 'ext4', '-d', root, path.join(folder, 'disk'), DISK_SIZE]);
  fs.rmSync(root, { recursive: true });
}
