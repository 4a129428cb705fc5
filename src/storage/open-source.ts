/** Opening disk files of any format for reading: raw, COW files of UML, qcow2. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import type { DiskConfig } from '../contracts/machine.ts';
import { isCow } from './cow/header.ts';
import type { DataRange, DiskSource } from './disk-source.ts';
import { isInside } from './durable.ts';
import { errnoOf, messageOf } from './errors.ts';
import { type HostFile, hostFile, type OpenedFile, openLocked } from './host-file.ts';
import { findChain } from './layers/chain.ts';
import { openLayers } from './layers/files.ts';
import { seekData } from './libc.ts';
import { isQcow2, parseQcow2Header, QCOW2_HEADER_BYTES_MAX, type Qcow2Header } from './qcow2/header.ts';
import { Qcow2Source } from './qcow2/source.ts';
import type { Volume } from './volume.ts';

export type DiskFormat = 'raw' | 'qcow2' | 'cow';

/** More files than this over each other are refused. */
export const CHAIN_MAX = 32;

export interface SourceOptions {
  /** Instead of what the file begins with. */
  readonly format?: DiskFormat | undefined;
}

/** What the first bytes of a file say. A raw disk can begin with anything: its content is its guest's. */
export function detectFormat(file: string): DiskFormat {
  const opened = openLocked(file, false, 'from');
  try {
    return formatOf(readStart(opened.fd, 8));
  } finally {
    fs.closeSync(opened.fd);
  }
}

function formatOf(start: Uint8Array): DiskFormat {
  if (isQcow2(start)) return 'qcow2';
  return isCow(start) ? 'cow' : 'raw';
}

/**
 * Opens and locks a disk file and all files below it. A qcow2 file names its backing file, and is hostile input: only files
 * in the folder of `file`, or in folders below that, are opened, wherever links lead. For a COW file see `findChain`.
 *
 * AppErrors: `not_found`, `bad_image`, `unsupported`, `forbidden` (backing file elsewhere), `in_use`, `io_error`, and
 * those of COW files.
 */
export async function openSource(file: string, options: SourceOptions = {}): Promise<DiskSource> {
  const format = options.format ?? detectFormat(file);
  if (format === 'cow') {
    return new VolumeSource(openLayers({ device: 'from', ...findChain(file), readOnly: true }));
  }
  const opened = openLocked(file, false, 'from');
  if (format === 'raw') return rawSource(opened, file);
  const chain = { folder: fs.realpathSync(path.dirname(file)), seen: new Set([identity(opened)]) };
  return await openQcow2(opened, file, chain);
}

/** A disk of a machine's configuration, which no machine has open, with all layers below it. AppErrors as `openDisk`. */
export async function openDiskSource(config: DiskConfig): Promise<DiskSource> {
  // The guest's content is never taken for another format.
  if (config.cow === undefined) return await openSource(config.file, { format: 'raw' });
  return new VolumeSource(openLayers({ ...config, readOnly: true }));
}

interface Chain {
  /** No backing file is outside of it. */
  readonly folder: string;
  readonly seen: Set<string>;
}

const identity = ({ stat }: OpenedFile): string => `${stat.dev}:${stat.ino}`;

async function openQcow2(opened: OpenedFile, file: string, chain: Chain): Promise<DiskSource> {
  const host = hostFile(opened.fd);
  let header: Qcow2Header;
  let backing: DiskSource | undefined;
  try {
    header = parseQcow2Header(readStart(opened.fd, QCOW2_HEADER_BYTES_MAX), opened.sizeBytes);
    if (header.backing !== undefined) backing = await openBackingFile(header.backing, file, chain);
  } catch (error) {
    host.close();
    throw error;
  }
  return await Qcow2Source.open(header, host, opened.sizeBytes, backing);
}

function refuse(code: 'forbidden' | 'unsupported' | 'bad_image' | 'not_found', message: string): AppError {
  return new AppError(code, message, {
    field: 'backing_file',
    remedy: 'put the backing file beside the qcow2 file, or make it independent with `qemu-img rebase -b ""`',
  });
}

async function openBackingFile(
  backing: NonNullable<Qcow2Header['backing']>,
  file: string,
  chain: Chain,
): Promise<DiskSource> {
  if (backing.format !== undefined && backing.format !== 'raw' && backing.format !== 'qcow2') {
    throw refuse('unsupported', `the backing file of ${file} has the format ${backing.format}`);
  }
  if (/^[^/]*:/.test(backing.path)) {
    throw refuse('unsupported', `the backing file of ${file} is no path: ${backing.path}`);
  }
  const opened = openInFolder(path.resolve(path.dirname(file), backing.path), file, chain.folder);
  try {
    if (chain.seen.has(identity(opened))) {
      throw refuse('bad_image', `${file} is, in the end, its own backing file`);
    }
    chain.seen.add(identity(opened));
    if (chain.seen.size > CHAIN_MAX) {
      throw refuse('unsupported', `more than ${CHAIN_MAX} files are over each other`);
    }
  } catch (error) {
    fs.closeSync(opened.fd);
    throw error;
  }
  const format = backing.format ?? (isQcow2(readStart(opened.fd, 8)) ? 'qcow2' : 'raw');
  const at = fs.readlinkSync(`/proc/self/fd/${opened.fd}`);
  return format === 'qcow2' ? await openQcow2(opened, at, chain) : rawSource(opened, at);
}

function openInFolder(backing: string, file: string, folder: string): OpenedFile {
  const outside = refuse('forbidden', `the backing file of ${file} is outside of ${folder}: ${backing}`);
  let real: string;
  try {
    real = fs.realpathSync(backing);
  } catch (error) {
    // A path elsewhere is told nothing of what is there.
    if (!isInside(backing, folder)) throw outside;
    const missing = errnoOf(error) === 'ENOENT';
    const what = `the backing file of ${file} ${missing ? 'is missing' : 'cannot be opened'}`;
    throw refuse(missing ? 'not_found' : 'bad_image', `${what}: ${messageOf(error)}`);
  }
  if (!isInside(real, folder)) throw outside;
  const opened = openLocked(real, false, 'backing_file');
  // Again, of what was opened: a link may have changed in between.
  const wrong = !opened.stat.isFile() || !isInside(fs.readlinkSync(`/proc/self/fd/${opened.fd}`), folder);
  if (!wrong) return opened;
  fs.closeSync(opened.fd);
  throw outside;
}

function readStart(fd: number, lengthMax: number): Uint8Array {
  const length = Math.min(fs.fstatSync(fd).size, lengthMax);
  const bytes = new Uint8Array(length);
  return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, 0));
}

function rawSource(opened: OpenedFile, file: string): DiskSource {
  if (opened.sizeBytes > 0) return new RawSource(opened);
  fs.closeSync(opened.fd);
  throw new AppError('bad_image', `${file} is empty`, { field: 'from', remedy: 'give a disk with content' });
}

class RawSource implements DiskSource {
  readonly sizeBytes: number;
  readonly #fd: number;
  readonly #file: HostFile;

  constructor({ fd, sizeBytes }: OpenedFile) {
    this.#fd = fd;
    this.#file = hostFile(fd);
    this.sizeBytes = sizeBytes;
  }

  nextData(offset: number, limit = this.sizeBytes): Promise<DataRange | undefined> {
    const end = Math.min(limit, this.sizeBytes);
    const found = offset < end ? seekData(this.#fd, offset) : undefined;
    const inside = found !== undefined && found.start < end;
    return Promise.resolve(inside ? { start: found.start, end: Math.min(found.end, end) } : undefined);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#file.read(offset, [into], true);
  }

  close(): Promise<void> {
    this.#file.close();
    return Promise.resolve();
  }
}

/** Where its zeros are is not asked: they are found when it is read. */
class VolumeSource implements DiskSource {
  readonly sizeBytes: number;
  readonly #volume: Volume;

  constructor(volume: Volume) {
    this.#volume = volume;
    this.sizeBytes = volume.sizeBytes;
  }

  nextData(offset: number, limit = this.sizeBytes): Promise<DataRange | undefined> {
    return Promise.resolve(offset < limit ? { start: offset, end: limit } : undefined);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#volume.read(offset, [into], true);
  }

  async close(): Promise<void> {
    await this.#volume.close();
  }
}
