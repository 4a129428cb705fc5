/** Further calls of the C library, for transports. Synchronous; constants are Linux's (asm-generic). */
import koffi from 'koffi';
import { AF_UNIX, check, libc } from '../uml/libc.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const NONBLOCK = 0o4000;
export const CLOEXEC = 0o2000000;
export const MSG_DONTWAIT = 0x40;
export const MSG_TRUNC = 0x20;
const UNIX_PATH_BYTES = 108;

interface MoreLibc {
  recvfrom(
    fd: number,
    bytes: bigint,
    length: number,
    flags: number,
    address: Uint8Array,
    size: Int32Array,
  ): number;
  sendto(fd: number, bytes: bigint, length: number, flags: number, address: Uint8Array, size: number): number;
  /** 1: the address is one of the family. */
  inet_pton(family: number, address: string, bytes: Uint8Array): number;
  getsockname(fd: number, address: Uint8Array, size: Int32Array): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, size: number): number;
  if_nametoindex(name: string): number;
  read(fd: number, bytes: Uint8Array, length: number): number;
  write(fd: number, bytes: Uint8Array, length: number): number;
  posix_openpt(flags: number): number;
  grantpt(fd: number): number;
  unlockpt(fd: number): number;
  ptsname_r(fd: number, name: Uint8Array, size: number): number;
  tcgetattr(fd: number, settings: Uint8Array): number;
  cfmakeraw(settings: Uint8Array): void;
  tcsetattr(fd: number, when: number, settings: Uint8Array): number;
}

let loaded: MoreLibc | undefined;

export function more(): MoreLibc {
  if (loaded === undefined) {
    const library = koffi.load('libc.so.6');
    // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    loaded = {
      recvfrom: library.func(
        'int64_t recvfrom(int fd, void *bytes, size_t length, int flags, uint8_t *address, int *size)',
      ),
      sendto: library.func(
        'int64_t sendto(int fd, void *bytes, size_t length, int flags, uint8_t *address, uint32_t size)',
      ),
      inet_pton: library.func('int inet_pton(int family, const char *address, uint8_t *bytes)'),
      getsockname: library.func('int getsockname(int fd, uint8_t *address, int *size)'),
      setsockopt: library.func('int setsockopt(int fd, int level, int name, uint8_t *value, uint32_t size)'),
      if_nametoindex: library.func('unsigned int if_nametoindex(const char *name)'),
      read: library.func('int64_t read(int fd, uint8_t *bytes, size_t length)'),
      write: library.func('int64_t write(int fd, uint8_t *bytes, size_t length)'),
      posix_openpt: library.func('int posix_openpt(int flags)'),
      grantpt: library.func('int grantpt(int fd)'),
      unlockpt: library.func('int unlockpt(int fd)'),
      ptsname_r: library.func('int ptsname_r(int fd, uint8_t *name, size_t size)'),
      tcgetattr: library.func('int tcgetattr(int fd, uint8_t *settings)'),
      cfmakeraw: library.func('void cfmakeraw(uint8_t *settings)'),
      tcsetattr: library.func('int tcsetattr(int fd, int when, uint8_t *settings)'),
    } as unknown as MoreLibc;
  }
  return loaded;
}

/** struct sockaddr_un of a path. */
export function pathAddress(path: string): Buffer {
  const address = Buffer.alloc(2 + UNIX_PATH_BYTES);
  address.writeUInt16LE(AF_UNIX, 0);
  Buffer.from(path, 'utf8').copy(address, 2);
  return address;
}

/** A connection to a Unix socket by its path. Throws with errno's name as `code`. */
export function openStreamSocket(path: string): number {
  const address = pathAddress(path);
  const fd = check('socket', libc().socket(AF_UNIX, SOCK_STREAM | CLOEXEC, 0));
  return opened(fd, () => void check(path, libc().connect(fd, address, address.length)));
}

/** Does what is left to do for a descriptor; closes it again when that throws. */
export function opened(fd: number, prepare: () => void): number {
  try {
    prepare();
    return fd;
  } catch (error) {
    libc().close(fd);
    throw error;
  }
}

export function writeBytes(fd: number, bytes: Uint8Array): void {
  check('write', more().write(fd, bytes, bytes.length));
}

/** At most `length` bytes that are there. */
export function readBytes(fd: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  return bytes.slice(0, Math.max(0, more().read(fd, bytes, length)));
}

export function setOption(fd: number, level: number, name: number, value: Uint8Array): void {
  check(`option ${name}`, more().setsockopt(fd, level, name, value, value.length));
}

export function uint32Option(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
