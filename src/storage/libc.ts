/**
 * The few C library calls that Node does not offer: open-file-description locks, hole punching and
 * the size of a block device. All of them are synchronous: an asynchronous foreign call would outlive a worker that is terminated. Constants are Linux's (asm-generic, the same on every 64-bit port).
 */
import { setImmediate } from 'node:timers/promises';
import koffi from 'koffi';

const F_OFD_SETLK = 37;
const F_RDLCK = 0;
const F_WRLCK = 1;
const FALLOC_FL_KEEP_SIZE = 0x01;
const FALLOC_FL_PUNCH_HOLE = 0x02;
const FALLOC_FL_ZERO_RANGE = 0x10;
const SEEK_END = 2;
const SEEK_DATA = 3;
const SEEK_HOLE = 4;
const FICLONE = 0x4004_9409;

interface Libc {
  fcntl(fd: number, command: number, kind: string, flock: Uint8Array): number;
  fallocate(fd: number, mode: number, offset: number, length: number): number;
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

/** Second names of errors, by which Linux's manual pages do not call them. */
const ALIASES = ['ENOTSUP', 'EWOULDBLOCK', 'EDEADLOCK'];

/** errno's name for the last failed call of this thread. */
export function lastErrno(): string {
  const value = koffi.errno();
  for (const [name, code] of Object.entries(koffi.os.errno)) {
    if (code === value && !ALIASES.includes(name)) return name;
  }
  return 'EIO';
}

/**
 * Locks the whole file without waiting, with F_OFD_SETLK: it belongs to the open file description, so
 * two threads of one process exclude each other, it conflicts with the F_SETLK locks of linux.uml, and
 * it goes when the descriptor is closed, however the process ends. A descriptor that has a lock changes it in one step.
 * False when somebody else has it.
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

/** The next range from `offset` on that is no hole. Where the file system does not tell, all of it. */
export function seekData(
  fd: number,
  offset: number,
): { readonly start: number; readonly end: number } | undefined {
  const start = libc().lseek(fd, offset, SEEK_DATA);
  if (start >= 0) return { start, end: libc().lseek(fd, start, SEEK_HOLE) };
  return lastErrno() === 'ENXIO' ? undefined : { start: offset, end: Number.MAX_SAFE_INTEGER };
}

/** Reserves blocks for a range within the file, so that writing it later does not lack space. False when it could not. */
export function reserveRange(fd: number, offset: number, length: number): boolean {
  return libc().fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length) === 0;
}

/** Makes `to` share all blocks of `from`. False when the file systems cannot; then nothing has changed. */
export function cloneFile(from: number, to: number): boolean {
  return libc().ioctl(to, FICLONE, 'int', from) === 0;
}

/** `unsupported`: the file system cannot do it and nothing has changed. */
export type HoleResult = 'done' | 'unsupported';

/** A longer hole is made in pieces of this size, with turns of the event loop in between. */
const HOLE_PIECE_BYTES = 16 << 20;

/** Makes a range read as zeros: by giving its blocks back (`punch`) or keeping them (`zero`). */
export function makeHole(
  fd: number,
  how: 'punch' | 'zero',
  offset: number,
  length: number,
): HoleResult | Promise<HoleResult> {
  if (length <= HOLE_PIECE_BYTES) return makeHolePiece(fd, how, offset, length);
  return makeHoleInPieces(fd, how, offset, length);
}

async function makeHoleInPieces(
  fd: number,
  how: 'punch' | 'zero',
  offset: number,
  length: number,
): Promise<HoleResult> {
  for (let done = 0; done < length; done += HOLE_PIECE_BYTES) {
    const result = makeHolePiece(fd, how, offset + done, Math.min(HOLE_PIECE_BYTES, length - done));
    if (result === 'unsupported') return result;
    await setImmediate();
  }
  return 'done';
}

function makeHolePiece(fd: number, how: 'punch' | 'zero', offset: number, length: number): HoleResult {
  if (length === 0) return 'done';
  const mode = FALLOC_FL_KEEP_SIZE | (how === 'punch' ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
  if (libc().fallocate(fd, mode, offset, length) === 0) return 'done';
  const errno = lastErrno();
  if (errno === 'EOPNOTSUPP' || errno === 'ENOSYS') return 'unsupported';
  throw Object.assign(new Error(`fallocate: ${errno}`), { code: errno });
}
