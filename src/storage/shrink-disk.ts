/** Opening a disk's files to shrink it. */
import * as fs from 'node:fs';
import type { DiskConfig } from '../contracts/machine.ts';
import { AppError } from '../contracts/errors.ts';
import { inspectCow } from './cow/create.ts';
import { fileError } from './errors.ts';
import { openLocked } from './host-file.ts';
import { type LayerFiles, openCowTop } from './layers/files.ts';
import { type DiskFormat, detectFormat } from './open-source.ts';
import type { CopyOptions } from './restore.ts';
import { type Shrunk, shrinkCow, shrinkFile, shrinkRaw } from './shrink.ts';

/**
 * Gives the space of zeros, and of what is as in the backing file, back to the host, and changes nothing that a guest reads.
 * AppErrors: those of `openDisk`, `in_use` while a machine has the disk, `unsupported`, `io_error`, `canceled`.
 */
export async function shrinkDisk(
  disk: LayerFiles & Pick<DiskConfig, 'cow'>,
  options: CopyOptions = {},
): Promise<Shrunk> {
  const { file, cow } = disk;
  try {
    return await (cow === undefined ? shrinkRawFile(file, options) : shrinkCowFile(cow, disk, options));
  } catch (error) {
    throw fileError(error, 'disk', `cannot shrink ${cow ?? file}`);
  }
}

/** As `shrinkDisk`, of a file by its name: a COW file over the backing file that it names, or a raw disk. */
export async function shrinkDiskFile(
  file: string,
  { format, ...options }: CopyOptions & { readonly format?: DiskFormat | undefined } = {},
): Promise<Shrunk> {
  const kind = format ?? detectFormat(file);
  if (kind === 'cow') return await shrinkDisk({ file: inspectCow(file).backingPath, cow: file }, options);
  if (kind === 'raw') return await shrinkDisk({ file }, options);
  throw new AppError('unsupported', `${file} is a qcow2 file`, {
    field: 'file',
    remedy: 'convert it: the copy has no zeros',
  });
}

async function shrinkRawFile(file: string, options: CopyOptions): Promise<Shrunk> {
  const { fd, sizeBytes } = openLocked(file, true, 'file');
  try {
    return await shrinkRaw(shrinkFile(fd), sizeBytes, options);
  } finally {
    fs.closeSync(fd);
  }
}

async function shrinkCowFile(cow: string, files: LayerFiles, options: CopyOptions): Promise<Shrunk> {
  const { opened, header, stack } = openCowTop(cow, files, false);
  try {
    return await shrinkCow(shrinkFile(opened.fd), header, stack, options);
  } finally {
    fs.closeSync(opened.fd);
    stack.close();
  }
}
