/** Backups in tests: a store in a scratch folder, and what one needs to write to it and read it. */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { BackupHead, BackupPlan, BackupSummary, StoreConfig } from '../../contracts/backup.ts';
import { type BackupProgress, type BackupRun, prepareBackup } from '../backup.ts';
import { runStoreTask } from '../backup-store/store-task.ts';
import type { GuestDisk } from '../guest-disk.ts';

export const STORE_ID = 'test-store';

export function storeIn(folder: string): StoreConfig {
  return {
    location: { kind: 'directory', folder: path.join(folder, 'store') },
    indexFile: path.join(folder, 'index.sqlite'),
  };
}

export function storeFolder(store: StoreConfig): string {
  if (store.location.kind !== 'directory') throw new Error('the store is no folder');
  return store.location.folder;
}

export function backupHead(): BackupHead {
  return {
    id: `bak-${randomBytes(8).toString('hex')}`,
    name: 'test',
    tenant: 'default',
    createdAt: Date.now(),
    scheduleId: null,
    vm: {
      id: 'vm-1',
      name: 'vm',
      imageId: 'image',
      memoryBytes: 1 << 27,
      append: '',
      networks: [],
      debugExitPort: null,
    },
  };
}

export function backupPlan(store: StoreConfig, parent: string | null = null): BackupPlan {
  return { store, storeId: STORE_ID, head: backupHead(), diskIds: { ubd0: 'disk-0' }, parent };
}

export async function beginBackup(
  disks: readonly GuestDisk[],
  store: StoreConfig,
  parent: string | null = null,
  onProgress?: BackupProgress,
): Promise<BackupRun> {
  const prepared = await prepareBackup(disks, backupPlan(store, parent));
  return prepared.begin('crash', onProgress);
}

export async function backUp(
  disks: readonly GuestDisk[],
  store: StoreConfig,
  parent: string | null = null,
): Promise<BackupSummary> {
  return (await beginBackup(disks, store, parent)).finished;
}

/** The content of a disk in a backup. */
export async function contentOf(store: StoreConfig, backupId: string, device: string): Promise<Buffer> {
  const file = path.join(path.dirname(store.indexFile), `restored-${randomBytes(4).toString('hex')}`);
  try {
    await runStoreTask(store, 'restore', { backupId, disks: [{ device, file }] });
    return fs.readFileSync(file);
  } finally {
    fs.rmSync(file, { force: true });
  }
}

/** Every file of the store, names relative to it. */
export function filesOf(store: StoreConfig): string[] {
  const folder = storeFolder(store);
  return fs
    .readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => fs.statSync(path.join(folder, name)).isFile())
    .sort();
}
