/**
 * The C library calls of the data path that Node does not have: AF_UNIX datagram sockets in batches, epoll and
 * TAP devices. Synchronous and never waiting, except for epoll_wait. Constants are Linux's (asm-generic).
 */
import { readSync, writeSync } from 'node:fs';
import koffi from 'koffi';
import { noteOpened, noteReleased } from './descriptors.ts';

export const AF_UNIX = 1;
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
/** struct sockaddr_un, and how much of it UML always uses. */
export const ADDRESS_BYTES = 110;

const SOCK_DGRAM = 2;
const NONBLOCK = 0o4000;
const CLOEXEC = 0o2000000;
const EPOLL_CTL = { add: 1, remove: 2, change: 3 } as const;
const O_RDWR = 2;
const TUNSETIFF = 0x4004_54ca;
const IFF_TAP = 2;
const IFF_NO_PI = 0x1000;
const IFREQ_BYTES = 40;
const IFNAME_BYTES_MAX = 15;
/** struct epoll_event is packed on x86-64 alone. */
const EVENT_BYTES = process.arch === 'x64' ? 12 : 16;
const EVENT_DATA_AT = EVENT_BYTES - 8;
const EVENTS_MAX = 64;
const ONE = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);

interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  recvmmsg(fd: number, messages: bigint, count: number, flags: number, timeout: null): number;
  sendmmsg(fd: number, messages: bigint, count: number, flags: number): number;
  read(fd: number, bytes: bigint, length: number): number;
  write(fd: number, bytes: bigint, length: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: Uint8Array): number;
  epoll_wait(epoll: number, events: Uint8Array, count: number, timeoutMs: number): number;
  eventfd(initial: number, flags: number): number;
  open(path: string, flags: number): number;
  ioctl(fd: number, request: number, kind: string, argument: Uint8Array | number): number;
  close(fd: number): number;
}

let loaded: Libc | undefined;

export function libc(): Libc {
  if (loaded === undefined) {
    const library = koffi.load('libc.so.6');
    // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    const native = {
      socket: library.func('int socket(int domain, int type, int protocol)'),
      bind: library.func('int bind(int fd, uint8_t *address, uint32_t length)'),
      connect: library.func('int connect(int fd, uint8_t *address, uint32_t length)'),
      recvmmsg: library.func(
        'int recvmmsg(int fd, void *messages, uint32_t count, int flags, void *timeout)',
      ),
      sendmmsg: library.func('int sendmmsg(int fd, void *messages, uint32_t count, int flags)'),
      read: library.func('int64_t read(int fd, void *bytes, size_t length)'),
      write: library.func('int64_t write(int fd, void *bytes, size_t length)'),
      epoll_create1: library.func('int epoll_create1(int flags)'),
      epoll_ctl: library.func('int epoll_ctl(int epoll, int operation, int fd, uint8_t *event)'),
      epoll_wait: library.func('int epoll_wait(int epoll, uint8_t *events, int count, int timeoutMs)'),
      eventfd: library.func('int eventfd(unsigned int initial, int flags)'),
      open: library.func('int open(const char *path, int flags)'),
      ioctl: library.func('int ioctl(int fd, unsigned long request, ...)'),
      close: library.func('int close(int fd)'),
    } as unknown as Libc;
    loaded = {
      ...native,
      socket: (...what) => noteOpened(native.socket(...what)),
      epoll_create1: (flags) => noteOpened(native.epoll_create1(flags)),
      eventfd: (...what) => noteOpened(native.eventfd(...what)),
      open: (...what) => noteOpened(native.open(...what)),
      close(fd) {
        noteReleased(fd);
        return native.close(fd);
      },
    };
  }
  return loaded;
}

/** errno's name for the last failed call of this thread. */
export function lastErrno(): string {
  const value = koffi.errno();
  for (const [name, code] of Object.entries(koffi.os.errno)) if (code === value) return name;
  return 'EIO';
}

/** The result of a call that is negative when it has failed. Throws with errno's name as `code`. */
export function check(what: string, result: number): number {
  if (result >= 0) return result;
  const code = lastErrno();
  throw Object.assign(new Error(`${what}: ${code}`), { code });
}

/** sockaddr_un of all 108 bytes of a name, which may have NULs within. */
export function unixAddress(name: Uint8Array): Uint8Array {
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_UNIX, 0);
  address.set(name, 2);
  return address;
}

/** A datagram socket that is bound to `address`, all of it. Throws with errno's name as `code`. */
export function openDatagramSocket(address: Uint8Array): number {
  const fd = check('socket', libc().socket(AF_UNIX, SOCK_DGRAM | NONBLOCK | CLOEXEC, 0));
  if (libc().bind(fd, address, address.length) >= 0) return fd;
  return failAndClose('bind', fd);
}

/** From then on the socket sends to `address`, and takes datagrams from nobody else. Throws as above. */
export function connectSocket(fd: number, address: Uint8Array): void {
  check('connect', libc().connect(fd, address, address.length));
}

/** Opens a TAP device, which is made if it is not there and that is permitted. Throws as above; RangeError for its name. */
export function openTap(device: string): number {
  const name = Buffer.from(device, 'utf8');
  if (name.length === 0 || name.length > IFNAME_BYTES_MAX || name.includes(0)) {
    throw new RangeError(`a device's name has 1 to ${IFNAME_BYTES_MAX} bytes`);
  }
  const fd = check('/dev/net/tun', libc().open('/dev/net/tun', O_RDWR | NONBLOCK | CLOEXEC));
  const request = Buffer.alloc(IFREQ_BYTES);
  request.set(name, 0);
  request.writeInt16LE(IFF_TAP | IFF_NO_PI, 16);
  if (libc().ioctl(fd, TUNSETIFF, 'void *', request) >= 0) return fd;
  return failAndClose(device, fd);
}

function failAndClose(what: string, fd: number): never {
  const code = lastErrno();
  libc().close(fd);
  throw Object.assign(new Error(`${what}: ${code}`), { code });
}

/** An eventfd(2): a descriptor that another thread makes readable with a write of 8 bytes. */
export function openEventFd(): number {
  return check('eventfd', libc().eventfd(0, NONBLOCK | CLOEXEC));
}

/** Makes an eventfd readable; from any thread. */
export function signalEventFd(fd: number): void {
  writeSync(fd, ONE);
}

/** Makes an eventfd unreadable, which has to be readable. */
export function clearEventFd(fd: number): void {
  readSync(fd, Buffer.alloc(ONE.length));
}

/** epoll(7), level-triggered. */
export class Epoll {
  readonly #fd = check('epoll_create1', libc().epoll_create1(CLOEXEC));
  readonly #event = Buffer.alloc(EVENT_BYTES);
  readonly #events = Buffer.alloc(EVENTS_MAX * EVENT_BYTES);

  add(fd: number, events: number): void {
    this.#control('add', fd, events);
  }

  change(fd: number, events: number): void {
    this.#control('change', fd, events);
  }

  remove(fd: number): void {
    this.#control('remove', fd, 0);
  }

  /** Waits for at most `timeoutMs`; calls `ready` for each descriptor. */
  wait(timeoutMs: number, ready: (fd: number, events: number) => void): void {
    const count = libc().epoll_wait(this.#fd, this.#events, EVENTS_MAX, timeoutMs);
    for (let i = 0; i < count; i++) {
      const at = i * EVENT_BYTES;
      ready(this.#events.readInt32LE(at + EVENT_DATA_AT), this.#events.readUInt32LE(at));
    }
  }

  close(): void {
    libc().close(this.#fd);
  }

  #control(operation: keyof typeof EPOLL_CTL, fd: number, events: number): void {
    this.#event.writeUInt32LE(events, 0);
    this.#event.writeInt32LE(fd, EVENT_DATA_AT);
    check('epoll_ctl', libc().epoll_ctl(this.#fd, EPOLL_CTL[operation], fd, this.#event));
  }
}
