/** Backups: all disks of a VM at one moment, and new VMs from them. */
import * as fs from 'node:fs';
import type {
  Backup,
  BackupCreate,
  BackupRestore,
  Operation,
  Page,
  Snapshot,
} from '../../contracts/api/index.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { JobContext, JobPayloads, Jobs } from '../../contracts/jobs.ts';
import type { BackupRow, DiskRow, SnapshotRow, Store, VmRow } from '../../db/index.ts';
import { beginBackup, copyDisk, openDisk } from '../../storage/index.ts';
import { findOwned, iso, notFound, type Principal, pageOfRows, tenantFilter } from '../access.ts';
import type { Admission } from '../admission.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import { madeUpName, newId } from '../ids.ts';
import type { Instance } from '../instance/instance.ts';
import { canceled, type Operations } from '../operations.ts';
import type { Log } from '../ports.ts';
import type { Disks } from './disks.ts';
import { nameTaken } from './networks.ts';
import type { Nics } from './nics.ts';
import type { Supervisor } from './supervisor.ts';
import type { Vms } from './vms.ts';

export interface BackupDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly home: Home;
  readonly admission: Admission;
  readonly operations: Operations;
  readonly disks: Disks;
  readonly nics: Nics;
  readonly vms: Vms;
  readonly supervisor: Supervisor;
  readonly log: Log;
}

/** `backups.config`: what a restore needs beside the columns. */
interface BackupConfig {
  readonly networks: readonly string[];
  readonly debugExitPort: number | null;
}

interface Copy {
  readonly disk: DiskRow;
  readonly file: string;
}

export class Backups {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  list(
    who: Principal,
    query: { limit: number; cursor?: string | undefined; vm?: string | undefined },
  ): Page<Backup> {
    const read = (after: number, limit: number): BackupRow[] =>
      this.#deps.store.backups.page({ after, limit, tenant: tenantFilter(who) }, query.vm);
    return pageOfRows(query, read, (rows) => this.#views(rows));
  }

  get(who: Principal, ref: string): Backup {
    return this.#views([this.#find(who, ref)])[0]!;
  }

  /** Begins a backup, of a running VM or of one that is not. */
  create(who: Principal, vmRef: string, body: BackupCreate): Promise<Operation> {
    const { store, operations, vms } = this.#deps;
    const vm = vms.find(who, vmRef);
    const id = newId('bak');
    const name = body.name ?? madeUpName();
    this.#requireFreeName(vm.tenant, name);
    const config: BackupConfig = {
      networks: store.vms.nicsOf(vm.id).map((nic) => nic.network_name),
      debugExitPort: vm.debug_exit_port,
    };
    const resources = [
      { type: 'vm', id: vm.id },
      { type: 'backup', id },
    ] as const;
    return operations.enqueue(
      { kind: 'backup.create', tenant: vm.tenant, resources, mayCancel: true },
      'backup.create',
      (operationId) => ({ operationId, backupId: id }),
      // A second attempt would be of another moment than was asked for.
      { maxAttempts: 1 },
      () => this.#insert(id, name, vm, config, body.keep),
    );
  }

  restore(who: Principal, ref: string, body: BackupRestore): Promise<Operation> {
    const backup = this.#find(who, ref);
    if (backup.state !== 'available') throw new AppError('locked', `the backup is ${backup.state}`);
    const memoryBytes = body.memory_bytes ?? backup.memory_bytes;
    this.#deps.admission.checkBounds(memoryBytes);
    const name = body.name ?? madeUpName();
    const { tenant } = who.role === 'admin' ? backup : who;
    if (this.#deps.store.vms.byName(name).some((vm) => vm.tenant === tenant)) throw nameTaken('VM', name);
    const vmId = newId('vm');
    const resources = [
      { type: 'backup', id: backup.id },
      { type: 'vm', id: vmId },
    ] as const;
    const { autostart, labels, start } = body;
    return this.#deps.operations.enqueue(
      { kind: 'backup.restore', tenant, resources, mayCancel: true },
      'backup.restore',
      (operationId) => ({
        operationId,
        backupId: backup.id,
        vmId,
        tenant,
        name,
        memoryBytes,
        autostart,
        labels,
        start,
      }),
      { maxAttempts: 2 },
    );
  }

  /** `locked` while a VM is being restored from it. */
  delete(who: Principal, ref: string): void {
    const backup = this.#find(who, ref);
    if (this.#deps.operations.openOn('backup.restore', backup.id).length > 0) {
      throw new AppError('locked', 'a VM is being restored from this backup', {
        remedy: 'wait for the end of that operation, or cancel it',
      });
    }
    this.#remove(backup);
  }

  processJobs(jobs: Jobs): void {
    jobs.process('backup.create', (payload, context) => this.#create(payload, context), { concurrency: 2 });
    jobs.process('backup.restore', (payload, context) => this.#restore(payload, context));
    jobs.subscribe(({ type, job }) => {
      if (type === 'ended' && job.kind === 'backup.create' && job.state !== 'succeeded') {
        // INVARIANT: the payload of a job of this kind.
        this.#abandon((job.payload as JobPayloads['backup.create']).backupId);
      }
    });
  }

  /** At start, before the jobs: what a killed process left of backups that nobody goes on with. */
  recover(): void {
    const { store, operations, home } = this.#deps;
    for (const backup of store.backups.inState('creating')) {
      if (operations.openOn('backup.create', backup.id).length === 0) this.#abandon(backup.id);
    }
    for (const backup of store.backups.inState('deleting')) this.#remove(backup);
    const layers = store.layers.paths();
    for (const folder of fs.readdirSync(home.file('vms'))) {
      // Layers may outlive the VM that they were made for.
      const known =
        store.vms.get(folder) !== undefined || layers.some((file) => file.startsWith(`vms/${folder}/`));
      if (!known && operations.openOn('backup.restore', folder).length === 0) {
        fs.rmSync(home.file('vms', folder), { recursive: true, force: true });
      }
    }
  }

  async #create({ backupId }: JobPayloads['backup.create'], context: JobContext): Promise<void> {
    const { store, supervisor, home } = this.#deps;
    const backup = store.backups.get(backupId);
    if (backup === undefined) throw notFound('backup', backupId);
    if (backup.state !== 'creating') return;
    const instance = supervisor.get(backup.vm_id);
    const folder = home.file('backups', backupId);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(folder, { mode: 0o700 });
    const copies = store.disks
      .ofVm(backup.vm_id)
      .map((disk) => ({ disk, file: home.file('backups', backupId, `${disk.device}.img`) }));
    const progress = (done: number, total: number): void => context.progress({ done, total, unit: 'bytes' });
    const takenAt = await this.#copy(instance, backupId, copies, progress, context.signal);
    this.#publish(backup, copies, takenAt);
    this.#prune(backup);
  }

  /** When the moment was, Unix milliseconds. */
  async #copy(
    instance: Instance,
    backupId: string,
    copies: readonly Copy[],
    progress: (done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<number> {
    // In the queue: a machine that is just starting or ending is not caught in between.
    const online = await instance.exclusive(async () => {
      if (!instance.hasMachine) return { takenAt: await this.#copyHalted(copies, progress, signal) };
      const link = instance.machine();
      const files = copies.map(({ file }) => file);
      const { finished } = await link.backup(backupId, files, progress);
      return { takenAt: Date.now(), finished, link };
    });
    if (online.finished === undefined) return online.takenAt;
    const cancel = (): void => {
      // If the machine is gone so is its backup.
      online.link.request({ type: 'cancel-backup', backupId }).catch(() => undefined);
    };
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    try {
      await online.finished;
    } finally {
      signal.removeEventListener('abort', cancel);
    }
    return online.takenAt;
  }

  async #copyHalted(
    copies: readonly Copy[],
    progress: (done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<number> {
    const takenAt = Date.now();
    if (signal.aborted) throw canceled();
    const disks = [];
    try {
      for (const { disk } of copies)
        disks.push(openDisk({ ...this.#deps.disks.config(disk), readOnly: true }));
      const files = copies.map(({ file }) => file);
      const run = beginBackup(disks, files, progress);
      const cancel = (): void => void run.cancel();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        await run.finished;
      } finally {
        signal.removeEventListener('abort', cancel);
      }
    } finally {
      for (const disk of disks) await disk.close();
    }
    return takenAt;
  }

  #publish(backup: BackupRow, copies: readonly Copy[], takenAt: number): void {
    const { store, events, home } = this.#deps;
    store.transaction(() => {
      for (const { disk, file } of copies) {
        const stat = fs.statSync(file);
        const layerId = newId('layer');
        store.disks.insertLayer({
          id: layerId,
          kind: 'backup',
          parent_id: null,
          origin_id: disk.layer_id,
          image_id: null,
          path: home.relative(file),
          size_bytes: stat.size,
          created_at: takenAt,
        });
        store.backups.insertSnapshot({
          id: newId('snap'),
          backup_id: backup.id,
          device: disk.device ?? '',
          disk_id: disk.id,
          layer_id: layerId,
          size_bytes: stat.size,
          stored_bytes: stat.blocks * 512,
          read_only: disk.read_only,
          taken_at: takenAt,
        });
      }
      store.backups.publish(backup.id, takenAt);
      events.append({
        type: 'backup.created',
        tenant: backup.tenant,
        resource: { type: 'backup', id: backup.id },
        data: { name: backup.name, vm_id: backup.vm_id },
      });
    });
  }

  /** Deletes the oldest backups beyond what `keep` of the newest one says. */
  #prune(newest: BackupRow): void {
    if (newest.keep === null) return;
    for (const old of this.#deps.store.backups.ofVm(newest.vm_id).slice(newest.keep)) {
      if (this.#deps.operations.openOn('backup.restore', old.id).length === 0) this.#remove(old);
    }
  }

  /** Retention, for what could not be deleted when its successor was made. */
  prune(): void {
    const { backups } = this.#deps.store;
    const vmIds = new Set(backups.inState('available').map((backup) => backup.vm_id));
    for (const vmId of vmIds) {
      const newest = backups.ofVm(vmId)[0];
      if (newest !== undefined) this.#prune(newest);
    }
  }

  async #restore(payload: JobPayloads['backup.restore'], context: JobContext): Promise<void> {
    const { store, home, supervisor, events } = this.#deps;
    const { backupId, vmId } = payload;
    // Done in an earlier run, which was killed before it could say so.
    if (store.vms.get(vmId) !== undefined) return;
    const backup = store.backups.get(backupId);
    if (backup === undefined) throw notFound('backup', backupId);
    const folder = home.file('vms', vmId);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.mkdirSync(folder, { mode: 0o700 });
    const snapshots = store.backups.snapshots([backupId]);
    try {
      await this.#copyBack(snapshots, folder, context);
      store.transaction(() => {
        this.#insertRestored(payload, backup, snapshots);
        const resource = { type: 'backup', id: backupId } as const;
        events.append({ type: 'backup.restored', tenant: payload.tenant, resource, data: { vm_id: vmId } });
      });
    } catch (error) {
      fs.rmSync(folder, { recursive: true, force: true });
      throw error;
    }
    const instance = supervisor.add(vmId);
    if (payload.start) await instance.start();
  }

  async #copyBack(snapshots: readonly SnapshotRow[], folder: string, context: JobContext): Promise<void> {
    const total = snapshots.reduce((sum, snapshot) => sum + snapshot.size_bytes, 0);
    let before = 0;
    for (const snapshot of snapshots) {
      await copyDisk(this.#deps.home.absolute(snapshot.path), `${folder}/${snapshot.device}.img`, {
        onProgress: (done) => context.progress({ done: before + done, total, unit: 'bytes' }),
        signal: context.signal,
      });
      before += snapshot.size_bytes;
    }
  }

  #insertRestored(
    payload: JobPayloads['backup.restore'],
    backup: BackupRow,
    snapshots: readonly SnapshotRow[],
  ): void {
    const { disks, vms } = this.#deps;
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
      nics: this.#deps.nics.planAgain(vmId, tenant, config.networks),
    });
    for (const snapshot of snapshots) {
      disks.record({
        id: newId('disk'),
        tenant,
        name: `${vmId}-${snapshot.device}`,
        vmId,
        device: snapshot.device,
        readOnly: snapshot.read_only === 1,
        ownedByVm: true,
        kind: 'raw',
        path: `vms/${vmId}/${snapshot.device}.img`,
        sizeBytes: snapshot.size_bytes,
        originLayerId: snapshot.layer_id,
      });
    }
  }

  #insert(id: string, name: string, vm: VmRow, config: BackupConfig, keep: number | undefined): void {
    const now = Date.now();
    this.#deps.store.backups.insert({
      id,
      tenant: vm.tenant,
      name,
      state: 'creating',
      vm_id: vm.id,
      vm_name: vm.name,
      image_id: vm.image_id,
      memory_bytes: vm.memory_bytes,
      append: vm.append,
      config: JSON.stringify(config),
      keep: keep ?? null,
      taken_at: now,
      created_at: now,
    });
  }

  /** Removes what there is of a backup that was not completed. */
  #abandon(backupId: string): void {
    const { store, home, log } = this.#deps;
    const backup = store.backups.get(backupId);
    if (backup === undefined || backup.state !== 'creating') return;
    try {
      fs.rmSync(home.file('backups', backupId), { recursive: true, force: true });
      store.backups.remove(backupId);
    } catch (error) {
      // It stays hidden, and the next start tries again.
      log.error({ backup: backupId, error: toAppError(error).message }, 'a half backup could not be removed');
    }
  }

  /** First marked, then the files, then the record: a crash in between is finished by the next start. */
  #remove(backup: BackupRow): void {
    const { store, home, events } = this.#deps;
    store.backups.setState(backup.id, 'deleting');
    fs.rmSync(home.file('backups', backup.id), { recursive: true, force: true });
    store.transaction(() => {
      store.backups.remove(backup.id);
      const resource = { type: 'backup', id: backup.id } as const;
      events.append({ type: 'backup.deleted', tenant: backup.tenant, resource, data: { name: backup.name } });
    });
  }

  #find(who: Principal, ref: string): BackupRow {
    const backup = findOwned(who, 'backup', ref, this.#deps.store.backups);
    if (backup.state === 'creating') throw notFound('backup', ref);
    return backup;
  }

  #requireFreeName(tenant: string, name: string): void {
    const taken = this.#deps.store.backups.byName(name).some((backup) => backup.tenant === tenant);
    if (taken) throw nameTaken('backup', name);
  }

  #views(rows: readonly BackupRow[]): Backup[] {
    const snapshots = Map.groupBy(
      this.#deps.store.backups.snapshots(rows.map((row) => row.id)),
      (snapshot) => snapshot.backup_id,
    );
    return rows.map((row) => backupView(row, snapshots.get(row.id) ?? []));
  }
}

function backupView(row: BackupRow, snapshots: readonly SnapshotRow[]): Backup {
  return {
    id: row.id,
    name: row.name,
    vm_id: row.vm_id,
    vm_name: row.vm_name,
    state: row.state,
    image_id: row.image_id,
    memory_bytes: row.memory_bytes,
    snapshots: snapshots.map(
      (snapshot): Snapshot => ({
        id: snapshot.id,
        backup_id: snapshot.backup_id,
        device: snapshot.device,
        disk_id: snapshot.disk_id,
        format: 'raw',
        size_bytes: snapshot.size_bytes,
        stored_bytes: snapshot.stored_bytes,
        image_id: null,
        taken_at: iso(snapshot.taken_at),
      }),
    ),
    size_bytes: snapshots.reduce((sum, snapshot) => sum + snapshot.stored_bytes, 0),
    taken_at: iso(row.taken_at),
    created_at: iso(row.created_at),
  };
}
