/**
 * preadv2 and pwritev2 on views of shared memory, which is what a guest's RAM is. A call takes about a microsecond, half of
 * Node's own, and a read can be told not to wait for the host's disk, which Node cannot.
 *
 * Shared memory stays where it is for as long as it lives, so its address is asked for once. That is not so of other
 * buffers: V8 moves small ones. They are left to Node.
 */
import koffi from 'koffi';
import { lastErrno } from './libc.ts';

const RWF_NOWAIT = 0x8;
/** Linux's IOV_MAX. */
const VECTORS_MAX = 1024;

interface SharedIo {
  preadv2(fd: number, vectors: Uint32Array, count: number, offset: number, flags: number): number;
  pwritev2(fd: number, vectors: Uint32Array, count: number, offset: number, flags: number): number;
}

let loaded: SharedIo | undefined;
let addressOf: ((bytes: Uint8Array) => bigint) | undefined;

function libc(): SharedIo {
  if (loaded === undefined) {
    const library = koffi.load('libc.so.6');
    const memmove = library.func('void *memmove(void *to, const void *from, size_t bytes)');
    // It returns where `to` is.
    addressOf = (bytes) => koffi.address(memmove(bytes, bytes, 0));
    // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    loaded = {
      preadv2: library.func('int64_t preadv2(int fd, const void *iov, int count, int64_t offset, int flags)'),
      pwritev2: library.func(
        'int64_t pwritev2(int fd, const void *iov, int count, int64_t offset, int flags)',
      ),
    } as unknown as SharedIo;
  }
  return loaded;
}

const addresses = new WeakMap<ArrayBufferLike, number>();

function baseAddress(buffer: ArrayBufferLike): number {
  const known = addresses.get(buffer);
  if (known !== undefined) return known;
  libc();
  // Addresses of user space have 47 bits: a double holds them.
  const address = Number(addressOf!(new Uint8Array(buffer, 0, 1)));
  addresses.set(buffer, address);
  return address;
}

/** struct iovec: base and length, 64 bits each. */
const vectors = new Uint32Array(VECTORS_MAX * 4);

/** False when these vectors are not for this module. */
function setVectors(views: readonly Uint8Array[]): boolean {
  if (views.length > VECTORS_MAX) return false;
  let buffer: ArrayBufferLike | undefined;
  let base = 0;
  for (let index = 0, at = 0; index < views.length; index++, at += 4) {
    const view = views[index]!;
    // All pages of a guest's are in one: what is asked of it is asked once.
    if (view.buffer !== buffer) {
      ({ buffer } = view);
      if (!(buffer instanceof SharedArrayBuffer)) return false;
      base = baseAddress(buffer);
    }
    const address = base + view.byteOffset;
    vectors[at] = address;
    vectors[at + 1] = address / 0x1_0000_0000;
    vectors[at + 2] = view.length;
    vectors[at + 3] = view.length / 0x1_0000_0000;
  }
  return true;
}

/** The start of the range is not in the page cache. */
export const WOULD_WAIT = -1;
/** The views are not of shared memory, or the system or the file system has no such call. */
export const CANNOT = -2;

/** Reads what the page cache has: how many bytes that were (0: end of file), WOULD_WAIT or CANNOT. Throws a system error with `code`. */
export function readCached(fd: number, into: readonly Uint8Array[], offset: number): number {
  if (!setVectors(into)) return CANNOT;
  const count = libc().preadv2(fd, vectors, into.length, offset, RWF_NOWAIT);
  return count >= 0 ? count : outcome('preadv2');
}

/** Writes to the page cache: how many bytes, or CANNOT. Throws a system error with `code`. */
export function writeShared(fd: number, from: readonly Uint8Array[], offset: number): number {
  if (!setVectors(from)) return CANNOT;
  const count = libc().pwritev2(fd, vectors, from.length, offset, 0);
  return count >= 0 ? count : outcome('pwritev2');
}

function outcome(call: string): number {
  const errno = lastErrno();
  if (errno === 'EAGAIN') return WOULD_WAIT;
  if (['EINTR', 'EINVAL', 'ENOSYS', 'EOPNOTSUPP'].includes(errno)) return CANNOT;
  throw Object.assign(new Error(`${call}: ${errno}`), { code: errno });
}
