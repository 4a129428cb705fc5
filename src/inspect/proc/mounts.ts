/** /proc/PID/mounts (fs/proc_namespace.c), but for the options that file systems have of their own. */
import type { LinuxKernel } from '../kernel.ts';
import type { Task } from '../tasks.ts';
import { escaped, pathOf, rootOf } from './paths.ts';

const MOUNTS_MAX = 100_000;
const TEXT_MAX = 4096;
const SPECIAL = ' \t\n\\';
/** Of the names of devices and types. */
const MANGLED = `${SPECIAL}#`;
/** Bits of super_block.s_flags and of vfsmount.mnt_flags (include/linux/fs.h, mount.h). */
const SB_RDONLY = 1n;
const SB_OPTIONS = [
  [1n << 4n, 'sync'],
  [1n << 7n, 'dirsync'],
  [1n << 6n, 'mand'],
  [1n << 25n, 'lazytime'],
] as const;
const MNT_READONLY = 0x40;
const MNT_OPTIONS = [
  [0x01, 'nosuid'],
  [0x02, 'nodev'],
  [0x04, 'noexec'],
  [0x08, 'noatime'],
  [0x10, 'nodiratime'],
  [0x20, 'relatime'],
  [0x80, 'nosymfollow'],
] as const;
/** A reader's place in the list, and no mount. */
const MNT_CURSOR = 0x1000_0000;

export function mounts(task: Task, kernel: LinuxKernel): Buffer {
  const proxy = kernel.u64('task_struct', 'nsproxy', task.address);
  // A process that has ended.
  if (proxy === 0n) return Buffer.alloc(0);
  const root = rootOf(kernel, task);
  const lines: string[] = [];
  for (const mount of mountsOf(kernel, kernel.u64('nsproxy', 'mnt_ns', proxy))) {
    const flags = kernel.u32('mount', 'mnt.mnt_flags', mount);
    if ((flags & MNT_CURSOR) !== 0) continue;
    const dentry = kernel.u64('mount', 'mnt.mnt_root', mount);
    const { text, isBelow } = pathOf(kernel, root, { mount, dentry });
    if (!isBelow) continue;
    const superBlock = kernel.u64('mount', 'mnt.mnt_sb', mount);
    const words = [deviceOf(kernel, mount), escaped(text, SPECIAL), typeOf(kernel, superBlock)];
    lines.push(`${words.join(' ')} ${optionsOf(kernel, superBlock, flags)} 0 0\n`);
  }
  return Buffer.from(lines.join(''), 'latin1');
}

/** Since 6.8 they are in a tree, by their numbers; before that in a list. */
function mountsOf(kernel: LinuxKernel, namespace: bigint): Iterable<bigint> {
  if (kernel.types.has('mnt_namespace', 'list')) {
    const head = kernel.field('mnt_namespace', 'list', namespace);
    return kernel.list(head, 'mount', 'mnt_list', MOUNTS_MAX);
  }
  const found: bigint[] = [];
  const node = BigInt(kernel.types.offset('mount', 'mnt_node'));
  // In order, without recursion: the tree may be damaged.
  const above: bigint[] = [];
  let at = kernel.u64('mnt_namespace', 'mounts.rb_node', namespace);
  while ((at !== 0n || above.length > 0) && found.length < MOUNTS_MAX && above.length < MOUNTS_MAX) {
    if (at !== 0n) {
      above.push(at);
      at = kernel.u64('rb_node', 'rb_left', at);
    } else {
      const next = above.pop()!;
      found.push(next - node);
      at = kernel.u64('rb_node', 'rb_right', next);
    }
  }
  return found;
}

function deviceOf(kernel: LinuxKernel, mount: bigint): string {
  const name = kernel.u64('mount', 'mnt_devname', mount);
  return name === 0n ? 'none' : escaped(textAt(kernel, name), MANGLED);
}

function typeOf(kernel: LinuxKernel, superBlock: bigint): string {
  const type = kernel.u64('super_block', 's_type', superBlock);
  const own = textAt(kernel, kernel.u64('file_system_type', 'name', type));
  const sub = kernel.u64('super_block', 's_subtype', superBlock);
  return escaped(sub === 0n ? own : `${own}.${textAt(kernel, sub)}`, MANGLED);
}

function optionsOf(kernel: LinuxKernel, superBlock: bigint, flags: number): string {
  const all = kernel.u64('super_block', 's_flags', superBlock);
  const isReadOnly = (all & SB_RDONLY) !== 0n || (flags & MNT_READONLY) !== 0;
  return [
    isReadOnly ? 'ro' : 'rw',
    ...SB_OPTIONS.filter(([bit]) => (all & bit) !== 0n).map(([, name]) => name),
    ...MNT_OPTIONS.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name),
  ].join(',');
}

function textAt(kernel: LinuxKernel, address: bigint): string {
  return kernel.memory.bytesToNul(address, TEXT_MAX).toString('latin1');
}
