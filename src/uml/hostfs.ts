/** UML's hostfs: `hostfs=ROOT[,append]` (fs/hostfs/hostfs_kern.c), here a share of the host's. */
import { wrong } from './wrong.ts';

/** What the guest mounts with `mount -t 9p -o trans=virtio hostfs FOLDER`. */
export const HOSTFS_TAG = 'hostfs';

export interface Hostfs {
  readonly root: string;
  /** Every write is at the end of its file. */
  readonly append: boolean;
}

/** What follows the `=`. Throws AppError `invalid_input`. */
export function parseHostfs(value: string): Hostfs {
  const [root = '', ...settings] = value.split(',');
  if (root === '')
    throw wrong(`hostfs=${value}`, 'names no folder', 'write hostfs=FOLDER or hostfs=FOLDER,append');
  const unknown = settings.find((setting) => setting !== 'append');
  if (unknown === undefined) return { root, append: settings.length > 0 };
  throw wrong(`hostfs=${value}`, `has a setting ${unknown} that there is not`, 'the one setting is append');
}
