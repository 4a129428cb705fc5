/** Which folders may take forever to answer. */
import { readFileSync } from 'node:fs';

/** Types of file systems whose calls end: those of disks and of memory. */
const LOCAL = new Set(
  'bcachefs btrfs devtmpfs erofs exfat ext2 ext3 ext4 f2fs iso9660 jfs nilfs2 ntfs3 overlay ramfs reiserfs squashfs tmpfs udf vfat xfs zfs'.split(
    ' ',
  ),
);

/**
 * Is it, or something that is mounted in it, on a file system of another host or of a program (NFS, SMB, FUSE, …)? `mountinfo`
 * is the text of that file, proc(5).
 */
export function mayHang(folder: string, mountinfo = readFileSync('/proc/self/mountinfo', 'utf8')): boolean {
  const mounts = mountinfo
    .trim()
    .split('\n')
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      return { at: unescaped(before.split(' ')[4] ?? ''), type: after.split(' ')[0] ?? '' };
    });
  const above = mounts.filter(({ at }) => isWithin(folder, at));
  const depth = Math.max(...above.map(({ at }) => at.length));
  // Of several at one place the last is seen.
  const own = above.findLast(({ at }) => at.length === depth);
  return [own, ...mounts.filter(({ at }) => at !== folder && isWithin(at, folder))].some(
    (mount) => mount !== undefined && !LOCAL.has(mount.type),
  );
}

function isWithin(file: string, folder: string): boolean {
  return file === folder || file.startsWith(folder === '/' ? folder : `${folder}/`);
}

function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
