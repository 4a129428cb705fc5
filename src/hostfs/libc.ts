/**
 * The file system calls that Node does not have: relative to a folder's descriptor, never through a symbolic link,
 * with names of any bytes and errno as a number. All are synchronous: an asynchronous foreign call would outlive a
 * worker that is terminated. Constants are those of x86-64 and, but for O_DIRECTORY and O_NOFOLLOW, of every other port.
 */
import koffi from 'koffi';

const IS_ARM = process.arch === 'arm64';
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  ACCMODE: 3,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DSYNC: 0o10000,
  DIRECTORY: IS_ARM ? 0o40000 : 0o200000,
  NOFOLLOW: IS_ARM ? 0o100000 : 0o400000,
  CLOEXEC: 0o2000000,
  SYNC: 0o4000000,
  PATH: 0o10000000,
} as const;
export const AT = { FDCWD: -100, SYMLINK_NOFOLLOW: 0x100, REMOVEDIR: 0x200, EMPTY_PATH: 0x1000 } as const;
export const S = {
  IFMT: 0o170000,
  IFIFO: 0o010000,
  IFDIR: 0o040000,
  IFREG: 0o100000,
  IFLNK: 0o120000,
  IFSOCK: 0o140000,
} as const;
export const LOCK = { GET: 36, SET: 37, READ: 0, WRITE: 1, UNLOCK: 2 } as const;
/** errno values that requests are answered with. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  EACCES: 13,
  EEXIST: 17,
  ENOTDIR: 20,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ELOOP: 40,
  EREMOTE: 66,
  EPROTO: 71,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
} as const;

const POLLFD_BYTES = 8;
const POLLPRI = 2;
const STATX_BASIC = 0x7ff;
const STATX_BYTES = 256;

/** A call failed, or a request is refused; `errno` is Linux's number. */
export class Errno extends Error {
  readonly errno: number;
  constructor(errno: number, what: string) {
    super(`${what}: errno ${errno}`);
    this.errno = errno;
  }
}

/** A file's name, NUL-terminated as the C library wants it. */
export type CName = Uint8Array;

interface Libc {
  openat(dir: number, name: CName, flags: number, kind: 'int', mode: number): number;
  close(fd: number): number;
  statx(dir: number, name: CName, flags: number, mask: number, into: Uint8Array): number;
  pread(fd: number, into: Uint8Array, length: number, offset: bigint): number;
  pwrite(fd: number, from: Uint8Array, length: number, offset: bigint): number;
  lseek(fd: number, offset: bigint, whence: number): number;
  getdents64(fd: number, into: Uint8Array, length: number): number;
  mkdirat(dir: number, name: CName, mode: number): number;
  mknodat(dir: number, name: CName, mode: number, device: number): number;
  symlinkat(target: CName, dir: number, name: CName): number;
  linkat(fromDir: number, from: CName, toDir: number, to: CName, flags: number): number;
  renameat(fromDir: number, from: CName, toDir: number, to: CName): number;
  unlinkat(dir: number, name: CName, flags: number): number;
  readlinkat(dir: number, name: CName, into: Uint8Array, length: number): number;
  chmod(name: CName, mode: number): number;
  fchmod(fd: number, mode: number): number;
  truncate(name: CName, length: bigint): number;
  fchownat(dir: number, name: CName, uid: number, gid: number, flags: number): number;
  utimensat(dir: number, name: CName, times: Uint8Array, flags: number): number;
  getxattr(name: CName, attribute: CName, into: Uint8Array, length: number): number;
  setxattr(name: CName, attribute: CName, from: Uint8Array, length: number, flags: number): number;
  removexattr(name: CName, attribute: CName): number;
  listxattr(name: CName, into: Uint8Array, length: number): number;
  fcntl(fd: number, command: number, kind: 'void *', lock: Uint8Array): number;
  poll(descriptors: Uint8Array, count: number, timeout: number): number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded !== undefined) return loaded;
  const library = koffi.load('libc.so.6');
  const func = (signature: string): unknown => library.func(signature);
  // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
  loaded = {
    openat: func('int openat(int dir, uint8_t *name, int flags, ...)'),
    close: func('int close(int fd)'),
    statx: func('int statx(int dir, uint8_t *name, int flags, uint32_t mask, uint8_t *into)'),
    pread: func('int64_t pread64(int fd, uint8_t *into, size_t length, int64_t offset)'),
    pwrite: func('int64_t pwrite64(int fd, uint8_t *from, size_t length, int64_t offset)'),
    lseek: func('int64_t lseek64(int fd, int64_t offset, int whence)'),
    getdents64: func('int64_t getdents64(int fd, uint8_t *into, size_t length)'),
    mkdirat: func('int mkdirat(int dir, uint8_t *name, uint32_t mode)'),
    mknodat: func('int mknodat(int dir, uint8_t *name, uint32_t mode, uint64_t device)'),
    symlinkat: func('int symlinkat(uint8_t *target, int dir, uint8_t *name)'),
    linkat: func('int linkat(int fromDir, uint8_t *from, int toDir, uint8_t *to, int flags)'),
    renameat: func('int renameat(int fromDir, uint8_t *from, int toDir, uint8_t *to)'),
    unlinkat: func('int unlinkat(int dir, uint8_t *name, int flags)'),
    readlinkat: func('int64_t readlinkat(int dir, uint8_t *name, uint8_t *into, size_t length)'),
    chmod: func('int chmod(uint8_t *name, uint32_t mode)'),
    fchmod: func('int fchmod(int fd, uint32_t mode)'),
    truncate: func('int truncate64(uint8_t *name, int64_t length)'),
    fchownat: func('int fchownat(int dir, uint8_t *name, uint32_t uid, uint32_t gid, int flags)'),
    utimensat: func('int utimensat(int dir, uint8_t *name, uint8_t *times, int flags)'),
    getxattr: func('int64_t getxattr(uint8_t *name, uint8_t *attribute, uint8_t *into, size_t length)'),
    setxattr: func(
      'int setxattr(uint8_t *name, uint8_t *attribute, uint8_t *from, size_t length, int flags)',
    ),
    removexattr: func('int removexattr(uint8_t *name, uint8_t *attribute)'),
    listxattr: func('int64_t listxattr(uint8_t *name, uint8_t *into, size_t length)'),
    fcntl: func('int fcntl(int fd, int command, ...)'),
    poll: func('int poll(uint8_t *descriptors, uint64_t count, int timeout)'),
  } as unknown as Libc;
  return loaded;
}

function check(what: string, result: number): number {
  if (result < 0) throw new Errno(koffi.errno(), what);
  return result;
}

export function cName(bytes: Uint8Array | string): CName {
  const raw = typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : bytes;
  const name = new Uint8Array(raw.length + 1);
  name.set(raw);
  return name;
}

export const EMPTY_NAME: CName = cName('');
export const DOT: CName = cName('.');
export const DOT_DOT: CName = cName('..');

/** The file that a descriptor is open on, as a name that leads to nothing else however it is renamed. */
export function fdPath(fd: number): CName {
  return cName(`/proc/self/fd/${fd}`);
}

export function openAt(dir: number, name: CName, flags: number, mode = 0): number {
  return check('openat', libc().openat(dir, name, flags | O.CLOEXEC | O.NOCTTY, 'int', mode));
}
/** What becomes of a descriptor that tells of changes by POLLPRI, as those of /proc/self/mountinfo do: was there one since the last call? */
export function hasChanged(fd: number): boolean {
  const descriptor = Buffer.alloc(POLLFD_BYTES);
  descriptor.writeInt32LE(fd, 0);
  descriptor.writeInt16LE(POLLPRI, 4);
  return check('poll', libc().poll(descriptor, 1, 0)) > 0;
}
export function closeFd(fd: number): void {
  libc().close(fd);
}

/** What statx(2) tells. Times as seconds and nanoseconds. */
export interface Stat {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly links: number;
  readonly inode: bigint;
  /** The file system's device number, as one number. */
  readonly device: number;
  readonly size: bigint;
  readonly blocks: bigint;
  /** In 9P's encoding (Linux's new_encode_dev). */
  readonly rdev: number;
  readonly accessed: Timestamp;
  readonly modified: Timestamp;
  readonly changed: Timestamp;
}
export interface Timestamp {
  readonly seconds: bigint;
  readonly nanoseconds: number;
}

const statBytes = Buffer.alloc(STATX_BYTES);
const time = (at: number): Timestamp => ({
  seconds: statBytes.readBigInt64LE(at),
  nanoseconds: statBytes.readUInt32LE(at + 8),
});

/** The offsets are those of struct statx, the same on every port. */
export function statAt(dir: number, name: CName, flags: number): Stat {
  check('statx', libc().statx(dir, name, flags, STATX_BASIC, statBytes));
  const b = statBytes;
  const [major, minor] = [b.readUInt32LE(128), b.readUInt32LE(132)];
  return {
    links: b.readUInt32LE(16),
    uid: b.readUInt32LE(20),
    gid: b.readUInt32LE(24),
    mode: b.readUInt16LE(28),
    inode: b.readBigUInt64LE(32),
    size: b.readBigUInt64LE(40),
    blocks: b.readBigUInt64LE(48),
    accessed: time(64),
    changed: time(96),
    modified: time(112),
    rdev: ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0,
    device: b.readUInt32LE(136) * 0x10_0000 + b.readUInt32LE(140),
  };
}

export function readAt(fd: number, into: Uint8Array, offset: bigint): number {
  return check('pread', libc().pread(fd, into, into.length, offset));
}
export function writeAt(fd: number, from: Uint8Array, offset: bigint): number {
  return check('pwrite', libc().pwrite(fd, from, from.length, offset));
}
export function seekTo(fd: number, offset: bigint): void {
  check('lseek', libc().lseek(fd, offset, 0));
}
/** Fills `into` with struct linux_dirent64; 0 at the end of the folder. */
export function readFolder(fd: number, into: Uint8Array): number {
  return check('getdents64', libc().getdents64(fd, into, into.length));
}
export function makeFolder(dir: number, name: CName, mode: number): void {
  check('mkdirat', libc().mkdirat(dir, name, mode));
}
export function makeNode(dir: number, name: CName, mode: number): void {
  check('mknodat', libc().mknodat(dir, name, mode, 0));
}
export function makeSymlink(target: CName, dir: number, name: CName): void {
  check('symlinkat', libc().symlinkat(target, dir, name));
}
/** The last component is not followed when it is a symbolic link. */
export function makeLink(fromDir: number, from: CName, toDir: number, to: CName): void {
  check('linkat', libc().linkat(fromDir, from, toDir, to, 0));
}
export function renameAt(fromDir: number, from: CName, toDir: number, to: CName): void {
  check('renameat', libc().renameat(fromDir, from, toDir, to));
}
export function unlinkAt(dir: number, name: CName, flags: number): void {
  check('unlinkat', libc().unlinkat(dir, name, flags));
}
export function readLinkAt(dir: number, name: CName, into: Uint8Array): number {
  return check('readlinkat', libc().readlinkat(dir, name, into, into.length));
}
/** Follows a symbolic link: for names of `fdPath` alone. */
export function changeMode(name: CName, mode: number): void {
  check('chmod', libc().chmod(name, mode));
}
export function changeModeOf(fd: number, mode: number): void {
  check('fchmod', libc().fchmod(fd, mode));
}
/** As `changeMode`. */
export function truncateFile(name: CName, length: bigint): void {
  check('truncate', libc().truncate(name, length));
}
/** 0xffffffff leaves an id as it is. */
export function changeOwner(dir: number, name: CName, uid: number, gid: number, flags: number): void {
  check('fchownat', libc().fchownat(dir, name, uid, gid, flags));
}

const UTIME = { NOW: 0x3fff_ffffn, OMIT: 0x3fff_fffen } as const;

/** A time to set: now, a given one, or as it is. */
export type NewTime = 'now' | 'same' | Timestamp;

export function changeTimes(
  dir: number,
  name: CName,
  accessed: NewTime,
  modified: NewTime,
  flags: number,
): void {
  const times = Buffer.alloc(32);
  [accessed, modified].forEach((value, index) => {
    const seconds = typeof value === 'string' ? 0n : value.seconds;
    const given =
      typeof value === 'string' ? UTIME[value === 'now' ? 'NOW' : 'OMIT'] : BigInt(value.nanoseconds);
    times.writeBigInt64LE(seconds, index * 16);
    times.writeBigInt64LE(given, index * 16 + 8);
  });
  check('utimensat', libc().utimensat(dir, name, times, flags));
}

/** As `changeMode`, as all calls about extended attributes. */
export function getAttribute(name: CName, attribute: CName, into: Uint8Array): number {
  return check('getxattr', libc().getxattr(name, attribute, into, into.length));
}
export function setAttribute(name: CName, attribute: CName, value: Uint8Array, flags: number): void {
  check('setxattr', libc().setxattr(name, attribute, value, value.length, flags));
}
export function removeAttribute(name: CName, attribute: CName): void {
  check('removexattr', libc().removexattr(name, attribute));
}
export function listAttributes(name: CName, into: Uint8Array): number {
  return check('listxattr', libc().listxattr(name, into, into.length));
}

/** A range of a file, as struct flock has it: `length` 0 reaches to the end of the file. */
export interface LockRange {
  readonly kind: number;
  readonly start: bigint;
  readonly length: bigint;
}

function lockCall(fd: number, command: number, range: LockRange): Buffer {
  // struct flock on 64-bit Linux: l_type s16, l_whence s16, padding, l_start s64, l_len s64, l_pid s32.
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(range.kind, 0);
  lock.writeBigInt64LE(range.start, 8);
  lock.writeBigInt64LE(range.length, 16);
  check('fcntl', libc().fcntl(fd, command, 'void *', lock));
  return lock;
}

/** An open-file-description lock, without waiting. False when another holds a lock that is in its way. */
export function setLock(fd: number, range: LockRange): boolean {
  try {
    lockCall(fd, LOCK.SET, range);
    return true;
  } catch (error) {
    if (error instanceof Errno && (error.errno === ERRNO.EAGAIN || error.errno === ERRNO.EACCES))
      return false;
    throw error;
  }
}

/** The lock that would be in the way; of kind `UNLOCK` when there is none. */
export function findLock(fd: number, range: LockRange): LockRange {
  const lock = lockCall(fd, LOCK.GET, range);
  return { kind: lock.readInt16LE(0), start: lock.readBigInt64LE(8), length: lock.readBigInt64LE(16) };
}
