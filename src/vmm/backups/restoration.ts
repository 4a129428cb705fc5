/** The job that makes disks from a backup: of a new VM, or in place of those of the old one. */
import * as fs from 'node:fs';
import type { JobContext, JobPayloads } from '../../contracts/jobs.ts';
import { AppError } from '../../contracts/errors.ts';
import type { BackupRow, DiskRow, SnapshotRow } from '../../db/index.ts';
import { copyDisk } from '../../storage/index.ts';
import { notFound } from '../access.ts';
import { newId } from '../ids.ts';
import { giveSettings } from '../services/saved-settings.ts';
import type { BackupConfig, BackupDeps } from './deps.ts';

/** A disk file that has been made. */
interface Made {
  readonly snapshot: SnapshotRow;
  readonly file: string;
}

export class BackupRestoration {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  async restore(payload: JobPayloads['backup.restore'], context: JobContext): Promise<void> {
    const backup = this.#deps.store.backups.get(payload.backupId);
    if (backup === undefined) throw notFound('backup', payload.backupId);
    if (payload.over === true) await this.#restoreOver(payload, backup, context);
    else await this.#restoreNew(payload, backup, context);
  }

  async #restoreNew(
    payload: JobPayloads['backup.restore'],
    backup: BackupRow,
    context: JobContext,
  ): Promise<void> {
    const { store, home, supervisor } = this.#deps;
    const { vmId } = payload;
    // Done in an earlier run, which was killed before it could say so.
    if (store.vms.get(vmId) !== undefined) return;
    const folder = home.file('vms', vmId);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(folder, { mode: 0o700 });
    const made = store.backups
      .snapshots([backup.id])
      .map((snapshot) => ({ snapshot, file: `${folder}/${snapshot.device}.img` }));
    try {
      await this.makeFiles(backup, made, context);
      store.transaction(() => {
        this.#insertVm(payload, backup);
        for (const one of made) this.#insertDisk(payload.tenant, vmId, one);
        this.#tell(backup, payload.tenant, vmId);
      });
    } catch (error) {
      fs.rmSync(folder, { recursive: true, force: true });
      throw error;
    }
    const instance = supervisor.add(vmId);
    if (payload.start) await instance.start();
  }

  /** New files, and then, in one transaction, the VM has them in place of the old ones. */
  async #restoreOver(
    payload: JobPayloads['backup.restore'],
    backup: BackupRow,
    context: JobContext,
  ): Promise<void> {
    const { store, home, disks, supervisor } = this.#deps;
    const { vmId, tenant } = payload;
    const instance = supervisor.get(vmId);
    await instance.exclusive(async () => {
      requireOff(instance.hasMachine);
      const made = store.backups.snapshots([backup.id]).map((snapshot) => ({
        snapshot,
        file: home.file('vms', vmId, `${snapshot.device}.${newId('layer').slice('layer-'.length)}.img`),
      }));
      try {
        await this.makeFiles(backup, made, context);
      } catch (error) {
        for (const { file } of made) fs.rmSync(file, { force: true });
        throw error;
      }
      store.transaction(() => {
        for (const one of made) this.#putInPlace(tenant, vmId, one);
        this.#tell(backup, tenant, vmId);
      });
      disks.onForgotten();
    });
    if (payload.start) await instance.start();
  }

  /** Makes raw files of a backup's disks, all of them or none. */
  async makeFiles(backup: BackupRow, made: readonly Made[], context: JobContext): Promise<void> {
    const { stores } = this.#deps;
    const onProgress = (done: number, total: number): void =>
      context.progress({ done, total, unit: 'bytes' });
    if (backup.destination_id === null) return await this.#copyBack(made, onProgress, context.signal);
    const disks = made.map(({ snapshot, file }) => ({ device: snapshot.device, file }));
    const input = { backupId: backup.id, disks };
    await stores.run(backup.destination_id, 'restore', input, { signal: context.signal, onProgress });
  }

  async #copyBack(
    made: readonly Made[],
    progress: (done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const total = made.reduce((sum, { snapshot }) => sum + snapshot.size_bytes, 0);
    let before = 0;
    for (const { snapshot, file } of made) {
      const onProgress = (done: number): void => progress(before + done, total);
      await copyDisk(this.#deps.home.absolute(snapshot.path), file, { onProgress, signal });
      before += snapshot.size_bytes;
    }
  }

  #insertVm(payload: JobPayloads['backup.restore'], backup: BackupRow): void {
    const { store, vms, nics } = this.#deps;
    const { vmId, tenant } = payload;
    const config = JSON.parse(backup.config) as BackupConfig;
    vms.insert({
      id: vmId,
      tenant,
      name: payload.name,
      imageId: backup.image_id,
      memoryBytes: payload.memoryBytes ?? backup.memory_bytes,
      append: backup.append,
      autostart: payload.autostart ?? 'last-state',
      debugExitPort: config.debugExitPort,
      labels: payload.labels ?? {},
      nics: payload.isolated === true ? [] : nics.planAgain(vmId, tenant, config),
    });
    const { cloud_init } = config.settings ?? {};
    giveSettings(store, vmId, payload.isolated === true ? { cloud_init } : config.settings);
  }

  #insertDisk(tenant: string, vmId: string, { snapshot, file }: Made): void {
    this.#deps.disks.record({
      id: newId('disk'),
      tenant,
      name: `${vmId}-${snapshot.device}`,
      vmId,
      device: snapshot.device,
      readOnly: snapshot.read_only === 1,
      ownedByVm: true,
      kind: 'raw',
      path: this.#deps.home.relative(file),
      sizeBytes: snapshot.size_bytes,
      originLayerId: snapshot.layer_id,
    });
  }

  #putInPlace(tenant: string, vmId: string, made: Made): void {
    const { store, disks, home } = this.#deps;
    const { snapshot, file } = made;
    const old = store.disks.ofVm(vmId).find((disk) => disk.device === snapshot.device);
    if (old === undefined) {
      this.#insertDisk(tenant, vmId, made);
      return;
    }
    requireOwn(old);
    disks.replaceContent(old, home.relative(file), snapshot.size_bytes, snapshot.layer_id);
  }

  #tell(backup: BackupRow, tenant: string, vmId: string): void {
    const resource = { type: 'backup', id: backup.id } as const;
    this.#deps.events.append({ type: 'backup.restored', tenant, resource, data: { vm_id: vmId } });
  }
}

export function requireOff(hasMachine: boolean): void {
  if (!hasMachine) return;
  throw new AppError('conflict', 'the VM runs: its disks cannot be replaced', {
    field: 'over',
    remedy: 'halt it first, or restore to a new VM',
  });
}

/** An operator's own file is not ours to replace. */
export function requireOwn(disk: DiskRow): void {
  if (disk.layer_kind !== 'external') return;
  throw new AppError('conflict', `${disk.device} is a file of the operator's: ${disk.path}`, {
    field: 'over',
    remedy: 'detach it first, or restore to a new VM',
  });
}
