/** Which folders may take forever to answer. */
import { closeSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { ERRNO, Errno, hasChanged } from './libc.ts';

/** Types of file systems whose calls end: those of disks and of memory. */
const LOCAL = new Set(
  'bcachefs btrfs devtmpfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs nilfs2 ntfs3 overlay ramfs reiserfs squashfs tmpfs udf vfat xfs zfs'.split(
    ' ',
  ),
);

interface Mount {
  readonly at: string;
  readonly type: string;
}

const MOUNTINFO = '/proc/self/mountinfo';

/** A character for a byte, as names of files may have any. */
const readMounts = (): string => readFileSync(MOUNTINFO, 'latin1');
const bytewise = (path: string): string => Buffer.from(path, 'utf8').toString('latin1');
const mayHangOn = ({ type }: Mount): boolean => !LOCAL.has(type);

/**
 * Is it, or something that is mounted in it, on a file system of another host or of a program (NFS, SMB, FUSE, …)? `mountinfo`
 * is the text of that file, proc(5).
 */
export function mayHang(folder: string, mountinfo = readMounts()): boolean {
  const mounts = mountsFrom(mountinfo);
  const path = bytewise(folder);
  const above = mounts.filter(({ at }) => isWithin(path, at));
  const depth = Math.max(...above.map(({ at }) => at.length));
  // Of several at one place the last is seen.
  const own = above.findLast(({ at }) => at.length === depth);
  return [own, ...mountsIn(path, mounts)].some((mount) => mount !== undefined && mayHangOn(mount));
}

function mountsFrom(mountinfo: string): Mount[] {
  return mountinfo
    .trim()
    .split('\n')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      return { at: unescaped(before.split(' ')[4] ?? ''), type: after.split(' ')[0] ?? '' };
    });
}

const mountsIn = (folder: string, mounts: readonly Mount[]): Mount[] =>
  mounts.filter(({ at }) => at !== folder && isWithin(at, folder));

/**
 * What comes to be mounted in a folder that is served within a thread: names that lead to file systems whose calls may take forever are
 * not followed. That is known without asking them.
 */
export class LaterMounts {
  readonly #folder: string;
  readonly #mountinfo: number;
  /** Paths, a character for a byte. */
  #refused: ReadonlySet<string> = new Set();

  /** @param folder its real path */
  constructor(folder: string) {
    this.#folder = bytewise(folder);
    this.#mountinfo = openSync(MOUNTINFO, 'r');
    // What has been mounted before is known.
    hasChanged(this.#mountinfo);
  }

  /** Throws EREMOTE for such a name in a folder. */
  check(dir: number, name: Uint8Array): void {
    if (hasChanged(this.#mountinfo)) this.#look();
    if (this.#refused.size === 0) return;
    const folder = readlinkSync(`/proc/self/fd/${dir}`, { encoding: 'latin1' });
    const at = `${folder === '/' ? '' : folder}/${Buffer.from(name).toString('latin1').replace(/\0$/, '')}`;
    if (this.#refused.has(at)) throw new Errno(ERRNO.EREMOTE, 'mounted later');
  }

  close(): void {
    closeSync(this.#mountinfo);
  }

  #look(): void {
    const within = mountsIn(this.#folder, mountsFrom(readMounts()));
    this.#refused = new Set(within.filter(mayHangOn).map(({ at }) => at));
  }
}

function isWithin(file: string, folder: string): boolean {
  return file === folder || file.startsWith(folder === '/' ? folder : `${folder}/`);
}

function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
