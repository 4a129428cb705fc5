/** Terminals by the C library: pseudo-terminals, raw mode, sizes, writes that do not wait. 64-bit little-endian Linux. */
import koffi from 'koffi';
import { AppError } from '../../contracts/errors.ts';

const O_RDWR = 0o2;
const O_NOCTTY = 0o400;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;
const TIOCGWINSZ = 0x5413;
const TCSANOW = 0;
const EAGAIN = 11;
/** More than struct termios has. */
const TERMIOS_BYTES = 256;
const NAME_BYTES = 128;

interface Libc {
  posix_openpt(flags: number): number;
  grantpt(fd: number): number;
  unlockpt(fd: number): number;
  ptsname_r(fd: number, name: Uint8Array, length: number): number;
  tcgetattr(fd: number, termios: Uint8Array): number;
  cfmakeraw(termios: Uint8Array): void;
  tcsetattr(fd: number, actions: number, termios: Uint8Array): number;
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  write(fd: number, bytes: Uint8Array, length: number): number;
}

let loaded: Libc | undefined;

function libc(): Libc {
  if (loaded === undefined) {
    const library = koffi.load('libc.so.6');
    // INVARIANT: these signatures are glibc's on 64-bit Linux; koffi functions are untyped.
    loaded = {
      posix_openpt: library.func('int posix_openpt(int flags)'),
      grantpt: library.func('int grantpt(int fd)'),
      unlockpt: library.func('int unlockpt(int fd)'),
      ptsname_r: library.func('int ptsname_r(int fd, _Out_ uint8_t *name, size_t length)'),
      tcgetattr: library.func('int tcgetattr(int fd, _Out_ uint8_t *termios)'),
      cfmakeraw: library.func('void cfmakeraw(_Inout_ uint8_t *termios)'),
      tcsetattr: library.func('int tcsetattr(int fd, int actions, uint8_t *termios)'),
      ioctl: library.func('int ioctl(int fd, unsigned long request, _Out_ uint8_t *argument)'),
      write: library.func('int64_t write(int fd, uint8_t *bytes, size_t length)'),
    } as unknown as Libc;
  }
  return loaded;
}

function check(what: string, result: number): number {
  if (result >= 0) return result;
  const errno = koffi.errno();
  const name = Object.entries(koffi.os.errno).find(([, code]) => code === errno)?.[0] ?? `error ${errno}`;
  throw new AppError('io_error', `${what}: ${name}`);
}

export interface PseudoTerminal {
  /** Never waits. */
  readonly master: number;
  /** `/dev/pts/N` */
  readonly path: string;
}

/** A new pseudo-terminal. AppError `io_error`. */
export function openPseudoTerminal(): PseudoTerminal {
  const master = check('posix_openpt', libc().posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC));
  check('grantpt', libc().grantpt(master));
  check('unlockpt', libc().unlockpt(master));
  const name = Buffer.alloc(NAME_BYTES);
  check('ptsname_r', -libc().ptsname_r(master, name, name.length));
  return { master, path: name.toString('utf8', 0, name.indexOf(0)) };
}

export const TERMINAL_FLAGS = O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;

/** As cfmakeraw(3): every byte as it is, no echo. Returns what puts it back. AppError `io_error`. */
export function makeRaw(fd: number): () => void {
  const before = Buffer.alloc(TERMIOS_BYTES);
  check('tcgetattr', libc().tcgetattr(fd, before));
  const raw = Buffer.from(before);
  libc().cfmakeraw(raw);
  check('tcsetattr', libc().tcsetattr(fd, TCSANOW, raw));
  return () => void libc().tcsetattr(fd, TCSANOW, before);
}

/** Undefined when nobody has set it. */
export function windowSize(fd: number): { readonly columns: number; readonly rows: number } | undefined {
  const size = Buffer.alloc(8);
  if (libc().ioctl(fd, TIOCGWINSZ, size) < 0) return undefined;
  const [rows, columns] = [size.readUInt16LE(0), size.readUInt16LE(2)];
  return rows === 0 || columns === 0 ? undefined : { columns, rows };
}

/** Bytes that went out at once, of a descriptor that does not wait; 0 when there is no room. AppError `io_error`. */
export function writeNow(fd: number, bytes: Uint8Array): number {
  const written = libc().write(fd, bytes, bytes.length);
  if (written < 0 && koffi.errno() === EAGAIN) return 0;
  return check('write', written);
}
