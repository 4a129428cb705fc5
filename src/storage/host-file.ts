/**
 * A file of the host as the disks use it: vectored reads and writes at an offset. What the page cache answers is done
 * synchronously, because it costs a microsecond and the copy that way and tens of microseconds through the thread pool. A read that
 * the page cache does not have, requests that are very large, and all `background` ones go to the pool, where several are done at once.
 */
import * as fs from 'node:fs';
import { AppError } from '../contracts/errors.ts';
import { BlockError, type MaybePromise } from '../engine/backends.ts';
import { errnoOf, messageOf } from './errors.ts';
import { type HoleResult, lockFile, makeHole, seekEnd } from './libc.ts';
import { CANNOT, readCached, WOULD_WAIT, writeShared } from './shared-io.ts';
import { fillZeros, sliceVectors, totalBytes } from './vectors.ts';

/** Up to this many bytes a request is done synchronously: a quarter of a millisecond of copying. */
export const SYNC_BYTES_MAX = 1 << 20;
/** Up to this many bytes a read is done synchronously even where nobody knows whether the page cache has it. */
const BLIND_READ_BYTES_MAX = 64 * 1024;

export interface HostFile {
  /** Fills `into` from `offset` on; bytes past the end of the file are zeros. */
  read(offset: number, into: readonly Uint8Array[], background?: boolean): MaybePromise<void>;
  write(offset: number, from: readonly Uint8Array[], background?: boolean): MaybePromise<void>;
  /** fdatasync. */
  sync(): Promise<void>;
  makeHole(how: 'punch' | 'zero', offset: number, length: number): MaybePromise<HoleResult>;
  /** What is new are zeros, which take no space. Not durable before `sync`. */
  setSize(bytes: number): void;
  /** As `fileState`. */
  state(): string;
  close(): void;
}

function blockError(error: unknown, action: string): BlockError {
  const code = errnoOf(error);
  return new BlockError(code, `${action}: ${messageOf(error)}`, { cause: error });
}

/** A HostFile on an open descriptor, which it owns from now on. */
export function hostFile(fd: number): HostFile {
  return {
    read(offset, into, background = false) {
      const length = totalBytes(into);
      return background || length > SYNC_BYTES_MAX
        ? readAsync(fd, offset, into, length)
        : readNow(fd, offset, into, length);
    },
    write(offset, from, background = false) {
      const length = totalBytes(from);
      return background || length > SYNC_BYTES_MAX
        ? writeAsync(fd, offset, from, length)
        : writeNow(fd, offset, from, length);
    },
    sync() {
      return new Promise((resolve, reject) => {
        fs.fdatasync(fd, (error) => (error === null ? resolve() : reject(blockError(error, 'fdatasync'))));
      });
    },
    makeHole(how, offset, length) {
      try {
        const result = makeHole(fd, how, offset, length);
        if (!(result instanceof Promise)) return result;
        return result.catch((error: unknown) => {
          throw blockError(error, 'fallocate');
        });
      } catch (error) {
        throw blockError(error, 'fallocate');
      }
    },
    setSize(bytes) {
      try {
        fs.ftruncateSync(fd, bytes);
      } catch (error) {
        throw blockError(error, 'ftruncate');
      }
    },
    state() {
      return fileState(fd);
    },
    close() {
      fs.closeSync(fd);
    },
  };
}

function readNow(
  fd: number,
  offset: number,
  into: readonly Uint8Array[],
  length: number,
): MaybePromise<void> {
  let done = 0;
  let rest = into;
  while (done < length) {
    const count = readPart(fd, offset + done, rest, length - done);
    if (count < 0) return readAsync(fd, offset + done, rest, length - done);
    done += count;
    if (done === length) return;
    rest = sliceVectors(into, done, length - done);
    if (count === 0) return fillZeros(rest);
  }
}

/** Bytes read, 0 at the end of the file; negative when it is for the thread pool to read them. */
function readPart(fd: number, offset: number, into: readonly Uint8Array[], length: number): number {
  try {
    const count = readCached(fd, into, offset);
    if (count !== CANNOT) return count;
    if (length > BLIND_READ_BYTES_MAX) return WOULD_WAIT;
    return into.length === 1 ? fs.readSync(fd, into[0]!, 0, length, offset) : fs.readvSync(fd, into, offset);
  } catch (error) {
    throw blockError(error, 'read');
  }
}

function writeNow(fd: number, offset: number, from: readonly Uint8Array[], length: number): void {
  let done = 0;
  let rest = from;
  while (done < length) {
    done += writePart(fd, offset + done, rest, length - done);
    if (done < length) rest = sliceVectors(from, done, length - done);
  }
}

function writePart(fd: number, offset: number, from: readonly Uint8Array[], length: number): number {
  try {
    const count = writeShared(fd, from, offset);
    if (count >= 0) return count;
    return from.length === 1
      ? fs.writeSync(fd, from[0]!, 0, length, offset)
      : fs.writevSync(fd, from, offset);
  } catch (error) {
    throw blockError(error, 'write');
  }
}

function readAsync(fd: number, offset: number, into: readonly Uint8Array[], length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const step = (rest: readonly Uint8Array[]): void => {
      fs.readv(fd, rest, offset + done, (error, count) => {
        if (error !== null) return reject(blockError(error, 'read'));
        done += count;
        if (done === length) return resolve();
        const left = sliceVectors(into, done, length - done);
        if (count > 0) return step(left);
        fillZeros(left);
        resolve();
      });
    };
    if (length === 0) resolve();
    else step(into);
  });
}

function writeAsync(fd: number, offset: number, from: readonly Uint8Array[], length: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const step = (rest: readonly Uint8Array[]): void => {
      fs.writev(fd, rest, offset + done, (error, count) => {
        if (error !== null) return reject(blockError(error, 'write'));
        done += count;
        if (done === length) resolve();
        else step(sliceVectors(from, done, length - done));
      });
    };
    if (length === 0) resolve();
    else step(from);
  });
}

/** What tells one state of a file from another: its identity, size, and times of change in nanoseconds. */
export function fileState(fd: number): string {
  const { dev, ino, size, mtimeNs, ctimeNs } = fs.fstatSync(fd, { bigint: true });
  return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
}

export interface OpenedFile {
  readonly fd: number;
  /** As `fileState`, when it had been locked and nothing done to it. */
  readonly state: string;
  readonly stat: fs.Stats;
  /** In bytes; for a block device the device's size. */
  readonly sizeBytes: number;
}

/**
 * Opens and locks an existing regular file or block device: exclusively when writable, shared otherwise.
 * O_NONBLOCK keeps a FIFO in its place from blocking the thread. AppErrors: `not_found`, `bad_image`,
 * `in_use`, `io_error`, with `field` as the field.
 */
export function openLocked(path: string, writable: boolean, field: string, locked = true): OpenedFile {
  let fd: number;
  try {
    fd = fs.openSync(
      path,
      (writable ? fs.constants.O_RDWR : fs.constants.O_RDONLY) | fs.constants.O_NONBLOCK,
    );
  } catch (error) {
    const missing = errnoOf(error) === 'ENOENT';
    throw new AppError(missing ? 'not_found' : 'io_error', `cannot open ${path}: ${messageOf(error)}`, {
      field,
      remedy: missing
        ? 'give the path of an existing file'
        : 'check the permissions of the file and its folders',
      cause: error,
    });
  }
  try {
    const stat = fs.fstatSync(fd);
    if (!stat.isFile() && !stat.isBlockDevice()) {
      throw new AppError('bad_image', `${path} is neither a regular file nor a block device`, {
        field,
        remedy: 'give the path of a disk image file',
      });
    }
    if (locked && !lockFile(fd, writable ? 'exclusive' : 'shared')) {
      throw new AppError('in_use', `${path} is in use by another virtual machine or program`, {
        field,
        remedy: 'stop the machine that uses it, or use another file',
      });
    }
    return { fd, stat, state: fileState(fd), sizeBytes: stat.isFile() ? stat.size : seekEnd(fd) };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}
