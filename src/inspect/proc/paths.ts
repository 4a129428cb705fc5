/** Where a file is in a guest's tree of mounts, as a process sees it (fs/d_path.c). */
import { nameText } from '../hppfs/names.ts';
import type { LinuxKernel } from '../kernel.ts';
import type { Task } from '../tasks.ts';

const STEPS_MAX = 4096;

/** Addresses of a struct mount and of a struct dentry in it. */
export interface Place {
  readonly mount: bigint;
  readonly dentry: bigint;
}

/** What a struct path says; `field` is its name in `struct`. */
export function placeAt(kernel: LinuxKernel, struct: string, field: string, base: bigint): Place {
  const inner = BigInt(kernel.types.offset('mount', 'mnt'));
  return {
    mount: kernel.u64(struct, `${field}.mnt`, base) - inner,
    dentry: kernel.u64(struct, `${field}.dentry`, base),
  };
}

/** The root folder of a process. */
export function rootOf(kernel: LinuxKernel, task: Task): Place {
  return placeAt(kernel, 'fs_struct', 'root', kernel.u64('task_struct', 'fs', task.address));
}

/** Bytes as Latin-1. `isBelow`: it is below `root`; if not, the path is from where it has its end. */
export function pathOf(
  kernel: LinuxKernel,
  root: Place,
  { mount, dentry }: Place,
): { readonly text: string; readonly isBelow: boolean } {
  const names: string[] = [];
  let [at, inMount] = [dentry, mount];
  for (let steps = 0; steps < STEPS_MAX; steps++) {
    if (at === root.dentry && inMount === root.mount) return { text: joined(names), isBelow: true };
    const parent = kernel.u64('dentry', 'd_parent', at);
    if (at === kernel.u64('mount', 'mnt.mnt_root', inMount)) {
      const above = kernel.u64('mount', 'mnt_parent', inMount);
      if (above === inMount) break;
      at = kernel.u64('mount', 'mnt_mountpoint', inMount);
      inMount = above;
    } else if (parent === at) break;
    else {
      names.push(nameText(kernel, kernel.u64('dentry', 'd_name.name', at)));
      at = parent;
    }
  }
  return { text: joined(names), isBelow: false };
}

const joined = (names: readonly string[]): string => `/${names.toReversed().join('/')}`;

/** Was its name removed? */
export function isUnlinked(kernel: LinuxKernel, dentry: bigint): boolean {
  return (
    kernel.u64('dentry', 'd_hash.pprev', dentry) === 0n && kernel.u64('dentry', 'd_parent', dentry) !== dentry
  );
}

/** The characters as octal numbers, as seq_file writes them. */
export function escaped(text: string, characters: string): string {
  return [...text]
    .map((one) => (characters.includes(one) ? `\\${one.charCodeAt(0).toString(8).padStart(3, '0')}` : one))
    .join('');
}
