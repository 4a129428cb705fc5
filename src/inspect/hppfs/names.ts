/** Where in a /proc something is, by the kernel's own tree of names (struct dentry, include/linux/dcache.h). */
import type { LinuxKernel } from '../kernel.ts';

/** include/uapi/linux/magic.h */
const PROC_SUPER_MAGIC = 0x9fa0n;
const DEPTH_MAX = 32;
const NAME_BYTES_MAX = 255;

/** The path of a name of procfs, without links, '' for its root; undefined for a name of another file system. */
export function procPath(kernel: LinuxKernel, dentry: bigint): string | undefined {
  const superBlock = kernel.u64('dentry', 'd_sb', dentry);
  if (kernel.u64('super_block', 's_magic', superBlock) !== PROC_SUPER_MAGIC) return undefined;
  const parts: string[] = [];
  let at = dentry;
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    const parent = kernel.u64('dentry', 'd_parent', at);
    if (parent === at) return parts.reverse().join('/');
    parts.push(nameText(kernel, kernel.u64('dentry', 'd_name.name', at)));
    at = parent;
  }
  return undefined;
}

/** The same of an open file (struct file). */
export function procPathOfFile(kernel: LinuxKernel, file: bigint): string | undefined {
  const dentry = kernel.u64('file', 'f_path.dentry', file);
  return dentry === 0n ? undefined : procPath(kernel, dentry);
}

/** A name of bytes; procfs has no others than ASCII. */
export function nameText(kernel: LinuxKernel, address: bigint, length = NAME_BYTES_MAX): string {
  return kernel.memory.bytesToNul(address, length).toString('latin1');
}
