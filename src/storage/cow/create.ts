/** Making and inspecting COW files. */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../../contracts/errors.ts';
import { absolutePath, removeQuietly, syncFolder } from '../durable.ts';
import { errnoOf, fileError, messageOf } from '../errors.ts';
import { seekEnd } from '../libc.ts';
import {
  COW_ALIGNMENT,
  COW_HEADER_BYTES_MAX,
  type CowHeader,
  dataAt,
  encodeCowHeader,
  isCow,
  parseCowHeader,
} from './header.ts';

/** A disk image may hold a tenant's secrets; uml_mkcow uses 0644. */
export const COW_MODE = 0o600;

const ALIGNMENT_MAX = 1 << 20;

export interface CreateCowOptions {
  /** Of bitmap and data, in bytes; COW_ALIGNMENT by default. uml_mkcow takes 4096. */
  readonly alignment?: number;
}

/**
 * Makes an empty version 3 COW file `cow` over `backing` and makes it durable. It appears whole or not at all,
 * and an existing file is never touched. AppErrors: `cow_backing_missing`, `bad_image` (backing is no file or
 * empty), `cow_backing_self`, `already_exists`, `invalid_input` (path too long), `disk_full`, `io_error`.
 */
export function createCow(cow: string, backing: string, options: CreateCowOptions = {}): CowHeader {
  const facts = backingFacts(backing);
  if (path.resolve(cow) === path.resolve(backing) || sameFile(cow, backing)) throw backingSelf(cow);
  const alignment = options.alignment ?? COW_ALIGNMENT;
  if (!Number.isSafeInteger(alignment) || alignment < 512 || alignment > ALIGNMENT_MAX) {
    throw new AppError('invalid_input', `a COW alignment of ${alignment} bytes is not possible`, {
      field: 'alignment',
      remedy: `use 512 to ${ALIGNMENT_MAX} bytes`,
    });
  }
  const { bytes, header } = encodeCowHeader({
    backingPath: absolutePath(backing),
    backingMtime: facts.mtime,
    sizeBytes: facts.sizeBytes,
    alignment,
  });
  try {
    publish(cow, bytes, dataAt(header, header.sizeBytes));
  } catch (error) {
    throw fileError(error, 'cow', `cannot create the COW file ${cow}`);
  }
  return header;
}

function publish(cow: string, header: Uint8Array, length: number): void {
  const draft = `${cow}.${randomBytes(6).toString('hex')}.new`;
  const fd = fs.openSync(draft, 'wx', COW_MODE);
  try {
    try {
      fs.writeSync(fd, header, 0, header.length, 0);
      fs.ftruncateSync(fd, length);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    // Unlike rename, link refuses to replace: of two makers one gets EEXIST.
    fs.linkSync(draft, cow);
  } finally {
    removeQuietly(draft);
  }
  syncFolder(path.dirname(path.resolve(cow)));
}

export interface BackingFacts {
  readonly sizeBytes: number;
  /** Seconds modulo 2^32, as the header has it. */
  readonly mtime: number;
}

export function mtimeSeconds(stat: fs.Stats): number {
  return Math.floor(stat.mtimeMs / 1000) >>> 0;
}

function backingFacts(backing: string): BackingFacts {
  let fd: number;
  try {
    fd = fs.openSync(backing, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch (error) {
    throw backingUnusable(error, backing);
  }
  try {
    const stat = fs.fstatSync(fd);
    const sizeBytes = stat.isBlockDevice() ? seekEnd(fd) : stat.size;
    if ((!stat.isFile() && !stat.isBlockDevice()) || sizeBytes === 0) {
      const what =
        sizeBytes === 0 && stat.isFile() ? 'is empty' : 'is neither a regular file nor a block device';
      throw new AppError('bad_image', `the backing file ${backing} ${what}`, {
        field: 'file',
        remedy: 'give the path of a disk image',
      });
    }
    return { sizeBytes, mtime: mtimeSeconds(stat) };
  } finally {
    fs.closeSync(fd);
  }
}

/** A backing file that cannot be opened: `cow_backing_missing`, or as other files. */
export function backingUnusable(error: unknown, backing: string): AppError {
  const missing = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'ENOTDIR';
  if (!missing) return fileError(error, 'file', `cannot open the backing file ${backing}`);
  return new AppError('cow_backing_missing', `the backing file ${backing} is missing: ${messageOf(error)}`, {
    field: 'file',
    remedy: 'put the backing file back in its place, or restore the disk from a backup',
    cause: error,
  });
}

export function backingSelf(cow: string): AppError {
  return new AppError('cow_backing_self', `the COW file ${cow} is its own backing file`, {
    field: 'cow',
    remedy: 'give different files for the disk and its COW file',
  });
}

/** Whether both exist and are one file, also through links. */
export function sameFile(one: string, other: string): boolean {
  const a = fs.statSync(one, { bigint: true, throwIfNoEntry: false });
  const b = fs.statSync(other, { bigint: true, throwIfNoEntry: false });
  return a !== undefined && b !== undefined && a.dev === b.dev && a.ino === b.ino;
}

/** Reads as much of a file as a header can take; names the file in errors. `cow_corrupt`. */
export function readCowHeader(fd: number, file: string): CowHeader {
  const start = readStart(fd);
  try {
    return parseCowHeader(start);
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    const { code, field, remedy } = error;
    throw new AppError(code, `${file}: ${error.message}`, { field, remedy, cause: error });
  }
}

function readStart(fd: number): Uint8Array {
  const bytes = new Uint8Array(COW_HEADER_BYTES_MAX);
  let length = 0;
  for (;;) {
    const count = fs.readSync(fd, bytes, length, bytes.length - length, length);
    length += count;
    if (count === 0 || length === bytes.length) return bytes.subarray(0, length);
  }
}

function withFile<T>(file: string, use: (fd: number) => T): T {
  let fd: number;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw fileError(error, 'cow', `cannot open ${file}`);
    throw new AppError('not_found', `there is no file ${file}`, {
      field: 'cow',
      remedy: 'give the path of an existing COW file',
      cause: error,
    });
  }
  try {
    return use(fd);
  } catch (error) {
    throw fileError(error, 'cow', `cannot read ${file}`);
  } finally {
    fs.closeSync(fd);
  }
}

/** The header of a COW file. AppErrors: `not_found`, `cow_corrupt`, `io_error`. */
export function inspectCow(file: string): CowHeader {
  return withFile(file, (fd) => readCowHeader(fd, file));
}

/**
 * The absolute path of the backing file that a COW file's header names, or undefined when `file` is not a COW file.
 * The header is whatever its last writer wrote: use the answer to guard lineage, never to open it for a guest.
 */
export function backingFileOf(file: string): string | undefined {
  return withFile(file, (fd) =>
    isCow(readStart(fd)) ? path.resolve(readCowHeader(fd, file).backingPath) : undefined,
  );
}
