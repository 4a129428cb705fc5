/** Files of a guest's /proc, as its kernel's own functions make them: what a program of it would read at this moment. */
import { getSystemErrorName } from 'node:util';
import { AppError } from '../contracts/errors.ts';
import type { Replica } from '../engine/inspection.ts';
import { InspectError } from './errors.ts';
import { PROC_SUPER_MAGIC } from './hppfs/names.ts';
import { KernelCalls } from './kernel-calls.ts';
import type { LinuxKernel } from './kernel.ts';
import { currentTask, findTask } from './tasks.ts';

const FIRST_PROCESS = 1;
/** kthreadd */
const SECOND_PROCESS = 2;
const NAME_BYTES_MAX = 2048;
const CONTENT_BYTES_MAX = 4 << 20;
/** In the scratch memory: a struct path, a position in the file, a name. */
const AT = { PATH: 0n, POSITION: 64n, NAME: 128n } as const;
/** Before that, file_open_root was told the two parts of a struct path. */
const OPENS_AT_PATH = [5, 12] as const;
/** O_RDONLY */
const READ_ONLY = 0n;
const ERRNO_MAX = 4095;
/** ENOENT, ENOTDIR, ENAMETOOLONG, ELOOP: there is no such file. */
const MISSING: readonly number[] = [-2, -20, -36, -40];
const EISDIR = -21;

/**
 * @param file its name below /proc; `self` is the first process
 * @throws AppErrors `not_found`, `unsupported`; InspectError, ReplicaError
 */
export function readProc(kernel: LinuxKernel, replica: Replica, file: string): Buffer {
  const name = Buffer.from(`${file}\0`);
  if (file === '' || name.length > NAME_BYTES_MAX || name.indexOf(0) < name.length - 1) throw missing(file);
  // What the first process is doing, another one has to tell.
  const reader = file.startsWith(`${FIRST_PROCESS}/`) ? SECOND_PROCESS : FIRST_PROCESS;
  const task = findTask(kernel, reader);
  if (task === undefined) throw new InspectError('it has no process yet');
  const calls = KernelCalls.asRoot(kernel, replica, task);
  const opened = open(kernel, calls, name);
  refuse(file, opened);
  const superBlock = calls.u64('inode', 'i_sb', calls.u64('file', 'f_inode', opened));
  if (calls.u64('super_block', 's_magic', superBlock) !== PROC_SUPER_MAGIC) {
    throw unreadable(file, 'it leads out of /proc');
  }
  return read(file, calls, opened);
}

/**
 * What the process that runs now would read of a file that it has open, from its beginning.
 * @param file address of the struct file
 * @param name for errors
 * @throws AppErrors `not_found`, `unsupported`; InspectError, ReplicaError
 */
export function readOpenProc(kernel: LinuxKernel, replica: Replica, file: bigint, name: string): Buffer {
  const calls = new KernelCalls(kernel, replica, currentTask(kernel));
  const opener = kernel.u64('file', 'f_cred', file);
  const opened = calls.call('dentry_open', kernel.field('file', 'f_path', file), READ_ONLY, opener);
  refuse(name, opened);
  return read(name, calls, opened);
}

/** Opens it on a mount of its own, whatever the guest has mounted where. A struct file, or a negative errno. */
function open(kernel: LinuxKernel, calls: KernelCalls, name: Buffer): bigint {
  const mount = calls.call('kern_mount', kernel.symbol('proc_fs_type'));
  if (errno(mount) !== undefined) return mount;
  const root = calls.u64('vfsmount', 'mnt_root', mount);
  const at = calls.replica.scratch.kernel;
  calls.replica.write(at + AT.NAME, name);
  calls.writeU64(at + AT.PATH + BigInt(kernel.types.offset('path', 'mnt')), mount);
  calls.writeU64(at + AT.PATH + BigInt(kernel.types.offset('path', 'dentry')), root);
  const where = kernel.isAtLeast(...OPENS_AT_PATH) ? [at + AT.PATH] : [root, mount];
  return calls.call('file_open_root', ...where, at + AT.NAME, READ_ONLY);
}

function read(file: string, calls: KernelCalls, opened: bigint): Buffer {
  const { kernel: at, user, userBytes } = calls.replica.scratch;
  const pieces: Buffer[] = [];
  for (let length = 0; length <= CONTENT_BYTES_MAX; ) {
    const bytes = calls.call('vfs_read', opened, user, BigInt(userBytes), at + AT.POSITION);
    refuse(file, bytes);
    if (bytes === 0n) return Buffer.concat(pieces);
    pieces.push(calls.replica.read(user, Math.min(Number(bytes), userBytes)));
    length += Number(bytes);
  }
  throw unreadable(file, `it has more than ${CONTENT_BYTES_MAX} bytes`);
}

/** Of a result that may be a negative errno, or a pointer (include/linux/err.h). */
function errno(result: bigint): number | undefined {
  const value = Number(BigInt.asIntN(64, result));
  return value < 0 && value >= -ERRNO_MAX ? value : undefined;
}

function refuse(file: string, result: bigint): void {
  const error = errno(result);
  if (error === undefined) return;
  if (MISSING.includes(error)) throw missing(file);
  throw unreadable(file, error === EISDIR ? 'it is a folder' : getSystemErrorName(error));
}

function missing(file: string): AppError {
  return new AppError('not_found', `the guest has no /proc/${file.slice(0, 80)}`, {
    field: 'file',
    remedy: 'name a file below /proc, as cpuinfo or 1/status',
  });
}

export function unreadable(file: string, why: string): AppError {
  return new AppError('unsupported', `/proc/${file.slice(0, 80)} cannot be read from outside: ${why}`, {
    field: 'file',
    remedy: 'read it in the guest',
  });
}
