/** The files of layers: opening a disk's chain of them, making new ones, and stamping those that are frozen. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '../../contracts/errors.ts';
import type { DiskConfig } from '../../contracts/machine.ts';
import { COW_MODE, mtimeSeconds } from '../cow/create.ts';
import { COW_SECTOR_BYTES, type CowHeader, dataAt, encodeCowHeader } from '../cow/header.ts';
import {
  createMissing,
  type FileBelow,
  type OpenedCow,
  openBacking,
  openCowOver,
  readWholeHeader,
  reserveBitmap,
} from '../cow/open.ts';
import { CowVolume } from '../cow/volume.ts';
import { absolutePath, removeQuietly, syncFolder } from '../durable.ts';
import { fileError } from '../errors.ts';
import { fileState, type HostFile, hostFile, type OpenedFile, openLocked } from '../host-file.ts';
import { lockFile } from '../libc.ts';
import { RawVolume } from '../raw-volume.ts';
import type { DiskBelow } from '../volume.ts';
import { belowOf, LayeredVolume, type TopLayer } from './layered-volume.ts';
import { type FrozenLayer, LayerStack } from './layer-stack.ts';
import type { LowerLayer } from './top-merge.ts';

const fsync = promisify(fs.fsync);
const futimes = promisify(fs.futimes);

/** The files under a top layer: a raw one, and copy-on-write files over it, the lowest first. */
export type LayerFiles = Pick<DiskConfig, 'file' | 'frozen' | 'merging'>;

/**
 * Opens and locks all files of a disk: its top for writing unless it is read-only, the others for reading. Each must
 * have the size and the modification time that the one above it has in its header. AppErrors as `openDisk`.
 */
export function openLayers(config: DiskConfig): LayeredVolume {
  const { file, cow, readOnly, unlocked = false } = config;
  if (cow === undefined) return openRawDisk(file, readOnly, !unlocked);
  if (!readOnly && (config.frozen ?? []).length === 0) createMissing(cow, file);
  const { opened, header, stack, states } = openCowTop(cow, config, readOnly);
  return new LayeredVolume(cowTop(cow, opened, header, belowOf(stack)), states, stack);
}

/** A copy-on-write file and the layers under it, opened, locked and checked; they are the caller's. AppErrors as `openDisk`. */
export function openCowTop(
  cow: string,
  files: LayerFiles,
  readOnly: boolean,
): OpenedCow & { readonly stack: LayerStack; readonly states: readonly string[] } {
  const { layers, below, states } = openStack(files);
  try {
    const anyTime = files.merging?.includes(below.path) ?? false;
    const { opened, header } = openCowOver(cow, below, { readOnly, anyTime });
    return { opened, header, stack: new LayerStack(layers), states: [opened.state, ...states] };
  } catch (error) {
    for (const layer of layers) layer.file.close();
    throw error;
  }
}

/** The frozen layers of a disk, opened for reading; they are the caller's. */
export function openFrozen(files: LayerFiles): readonly FrozenLayer[] {
  return openStack(files).layers;
}

function openStack({ file, frozen = [], merging = [] }: LayerFiles): {
  readonly layers: FrozenLayer[];
  readonly below: FileBelow;
  /** Of the files, as they were found. */
  readonly states: string[];
} {
  let below: FileBelow = { path: file, opened: openBacking(file) };
  const states = [below.opened.state];
  const layers: FrozenLayer[] = [{ file: hostFile(below.opened.fd), placement: undefined }];
  try {
    for (const cow of frozen) {
      const anyTime = merging.includes(below.path);
      const { opened, header } = openCowOver(cow, below, { readOnly: true, anyTime });
      layers.push({ file: hostFile(opened.fd), placement: header });
      states.push(opened.state);
      below = { path: cow, opened: { ...opened, sizeBytes: header.sizeBytes } };
    }
    return { layers, below, states };
  } catch (error) {
    for (const layer of layers) layer.file.close();
    throw error;
  }
}

function openRawDisk(file: string, readOnly: boolean, locked: boolean): LayeredVolume {
  const { fd, sizeBytes, state } = openLocked(file, !readOnly, 'file', locked);
  if (sizeBytes === 0) {
    fs.closeSync(fd);
    throw new AppError('bad_image', `the disk file ${file} is empty`, {
      field: 'file',
      remedy: 'make it the size that the disk shall have, for example with truncate -s 1G',
    });
  }
  return new LayeredVolume(rawTop(file, fd, sizeBytes), [state]);
}

function rawTop(file: string, fd: number, sizeBytes: number): TopLayer {
  const host = hostFile(fd);
  return {
    path: file,
    file: host,
    placement: undefined,
    volume: new RawVolume(host, sizeBytes),
    seal: (mtime) => seal(file, fd, mtime),
  };
}

function cowTop(file: string, { fd }: OpenedFile, header: CowHeader, below: DiskBelow): TopLayer {
  const host = hostFile(fd);
  return {
    path: file,
    file: host,
    placement: header,
    volume: new CowVolume(host, below, header),
    seal: (mtime) => seal(file, fd, mtime),
  };
}

async function seal(file: string, fd: number, mtime: number): Promise<HostFile> {
  // The lock for writing becomes one for reading, so that the second opening can have one.
  lockFile(fd, 'shared');
  const opened = openLocked(file, false, 'file');
  try {
    await stamp(opened.fd, mtime);
  } catch (error) {
    fs.closeSync(opened.fd);
    throw fileError(error, 'file', `cannot freeze ${file}`);
  }
  return hostFile(opened.fd);
}

/** Gives a file a modification time (seconds), durable with all of its content. */
async function stamp(fd: number, mtime: number): Promise<void> {
  await futimes(fd, mtime, mtime);
  await fsync(fd);
}

/** As `stamp`, of a layer's file that nobody writes to. */
export async function stampLayer(file: string, mtime: number): Promise<void> {
  const { fd } = openLocked(file, false, 'file');
  try {
    await stamp(fd, mtime);
  } catch (error) {
    throw fileError(error, 'file', `cannot freeze ${file}`);
  } finally {
    fs.closeSync(fd);
  }
}

export interface NewLayer {
  /** The file below, which may be the top of a machine that runs. */
  readonly below: string;
  /** The modification time (seconds) that it has or will be given. */
  readonly mtime: number;
  /** Of the disk. */
  readonly sizeBytes: number;
}

/**
 * Makes empty copy-on-write files over other layers, all of them or none, and durable: together, because each making durable by itself
 * waits for all that the host has to write. AppErrors as `createCow`.
 */
export function createLayers(layers: readonly (NewLayer & { readonly file: string })[]): void {
  const made: { readonly file: string; readonly fd: number }[] = [];
  try {
    for (const { file, below, mtime, sizeBytes } of layers) {
      const { bytes, header } = encodeCowHeader({
        backingPath: absolutePath(below),
        backingMtime: mtime,
        sizeBytes,
      });
      const fd = fs.openSync(file, 'wx', COW_MODE);
      made.push({ file, fd });
      fs.writeSync(fd, bytes, 0, bytes.length, 0);
      fs.ftruncateSync(fd, dataAt(header, header.sizeBytes));
      reserveBitmap(fd, header);
    }
    for (const { fd } of made) fs.fsyncSync(fd);
    for (const folder of new Set(made.map(({ file }) => path.dirname(file)))) syncFolder(folder);
  } catch (error) {
    for (const { file } of made) removeQuietly(file);
    throw fileError(error, 'cow', 'cannot create the copy-on-write file of a layer');
  } finally {
    for (const { fd } of made) fs.closeSync(fd);
  }
}

/** What a layer's file says: when it was last changed, and what its disk's size is. AppErrors of files and headers. */
export function layerFacts(
  file: string,
  raw: boolean,
): { readonly mtime: number; readonly sizeBytes: number } {
  const opened = openUnlocked(file, false);
  try {
    const sizeBytes = raw ? opened.sizeBytes : readWholeHeader(file, opened).sizeBytes;
    return { mtime: mtimeSeconds(opened.stat), sizeBytes };
  } finally {
    fs.closeSync(opened.fd);
  }
}

/** Opens an empty layer as the new top of a disk, to be put there by `freeze`. AppError `cow_corrupt` when it is not over this disk. */
export function openNewTop(
  disk: LayeredVolume,
  file: string,
  { mtime, readOnly }: { readonly mtime: number; readonly readOnly: boolean },
): TopLayer {
  const opened = openLocked(file, !readOnly, 'cow');
  try {
    const header = readWholeHeader(file, opened);
    const sizeBytes = Math.ceil(header.sizeBytes / COW_SECTOR_BYTES) * COW_SECTOR_BYTES;
    if (sizeBytes === disk.sizeBytes && header.backingMtime === mtime) {
      return cowTop(file, opened, header, disk.below);
    }
    throw new AppError('cow_corrupt', `${file} was not made as a layer over this disk`, { field: 'cow' });
  } catch (error) {
    fs.closeSync(opened.fd);
    throw error;
  }
}

/** Opens the layer below a top for a merge; machines have it open for reading, so it is not locked. */
export function openLower(file: string, below: DiskBelow | undefined): LowerLayer {
  const opened = openUnlocked(file, true);
  const { fd, sizeBytes } = opened;
  try {
    const layer = (at: string): TopLayer =>
      below === undefined
        ? rawTop(at, fd, sizeBytes)
        : cowTop(at, opened, readWholeHeader(at, opened), below);
    const { volume } = layer(file);
    return {
      volume,
      becomeTop: (at) => ({ ...layer(at), volume }),
      lock: () => void lockFile(fd, 'exclusive'),
      abandon: () => void volume.close().catch(() => undefined),
    };
  } catch (error) {
    fs.closeSync(fd);
    throw error;
  }
}

function openUnlocked(file: string, writable: boolean): OpenedFile {
  try {
    const fd = fs.openSync(file, writable ? 'r+' : 'r');
    const stat = fs.fstatSync(fd);
    return { fd, stat, state: fileState(fd), sizeBytes: stat.size };
  } catch (error) {
    throw fileError(error, 'file', `cannot open the layer ${file}`);
  }
}

/**
 * The end of a merge: `lower`, which has all of `upper` now, takes its name. Durable. Nothing when that is done already. If
 * layers are over `upper`, `lower` must have been stamped with its time.
 */
export function replaceLayer(lower: string, upper: string): void {
  if (fs.existsSync(lower)) fs.renameSync(lower, upper);
  for (const folder of new Set([upper, lower].map((file) => path.dirname(file)))) syncFolder(folder);
}
