/** Makes, removes and lists persistent TAP devices of the host, as tunctl does (drivers/net/tun.c). */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError, systemErrorCode } from '../../contracts/errors.ts';
import { check, libc } from '../uml/libc.ts';
import { CLOEXEC, opened } from './sockets.ts';

const O_RDWR = 2;
const IFREQ_BYTES = 40;
const NAME_BYTES = 16;
const IFF_TAP = 2;
const IFF_NO_PI = 0x1000;
const IOCTL = {
  SETIFF: 0x4004_54ca,
  SETPERSIST: 0x4004_54cb,
  SETOWNER: 0x4004_54cc,
  SETGROUP: 0x4004_54ce,
} as const;
const SYSFS = '/sys/class/net';
const NAME = /^[A-Za-z0-9_.-]{1,15}$/;

export interface TapOwner {
  readonly uid: number | undefined;
  readonly gid: number | undefined;
}

export interface TapDevice extends TapOwner {
  readonly name: string;
  readonly persistent: boolean;
}

/** Makes a device that stays, or makes one that is there stay and be owned. Gives its name. Throws AppError. */
export function createTap(name: string | undefined, { uid, gid }: TapOwner): string {
  return onDevice(name ?? 'tap%d', (fd) => {
    if (uid !== undefined) setValue(fd, IOCTL.SETOWNER, uid);
    if (gid !== undefined) setValue(fd, IOCTL.SETGROUP, gid);
    setValue(fd, IOCTL.SETPERSIST, 1);
  });
}

/** `not_found`, `in_use` while a program has it open. */
export function deleteTap(name: string, folder = SYSFS): void {
  if (!listTaps(folder).some((device) => device.name === name)) {
    throw new AppError('not_found', `there is no TAP device ${name}`, { field: 'name' });
  }
  onDevice(name, (fd) => setValue(fd, IOCTL.SETPERSIST, 0));
}

export function listTaps(folder = SYSFS): TapDevice[] {
  return readdirSync(folder)
    .sort()
    .flatMap((name) => {
      const read = (file: string): number | undefined => readNumber(join(folder, name, file));
      const flags = read('tun_flags');
      if (flags === undefined || (flags & IFF_TAP) === 0) return [];
      return [
        { name, persistent: (flags & 0x800) !== 0, uid: owner(read('owner')), gid: owner(read('group')) },
      ];
    });
}

function owner(id: number | undefined): number | undefined {
  return id === undefined || id < 0 ? undefined : id;
}

function readNumber(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'latin1').trim());
  } catch {
    // It is no TUN device, or it has just gone.
    return undefined;
  }
}

/** Attaches to a device, which is made if it is not there, does the work, and gives the device's name. */
function onDevice(name: string, work: (fd: number) => void): string {
  if (name !== 'tap%d' && !NAME.test(name)) {
    throw new AppError('invalid_input', `"${name}" is no name of a device`, {
      field: 'name',
      remedy: 'use at most 15 letters, digits, dots and dashes',
    });
  }
  try {
    const fd = check('/dev/net/tun', libc().open('/dev/net/tun', O_RDWR | CLOEXEC));
    const request = Buffer.alloc(IFREQ_BYTES);
    request.write(name, 0, 'latin1');
    request.writeInt16LE(IFF_TAP | IFF_NO_PI, NAME_BYTES);
    opened(fd, () => {
      check(name, libc().ioctl(fd, IOCTL.SETIFF, 'void *', request));
      work(fd);
    });
    libc().close(fd);
    return request.toString('latin1', 0, request.indexOf(0));
  } catch (error) {
    throw tapError(error, name);
  }
}

function setValue(fd: number, request: number, value: number): void {
  check('ioctl', libc().ioctl(fd, request, 'unsigned long', value));
}

function tapError(error: unknown, name: string): unknown {
  switch (systemErrorCode(error)) {
    case 'EPERM':
    case 'EACCES':
      return new AppError('forbidden', `TAP devices of this host cannot be changed: ${String(error)}`, {
        remedy: 'run it as root, or with CAP_NET_ADMIN',
        cause: error,
      });
    case 'ENOENT':
    case 'ENODEV':
      return new AppError('not_found', 'the host has no /dev/net/tun', {
        remedy: 'load the kernel module tun',
        cause: error,
      });
    case 'EBUSY':
      return new AppError('in_use', `${name} is in use by a program`, {
        field: 'name',
        remedy: 'end that program first',
        cause: error,
      });
    case 'EINVAL':
      return new AppError('already_exists', `${name} is a device of another kind`, {
        field: 'name',
        remedy: 'choose another name',
        cause: error,
      });
    default:
      return error;
  }
}
