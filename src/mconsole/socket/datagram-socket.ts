/**
 * AF_UNIX datagram sockets, which Node does not have, by the C library: bound to a path, with the sender's credentials
 * (unix(7)). Constants and structures are those of 64-bit little-endian Linux.
 */
import koffi from 'koffi';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_PASSCRED = 16;
const SCM_CREDENTIALS = 2;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const POLLIN = 1;

const SUN_PATH_BYTES = 108;
const ADDRESS_BYTES = 2 + SUN_PATH_BYTES;
/** Longest path that a socket can have: its NUL must fit too. */
export const SOCKET_PATH_MAX = SUN_PATH_BYTES - 1;

/** struct pollfd: fd s32, events s16, revents s16. */
const POLLFD_BYTES = 8;

// One native block for recvmsg, whose msghdr has the addresses of the other parts.
const MSGHDR_AT = 0;
const MSGHDR_BYTES = 56;
const IOVEC_AT = 64;
const CONTROL_AT = 80;
/** Room for SCM_CREDENTIALS alone: descriptors that somebody sends do not fit, and the kernel drops them. */
const CONTROL_BYTES = 32;
const ADDRESS_AT = 112;
const DATA_AT = 224;
/** A byte more than any request, so that the end of a longer one is cut off by us. */
const DATA_BYTES = 1024;

interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number;
  recvmsg(fd: number, message: Uint8Array, flags: number): number;
  sendto(
    fd: number,
    bytes: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number,
  ): number;
  poll(fds: Uint8Array, count: number, timeoutMs: number): number;
  eventfd(initial: number, flags: number): number;
  close(fd: number): number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded === undefined) {
    const library = koffi.load('libc.so.6');
    // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    loaded = {
      socket: library.func('int socket(int domain, int type, int protocol)'),
      bind: library.func('int bind(int fd, uint8_t *address, uint32_t length)'),
      setsockopt: library.func(
        'int setsockopt(int fd, int level, int name, uint8_t *value, uint32_t length)',
      ),
      recvmsg: library.func('int64_t recvmsg(int fd, uint8_t *message, int flags)'),
      sendto: library.func(
        'int64_t sendto(int fd, uint8_t *bytes, size_t length, int flags, uint8_t *address, uint32_t addressLength)',
      ),
      poll: library.func('int poll(uint8_t *fds, unsigned long count, int timeoutMs)'),
      eventfd: library.func('int eventfd(unsigned int initial, int flags)'),
      close: library.func('int close(int fd)'),
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

function check(what: string, result: number): number {
  if (result >= 0) return result;
  const code = lastErrno();
  throw Object.assign(new Error(`${what}: ${code}`), { code });
}

export interface Datagram {
  readonly bytes: Uint8Array;
  /** The sender's sockaddr; undefined when it is not bound, and cannot get an answer. */
  readonly from: Uint8Array | undefined;
  /** The sender's user id as the kernel attests it; undefined when it does not. */
  readonly uid: number | undefined;
}

/** `full`: the receiver's queue has no room now. `gone`: it will never get it. */
export type SendResult = 'sent' | 'full' | 'gone';

/** sockaddr_un of a path, as UML binds it: all 110 bytes. AppErrors are the caller's: throws RangeError when too long. */
export function pathAddress(path: string): Uint8Array {
  const bytes = Buffer.from(path, 'utf8');
  if (bytes.length > SOCKET_PATH_MAX) {
    throw new RangeError(
      `a socket's path can have ${SOCKET_PATH_MAX} bytes, and ${path} has ${bytes.length}`,
    );
  }
  const address = Buffer.alloc(ADDRESS_BYTES);
  address.writeUInt16LE(AF_UNIX, 0);
  address.set(bytes, 2);
  return address;
}

/** Belongs to the thread that made it. Never waits: `waitReadable` does. */
export class DatagramSocket {
  readonly fd: number;
  readonly #block: bigint;
  readonly #bytes: Buffer;

  /** `path`: bound to it (the file is made, and is the caller's to remove); without one only for sending. Throws with errno's name as `code`. */
  constructor(path?: string) {
    const address = path === undefined ? undefined : pathAddress(path);
    this.fd = check('socket', libc().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    try {
      if (address !== undefined) this.#bind(address);
    } catch (error) {
      libc().close(this.fd);
      throw error;
    }
    this.#block = koffi.alloc('uint8_t', DATA_AT + DATA_BYTES);
    this.#bytes = Buffer.from(koffi.view(this.#block, DATA_AT + DATA_BYTES));
  }

  /** The next datagram; undefined when none waits. */
  receive(): Datagram | undefined {
    const bytes = this.#bytes;
    this.#describe();
    const message = bytes.subarray(MSGHDR_AT, MSGHDR_AT + MSGHDR_BYTES);
    const length = libc().recvmsg(this.fd, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0) {
      const code = lastErrno();
      if (code === 'EAGAIN' || code === 'EINTR') return undefined;
      throw Object.assign(new Error(`recvmsg: ${code}`), { code });
    }
    const addressLength = message.readUInt32LE(8);
    return {
      bytes: Uint8Array.from(bytes.subarray(DATA_AT, DATA_AT + length)),
      // 2 bytes are a family without a name.
      from:
        addressLength > 2
          ? Uint8Array.from(bytes.subarray(ADDRESS_AT, ADDRESS_AT + addressLength))
          : undefined,
      uid: this.#senderUid(message),
    };
  }

  send(bytes: Uint8Array, to: Uint8Array): SendResult {
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    for (;;) {
      if (libc().sendto(this.fd, bytes, bytes.length, flags, to, to.length) >= 0) return 'sent';
      const code = lastErrno();
      if (code === 'EINTR') continue;
      return code === 'EAGAIN' || code === 'ENOBUFS' || code === 'ENOMEM' ? 'full' : 'gone';
    }
  }

  close(): void {
    libc().close(this.fd);
    koffi.free(this.#block);
  }

  #bind(address: Uint8Array): void {
    // Before there is a name, so that no datagram comes without credentials.
    const on = Uint8Array.of(1, 0, 0, 0);
    check('setsockopt', libc().setsockopt(this.fd, SOL_SOCKET, SO_PASSCRED, on, on.length));
    check('bind', libc().bind(this.fd, address, address.length));
  }

  /** struct msghdr, which recvmsg changes. */
  #describe(): void {
    const bytes = this.#bytes;
    const at = (offset: number): bigint => this.#block + BigInt(offset);
    bytes.fill(0, 0, DATA_AT);
    bytes.writeBigUInt64LE(at(ADDRESS_AT), MSGHDR_AT);
    bytes.writeUInt32LE(ADDRESS_BYTES, MSGHDR_AT + 8);
    bytes.writeBigUInt64LE(at(IOVEC_AT), MSGHDR_AT + 16);
    bytes.writeBigUInt64LE(1n, MSGHDR_AT + 24);
    bytes.writeBigUInt64LE(at(CONTROL_AT), MSGHDR_AT + 32);
    bytes.writeBigUInt64LE(BigInt(CONTROL_BYTES), MSGHDR_AT + 40);
    bytes.writeBigUInt64LE(at(DATA_AT), IOVEC_AT);
    bytes.writeBigUInt64LE(BigInt(DATA_BYTES), IOVEC_AT + 8);
  }

  /** From cmsghdr (len u64, level s32, type s32) and ucred (pid s32, uid u32, gid u32). */
  #senderUid(message: Buffer): number | undefined {
    const controlLength = message.readBigUInt64LE(40);
    if (controlLength < 28n) return undefined;
    const control = this.#bytes.subarray(CONTROL_AT, CONTROL_AT + CONTROL_BYTES);
    if (control.readInt32LE(8) !== SOL_SOCKET || control.readInt32LE(12) !== SCM_CREDENTIALS)
      return undefined;
    return control.readUInt32LE(20);
  }
}

/** Waits until one of the descriptors can be read, for ever when `timeoutMs` is -1. Gives those that can. */
export function waitReadable(fds: readonly number[], timeoutMs: number): Set<number> {
  const table = Buffer.alloc(fds.length * POLLFD_BYTES);
  for (const [index, fd] of fds.entries()) {
    table.writeInt32LE(fd, index * POLLFD_BYTES);
    table.writeInt16LE(POLLIN, index * POLLFD_BYTES + 4);
  }
  if (libc().poll(table, fds.length, timeoutMs) < 0) {
    const code = lastErrno();
    if (code === 'EINTR') return new Set();
    throw Object.assign(new Error(`poll: ${code}`), { code });
  }
  return new Set(fds.filter((_fd, index) => table.readInt16LE(index * POLLFD_BYTES + 6) !== 0));
}

/** An eventfd(2): a descriptor that another thread can make readable with a write of 8 bytes. */
export function openEventFd(): number {
  return check('eventfd', libc().eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

export function closeEventFd(fd: number): void {
  libc().close(fd);
}
