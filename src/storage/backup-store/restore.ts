/** Disk files from a backup. */
import * as path from 'node:path';
import { AppError } from '../../contracts/errors.ts';
import { BackupTarget } from '../backup-target.ts';
import { syncFolder } from '../durable.ts';
import { fileError } from '../errors.ts';
import { CowTarget } from './cow-target.ts';
import type { BackupManifest, DiskManifest } from './manifest.ts';
import { diskPieces } from './reader.ts';
import type { BackupStore } from './store.ts';

/** Writes under way. */
const WRITES_MAX = 4;

export interface RestoredDisk {
  readonly device: string;
  /** A new file. A raw one appears complete and durable or not at all. */
  readonly file: string;
  /** The raw file that the disk is to be copy-on-write over, of the same size; undefined: a raw disk. */
  readonly base?: string | undefined;
}

export interface TaskControl {
  readonly signal: AbortSignal;
  progress(done: number, total: number): void;
}

export function stopIfAborted({ signal }: TaskControl): void {
  if (signal.aborted) throw new AppError('canceled', 'it was canceled on request');
}

interface Target {
  /** Whole chunks. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  complete(control: TaskControl): Promise<void>;
  publish(): void;
  discard(): void | Promise<void>;
}

/**
 * Makes files of the disks that are named, all or none of them. AppErrors: `not_found`, `backup_corrupt`, `already_exists`,
 * `disk_full`, `io_error`, `canceled`.
 */
export async function restoreDisks(
  store: BackupStore,
  manifest: BackupManifest,
  disks: readonly RestoredDisk[],
  control: TaskControl,
): Promise<void> {
  const wanted = disks.map((disk) => ({ ...disk, from: diskOf(manifest, disk.device) }));
  const total = wanted.reduce((sum, { from }) => sum + from.sizeBytes, 0);
  const targets: Target[] = [];
  let before = 0;
  try {
    for (const { file, base, from } of wanted) {
      const target = openTarget(file, base, from.sizeBytes);
      targets.push(target);
      await fill(store, from, target, control, (done) => control.progress(before + done, total));
      await target.complete(control);
      before += from.sizeBytes;
    }
    for (const target of targets) target.publish();
    for (const folder of new Set(disks.map(({ file }) => path.dirname(file)))) syncFolder(folder);
  } catch (error) {
    for (const target of targets) await target.discard();
    throw fileError(error, 'to', 'the disks cannot be restored');
  }
  control.progress(total, total);
}

function openTarget(file: string, base: string | undefined, sizeBytes: number): Target {
  return base === undefined ? new BackupTarget(file, sizeBytes) : new CowTarget(file, base, sizeBytes);
}

export function diskOf(manifest: BackupManifest, device: string): DiskManifest {
  const disk = manifest.disks.find((one) => one.device === device);
  if (disk !== undefined) return disk;
  throw new AppError('not_found', `the backup has no disk ${device}`, {
    field: 'device',
    remedy: `it has ${manifest.disks.map((one) => one.device).join(', ')}`,
  });
}

async function fill(
  store: BackupStore,
  disk: DiskManifest,
  target: Target,
  control: TaskControl,
  progress: (done: number) => void,
): Promise<void> {
  const writes = new Set<Promise<void>>();
  let failure: unknown;
  let furthest = 0;
  for await (const { offset, bytes } of diskPieces(store, disk)) {
    stopIfAborted(control);
    const write = target
      .write(offset, bytes)
      .catch((error: unknown) => {
        failure ??= error;
      })
      .finally(() => writes.delete(write));
    writes.add(write);
    if (writes.size >= WRITES_MAX) await Promise.race(writes);
    if (failure !== undefined) break;
    furthest = Math.max(furthest, offset);
    progress(furthest);
  }
  await Promise.all(writes);
  if (failure !== undefined) throw failure;
}
