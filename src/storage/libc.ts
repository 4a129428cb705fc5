/**
 * The few C library calls that Node does not offer: open-file-description locks, hole punching and
 * the size of a block device. Constants are Linux's (asm-generic, the same on every 64-bit port).
 */
import koffi from 'koffi';

const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;
const SEEK_END = 2;
const FICLONE = 0x4004_9409;

interface Libc {
  fcntl(fd: number, command: number, kind: string, flock: Uint8Array): number;
  fallocate: ((fd: number, mode: number, offset: number, length: number) => number) & {
    async(
      fd: number,
      mode: number,
      offset: number,
      length: number,
      done: (error: Error | null, result: number) => void,
    ): void;
  };
  lseek(fd: number, offset: number, whence: number): number;
  ioctl(fd: number, request: number, kind: string, argument: number): number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded === undefined) {
    const library = koffi.load('libc.so.6');
    // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    loaded = {
      fcntl: library.func('int fcntl(int fd, int cmd, ...)'),
      fallocate: library.func('int fallocate(int fd, int mode, int64_t offset, int64_t len)'),
      lseek: library.func('int64_t lseek(int fd, int64_t offset, int whence)'),
      ioctl: library.func('int ioctl(int fd, unsigned long request, ...)'),
    } as unknown as Libc;
  }
  return loaded;
}

/** errno's name for the last failed call of this thread. */
function lastErrno(): string {
  const value = koffi.errno();
  for (const [name, code] of Object.entries(koffi.os.errno)) if (code === value) return name;
  return 'EIO';
}

/**
 * Locks the whole file without waiting, with F_OFD_SETLK: it belongs to the open file description, so
 * two threads of one process exclude each other, it conflicts with the F_SETLK locks of linux.uml, and
 * it goes when the descriptor is closed, however the process ends. False when somebody else has it.
 */
export function lockFile(fd: number, kind: 'shared' | 'exclusive'): boolean {
  // struct flock on 64-bit Linux: l_type s16, l_whence s16, 4 bytes of padding, l_start s64, l_len s64
  // (0 = to the end of file, however far it grows), l_pid s32 (0 for OFD locks), padding.
  const flock = Buffer.alloc(32);
  flock.writeInt16LE(kind === 'shared' ? F_RDLCK : F_WRLCK, 0);
  if (libc().fcntl(fd, F_OFD_SETLK, 'void *', flock) === 0) return true;
  const errno = lastErrno();
  if (errno === 'EAGAIN' || errno === 'EACCES') return false;
  throw Object.assign(new Error(`fcntl lock: ${errno}`), { code: errno });
}

/** Size of a block device in bytes (its st_size is 0). */
export function seekEnd(fd: number): number {
  return libc().lseek(fd, 0, SEEK_END);
}

/** Reserves blocks for a range within the file, so that writing it later does not lack space. False when it could not. */
export function reserveRange(fd: number, offset: number, length: number): boolean {
  return libc().fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length) === 0;
}

/** Makes `to` share all blocks of `from`. False when the file systems cannot; then nothing has changed. */
export function cloneFile(from: number, to: number): boolean {
  return libc().ioctl(to, FICLONE, 'int', from) === 0;
}

/** Beyond this many bytes a hole is punched in a thread of its own: it frees extents one by one. */
const HOLE_SYNC_BYTES = 1 << 20;

/** `unsupported`: the file system cannot do it and nothing has changed. */
export type HoleResult = 'done' | 'unsupported';

/** Makes a range read as zeros: by giving its blocks back (`punch`) or keeping them (`zero`). */
export function makeHole(
  fd: number,
  how: 'punch' | 'zero',
  offset: number,
  length: number,
): HoleResult | Promise<HoleResult> {
  const mode = FALLOC_FL_KEEP_SIZE | (how === 'punch' ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  const { fallocate } = libc();
  if (length <= HOLE_SYNC_BYTES) {
    if (fallocate(fd, mode, offset, length) === 0) return 'done';
    return unsupportedOrThrow(lastErrno());
  }
  return new Promise((resolve, reject) => {
    fallocate.async(fd, mode, offset, length, (error, result) => {
      if (error !== null) reject(error);
      else if (result === 0) resolve('done');
      // errno belongs to the other thread: ask again here, on a range short enough to answer at once.
      else {
        try {
          resolve(
            fallocate(fd, mode, offset, 512) === 0
              ? retryWhole(fd, mode, offset, length)
              : unsupportedOrThrow(lastErrno()),
          );
        } catch (failure) {
          reject(failure);
        }
      }
    });
  });
}

/** The asynchronous call failed and a short one did not (a signal came in between): once more, here. */
function retryWhole(fd: number, mode: number, offset: number, length: number): HoleResult {
  return libc().fallocate(fd, mode, offset, length) === 0 ? 'done' : unsupportedOrThrow(lastErrno());
}

function unsupportedOrThrow(errno: string): 'unsupported' {
  if (errno === 'EOPNOTSUPP' || errno === 'ENOTSUP' || errno === 'ENOSYS' || errno === 'EINVAL')
    return 'unsupported';
  throw Object.assign(new Error(`fallocate: ${errno}`), { code: errno });
}
