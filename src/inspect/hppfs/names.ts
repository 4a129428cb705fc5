/** Where in a /proc something is, by the kernel's own tree of names (struct dentry, include/linux/dcache.h). */
import type { LinuxKernel } from '../kernel.ts';

/** include/uapi/linux/magic.h */
export const PROC_SUPER_MAGIC = 0x9fa0n;
const DEPTH_MAX = 32;
const NAME_BYTES_MAX = 255;

/** A name of procfs. */
export interface ProcName {
  /** Without links; '' for the root. */
  readonly path: string;
  /** Address of the struct pid_namespace whose numbers this procfs has. */
  readonly namespace: bigint;
}

/** Undefined for a name of another file system. */
export function procName(kernel: LinuxKernel, dentry: bigint): ProcName | undefined {
  const superBlock = kernel.u64('dentry', 'd_sb', dentry);
  if (kernel.u64('super_block', 's_magic', superBlock) !== PROC_SUPER_MAGIC) return undefined;
  const parts: string[] = [];
  let at = dentry;
  for (let depth = 0; depth < DEPTH_MAX; depth++) {
    const parent = kernel.u64('dentry', 'd_parent', at);
    if (parent === at) return { path: parts.reverse().join('/'), namespace: namespaceOf(kernel, superBlock) };
    parts.push(lastNameOf(kernel, at));
    at = parent;
  }
  return undefined;
}

/** Its name in its folder. */
export function lastNameOf(kernel: LinuxKernel, dentry: bigint): string {
  return nameText(kernel, kernel.u64('dentry', 'd_name.name', dentry));
}

/** Of an open file (struct file); 0 for none. */
export function dentryOf(kernel: LinuxKernel, file: bigint): bigint {
  return kernel.u64('file', 'f_path.dentry', file);
}

/** The same as `procName` of an open file. */
export function procNameOfFile(kernel: LinuxKernel, file: bigint): ProcName | undefined {
  const dentry = dentryOf(kernel, file);
  return dentry === 0n ? undefined : procName(kernel, dentry);
}

/** Until 5.8 the file system had nothing else to know. */
function namespaceOf(kernel: LinuxKernel, superBlock: bigint): bigint {
  const info = kernel.u64('super_block', 's_fs_info', superBlock);
  return kernel.types.has('proc_fs_info', 'pid_ns') ? kernel.u64('proc_fs_info', 'pid_ns', info) : info;
}

/** A name of bytes; procfs has no others than ASCII. */
export function nameText(kernel: LinuxKernel, address: bigint, length = NAME_BYTES_MAX): string {
  return kernel.memory.text(address, length, 'latin1');
}
