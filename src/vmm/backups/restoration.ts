/** The job that makes disks from a backup: of a new VM, or in place of those of the old one. */
import * as fs from 'node:fs';
import type { JobContext, JobPayloads } from '../../contracts/jobs.ts';
import { AppError } from '../../contracts/errors.ts';
import type { BackupRow, DiskRow, LayerRow, SnapshotRow } from '../../db/index.ts';
import { copyDisk } from '../../storage/index.ts';
import { notFound } from '../access.ts';
import { newId } from '../ids.ts';
import type { DiskContent } from '../services/disks.ts';
import { giveSettings } from '../services/saved-settings.ts';
import type { BackupConfig, BackupDeps } from './deps.ts';

const ROOT_DEVICE = 'ubd0';

/** A disk file that is made. */
interface Made {
  readonly snapshot: SnapshotRow;
  readonly file: string;
  /** The image's layer that it is over. */
  readonly base: LayerRow | undefined;
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
    const made = this.#plan(backup, payload, (device) => `${folder}/${device}`);
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
      const made = this.#plan(backup, payload, (device) =>
        home.file('vms', vmId, `${device}.${newId('layer').slice('layer-'.length)}`),
      );
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

  /** What is to be made of a backup. @param name a file's, without its extension */
  #plan(backup: BackupRow, payload: JobPayloads['backup.restore'], name: (device: string) => string): Made[] {
    return this.#deps.store.backups.snapshots([backup.id]).map((snapshot) => {
      const base = payload.fullCopy === true ? undefined : this.#baseOf(backup, snapshot);
      return { snapshot, base, file: `${name(snapshot.device)}.${base === undefined ? 'img' : 'cow'}` };
    });
  }

  /** The image's layer that a disk was over: the disk's own if it is still there, else the root disk's was the VM's. */
  #baseOf(backup: BackupRow, snapshot: SnapshotRow): LayerRow | undefined {
    const { disks } = this.#deps.store;
    // Flat copies are made by sharing blocks.
    if (backup.destination_id === null) return undefined;
    const disk = snapshot.disk_id === null ? undefined : disks.get(snapshot.disk_id);
    const root = snapshot.device === ROOT_DEVICE ? backup.image_id : null;
    const imageId = disk === undefined ? root : disk.image_id;
    const base = imageId === null ? undefined : disks.imageLayer(imageId);
    return base?.size_bytes === snapshot.size_bytes ? base : undefined;
  }

  /** Makes files of a backup's disks, all of them or none. */
  async makeFiles(backup: BackupRow, made: readonly Made[], context: JobContext): Promise<void> {
    const { stores } = this.#deps;
    const onProgress = (done: number, total: number): void =>
      context.progress({ done, total, unit: 'bytes' });
    if (backup.destination_id === null) return await this.#copyBack(made, onProgress, context.signal);
    const disks = made.map(({ snapshot, file, base }) => ({
      device: snapshot.device,
      file,
      base: base?.image_id == null ? undefined : this.#deps.disks.imageFile(base.image_id),
    }));
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
      imageId: payload.imageId ?? backup.image_id,
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

  #content({ snapshot, file, base }: Made): DiskContent {
    if (base !== undefined && this.#deps.store.disks.imageLayer(base.image_id ?? '') === undefined) {
      throw new AppError('conflict', 'the image that the disk was restored over has been deleted', {
        field: 'full_copy',
        remedy: 'restore again: a full copy is made where the image is gone',
      });
    }
    return {
      kind: base === undefined ? 'raw' : 'cow',
      path: this.#deps.home.relative(file),
      sizeBytes: snapshot.size_bytes,
      parentLayerId: base?.id,
      originLayerId: snapshot.layer_id,
    };
  }

  #insertDisk(tenant: string, vmId: string, made: Made): void {
    const { snapshot } = made;
    this.#deps.disks.record({
      id: newId('disk'),
      tenant,
      name: `${vmId}-${snapshot.device}`,
      vmId,
      device: snapshot.device,
      readOnly: snapshot.read_only === 1,
      ownedByVm: true,
      ...this.#content(made),
    });
  }

  #putInPlace(tenant: string, vmId: string, made: Made): void {
    const { store, disks } = this.#deps;
    const old = store.disks.ofVm(vmId).find((disk) => disk.device === made.snapshot.device);
    if (old === undefined) {
      this.#insertDisk(tenant, vmId, made);
      return;
    }
    requireOwn(old);
    disks.replaceContent(old, this.#content(made));
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
