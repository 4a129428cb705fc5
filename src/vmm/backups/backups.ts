/** Backups as the front doors use them: what there is, and the operations that make, check, restore and delete them. */
import * as fs from 'node:fs';
import type {
  Backup,
  BackupCreate,
  BackupPrune,
  BackupRestore,
  BackupTest,
  Operation,
  OperationKind,
  Page,
  PruneResult,
} from '../../contracts/api/index.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { JobKind, JobPayloads, Jobs } from '../../contracts/jobs.ts';
import type { BackupRow, ScheduleRow, VmRow } from '../../db/index.ts';
import { SPILL_NAME } from '../../storage/index.ts';
import { findOwned, mayRead, notFound, type Principal, pageOfRows, tenantFilter } from '../access.ts';
import { madeUpName, newId } from '../ids.ts';
import { nameTaken } from '../services/networks.ts';
import { savedSettings } from '../services/saved-settings.ts';
import { BackupChecks } from './checks.ts';
import { BackupCreation } from './creation.ts';
import type { BackupConfig, BackupDeps } from './deps.ts';
import { BackupDestinations } from './destinations.ts';
import { BackupFiles } from './files.ts';
import { backupViews } from './records.ts';
import { BackupRemoval } from './removal.ts';
import { BackupRestoration, requireOff, requireOwn } from './restoration.ts';
import { BackupSchedules } from './schedules.ts';

/** Backups that are made at the same time; further ones wait. */
const CREATE_CONCURRENCY = 2;
const RESTORED_FILE = /^[a-z]+\d+\.[0-9a-f]{16}\.(img(\.partial)?|cow)$/;

export class Backups {
  readonly destinations: BackupDestinations;
  readonly schedules: BackupSchedules;
  readonly files: BackupFiles;
  readonly #deps: BackupDeps;
  readonly #creation: BackupCreation;
  readonly #restoration: BackupRestoration;
  readonly #removal: BackupRemoval;
  readonly #checks: BackupChecks;
  readonly #cleanups = new Set<Promise<void>>();

  constructor(deps: BackupDeps) {
    this.#deps = deps;
    this.destinations = new BackupDestinations(deps);
    this.schedules = new BackupSchedules(deps, this.destinations, (schedule) =>
      this.#createScheduled(schedule),
    );
    this.files = new BackupFiles(deps.stores, (who, ref) => this.#available(who, ref));
    this.#creation = new BackupCreation(deps);
    this.#restoration = new BackupRestoration(deps);
    this.#removal = new BackupRemoval(deps);
    this.#checks = new BackupChecks(deps, this.#restoration);
  }

  list(
    who: Principal,
    query: { limit: number; cursor?: string | undefined; vm?: string | undefined },
  ): Page<Backup> {
    const read = (after: number, limit: number): BackupRow[] =>
      this.#deps.store.backups.page({ after, limit, tenant: tenantFilter(who) }, query.vm);
    return pageOfRows(query, read, (rows) => backupViews(this.#deps.store, rows));
  }

  get(who: Principal, ref: string): Backup {
    return backupViews(this.#deps.store, [this.find(who, ref)])[0]!;
  }

  find(who: Principal, ref: string): BackupRow {
    const backup = findOwned(who, 'backup', ref, this.#deps.store.backups);
    if (backup.state === 'creating') throw notFound('backup', ref);
    return backup;
  }

  /** Begins a backup, of a running VM or of one that is not. */
  create(who: Principal, vmRef: string, body: BackupCreate): Promise<Operation> {
    const vm = this.#deps.vms.find(who, vmRef);
    const { id: destinationId } = this.destinations.find(body.destination, 'destination');
    return this.#create(vm, { ...body, destinationId, scheduleId: null });
  }

  /** @param body `image`: where the backup's own is gone, as on another machine, any whose kernel boots its disks */
  restore(who: Principal, ref: string, body: BackupRestore): Promise<Operation> {
    const backup = this.#available(who, ref);
    if (body.over) return this.#restoreOver(who, backup, body);
    const { admission, store } = this.#deps;
    const memoryBytes = body.memory_bytes ?? backup.memory_bytes;
    admission.checkBounds(memoryBytes);
    const imageId = this.#imageToBoot(backup, body.image);
    const name = body.name ?? madeUpName();
    const { tenant } = who.role === 'admin' ? backup : who;
    if (store.vms.byName(name).some((vm) => vm.tenant === tenant)) throw nameTaken('VM', name);
    const { autostart, labels, start, full_copy: fullCopy } = body;
    const vmId = newId('vm');
    const payload = {
      backupId: backup.id,
      vmId,
      tenant,
      name,
      memoryBytes,
      autostart,
      labels,
      start,
      fullCopy,
      imageId,
    };
    return this.#operate('backup.restore', tenant, [backup.id, vmId], payload, 2);
  }

  /** Reads all of it and checks every chunk. */
  verify(who: Principal, ref: string): Promise<Operation> {
    const backup = this.#available(who, ref);
    if (backup.destination_id === null) {
      throw new AppError('unsupported', 'a flat copy has no hashes that it could be checked with', {
        field: 'backup',
        remedy: 'test it by a boot, and make new backups',
      });
    }
    const payload = { destinationId: backup.destination_id, backupId: backup.id };
    return this.#operate('backup.verify', backup.tenant, [backup.id], payload, 2);
  }

  verifyDestination(who: Principal, ref: string): Promise<Operation> {
    const { id } = this.destinations.find(ref);
    return this.#operate('backup.verify', who.tenant, [id], { destinationId: id, backupId: null }, 2);
  }

  /** Boots a throwaway clone without network. @param body `image` as for a restore */
  test(who: Principal, ref: string, body: BackupTest): Promise<Operation> {
    const backup = this.#available(who, ref);
    const imageId = this.#imageToBoot(backup, body.image);
    const payload = { backupId: backup.id, vmId: newId('vm'), imageId };
    return this.#operate('backup.test', backup.tenant, [backup.id, payload.vmId], payload, 1);
  }

  /** @param vmRef a VM, or one that is gone and has backups */
  prune(who: Principal, vmRef: string, body: BackupPrune): Promise<PruneResult> {
    return this.#removal.prune(this.#backedUpVm(who, vmRef), body);
  }

  #backedUpVm(who: Principal, ref: string): string {
    const { vms, store } = this.#deps;
    const vm = vms.lookUp(who, ref);
    if (vm !== undefined) return vm.id;
    const backups = store.backups.ofVmNamed(ref).filter((backup) => mayRead(who, backup));
    const [id, ...others] = new Set(backups.map((backup) => backup.vm_id));
    if (id === undefined) throw notFound('VM', ref);
    if (others.length === 0) return id;
    throw new AppError('conflict', `${others.length + 1} VMs that are gone were named ${ref}`, {
      field: 'vm',
      remedy: 'use the id of one, which its backups have',
    });
  }

  /** `locked` while something goes on that needs it. */
  async delete(who: Principal, ref: string): Promise<void> {
    await this.#removal.delete(this.find(who, ref));
  }

  processJobs(jobs: Jobs): void {
    const { store, log } = this.#deps;
    const concurrency = CREATE_CONCURRENCY;
    jobs.process('backup.create', (payload, context) => this.#runCreate(payload, context), { concurrency });
    jobs.process('backup.restore', (payload, context) => this.#restoration.restore(payload, context));
    jobs.process('backup.verify', (payload, context) => this.#checks.verify(payload, context));
    jobs.process('backup.test', (payload, context) => this.#checks.test(payload, context));
    jobs.process('backup.collect', (payload, context) => this.destinations.runCollect(payload, context));
    jobs.process('backup.rebuild', (payload) => this.destinations.runRebuild(payload));
    jobs.subscribe(({ type, job }) => {
      if (type !== 'ended' || job.kind !== 'backup.create' || job.state === 'succeeded') return;
      // INVARIANT: the payload of a job of this kind. It may have ended before it was begun.
      const { backupId } = job.payload as JobPayloads['backup.create'];
      if (store.backups.get(backupId) === undefined) return;
      const cleanup = this.#creation
        .abandon(backupId)
        .catch((error: unknown) => {
          // It stays hidden, and the sweep tries again.
          log.error(
            { backup: backupId, error: toAppError(error).message },
            'a half backup could not be removed',
          );
        })
        .finally(() => this.#cleanups.delete(cleanup));
      this.#cleanups.add(cleanup);
    });
  }

  /** At start, before the jobs: what a killed process left of work that nobody goes on with. */
  async recover(): Promise<void> {
    await this.#removeHalves();
    await this.#checks.recover();
    this.#removeLeftovers();
  }

  /** Retention and garbage, now and then. */
  async sweep(): Promise<void> {
    const { stores, log } = this.#deps;
    await this.#removeHalves();
    await this.#removal.pruneAll();
    for (const id of stores.takeLittered()) {
      try {
        await stores.run(id, 'collect', {});
      } catch (error) {
        stores.littered(id);
        log.warn({ destination: id, error: toAppError(error).message }, 'garbage could not be collected');
      }
    }
  }

  /** What could not be removed when it was to be, for its destination was out of reach or the daemon was killed. */
  async #removeHalves(): Promise<void> {
    const { store, operations, log } = this.#deps;
    const given = async (what: string, id: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        log.error({ backup: id, error: toAppError(error).message }, `${what} could not be removed`);
      }
    };
    for (const { id } of store.backups.inState('creating')) {
      if (operations.openOn('backup.create', id).length > 0) continue;
      await given('a half backup', id, () => this.#creation.abandon(id));
    }
    for (const backup of store.backups.inState('deleting')) {
      await given('a deleted backup', backup.id, () => this.#removal.remove(backup));
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#cleanups);
    await this.#deps.stores.close();
  }

  #create(
    vm: VmRow,
    options: Pick<BackupCreate, 'name' | 'keep' | 'full' | 'quiesce'> & {
      readonly destinationId: string;
      readonly scheduleId: string | null;
    },
  ): Promise<Operation> {
    const { store, operations } = this.#deps;
    const id = newId('bak');
    const { name = madeUpName(), full, quiesce } = options;
    const taken = store.backups.byName(name).some((backup) => backup.tenant === vm.tenant);
    if (taken) throw nameTaken('backup', name);
    const resources = [
      { type: 'vm', id: vm.id },
      { type: 'backup', id },
    ] as const;
    return operations.enqueue(
      { kind: 'backup.create', tenant: vm.tenant, resources, mayCancel: true },
      'backup.create',
      (operationId) => ({ operationId, backupId: id, full, quiesce }),
      // A second attempt would be of another moment than was asked for.
      { maxAttempts: 1 },
      () => this.#insert(id, name, vm, options),
    );
  }

  #createScheduled(schedule: ScheduleRow): Promise<Operation> {
    const vm = this.#deps.store.vms.get(schedule.vm_id);
    if (vm === undefined) throw notFound('VM', schedule.vm_id);
    return this.#create(vm, {
      full: false,
      quiesce: schedule.quiesce === 1,
      destinationId: schedule.destination_id,
      scheduleId: schedule.id,
    });
  }

  #insert(
    id: string,
    name: string,
    vm: VmRow,
    options: {
      readonly keep?: number | undefined;
      readonly destinationId: string;
      readonly scheduleId: string | null;
    },
  ): void {
    const { store } = this.#deps;
    const config: BackupConfig = {
      ...this.#deps.nics.saved(vm.id),
      debugExitPort: vm.debug_exit_port,
      settings: savedSettings(store, vm.id),
    };
    const now = Date.now();
    store.backups.insert({
      id,
      tenant: vm.tenant,
      name,
      state: 'creating',
      destination_id: options.destinationId,
      schedule_id: options.scheduleId,
      vm_id: vm.id,
      vm_name: vm.name,
      image_id: vm.image_id,
      memory_bytes: vm.memory_bytes,
      append: vm.append,
      config: JSON.stringify(config),
      keep: options.keep ?? null,
      taken_at: now,
      created_at: now,
    });
  }

  async #runCreate(
    payload: JobPayloads['backup.create'],
    context: Parameters<BackupCreation['create']>[1],
  ): Promise<void> {
    await this.#creation.create(payload, context);
    const { store, log } = this.#deps;
    const made = store.backups.get(payload.backupId);
    try {
      if (made !== undefined) await this.#removal.pruneAfter(made);
    } catch (error) {
      // The backup is there; the sweep tries again.
      log.warn(
        { backup: payload.backupId, error: toAppError(error).message },
        'old backups could not be deleted',
      );
    }
  }

  #restoreOver(who: Principal, backup: BackupRow, body: BackupRestore): Promise<Operation> {
    const { store, vms, supervisor } = this.#deps;
    if (body.image !== undefined) {
      throw new AppError('invalid_input', 'the VM keeps its image when its disks are replaced', {
        field: 'image',
        remedy: 'leave it out, or restore to a new VM',
      });
    }
    const vm = vms.find(who, backup.vm_id);
    requireOff(supervisor.get(vm.id).hasMachine);
    for (const disk of store.disks.ofVm(vm.id)) requireOwn(disk);
    const payload = {
      backupId: backup.id,
      vmId: vm.id,
      tenant: vm.tenant,
      name: vm.name,
      start: body.start,
      fullCopy: body.full_copy,
      over: true,
    };
    // Again after a crash it could undo what the VM has done since.
    return this.#operate('backup.restore', vm.tenant, [backup.id, vm.id], payload, 1);
  }

  #imageToBoot(backup: BackupRow, ref: string | undefined): string {
    const { images, store } = this.#deps;
    if (ref !== undefined) return images.find(ref, 'image').id;
    if (store.images.get(backup.image_id) === undefined) throw imageGone(backup);
    return backup.image_id;
  }

  #available(who: Principal, ref: string): BackupRow {
    const backup = this.find(who, ref);
    if (backup.state === 'available') return backup;
    throw new AppError('locked', `the backup is ${backup.state}`);
  }

  #operate<K extends JobKind & OperationKind>(
    kind: K,
    tenant: string,
    ids: readonly string[],
    payload: Omit<JobPayloads[K], 'operationId'>,
    maxAttempts: number,
  ): Promise<Operation> {
    const resources = ids.map((id) => ({ type: typeOf(id), id }));
    return this.#deps.operations.enqueue(
      { kind, tenant, resources, mayCancel: true },
      kind,
      // INVARIANT: every job of an operation has this field and those of the payload.
      (operationId) => ({ ...payload, operationId }) as unknown as JobPayloads[K],
      { maxAttempts },
    );
  }

  /** Files of restores and backups that were cut off, and tracking of disks that are gone. */
  #removeLeftovers(): void {
    const { store, operations, home } = this.#deps;
    const layers = new Set(store.layers.paths());
    for (const folder of fs.readdirSync(home.file('vms'))) {
      const restored = fs.readdirSync(home.file('vms', folder)).filter((name) => RESTORED_FILE.test(name));
      for (const path of restored.map((name) => `vms/${folder}/${name}`)) {
        if (!layers.has(path)) fs.rmSync(home.absolute(path));
      }
      // Layers may outlive the VM that they were made for.
      const known =
        store.vms.get(folder) !== undefined || [...layers].some((file) => file.startsWith(`vms/${folder}/`));
      if (!known && operations.openOn('backup.restore', folder).length === 0) {
        fs.rmSync(home.file('vms', folder), { recursive: true, force: true });
      }
    }
    for (const name of fs.readdirSync(home.file('backups'))) {
      if (SPILL_NAME.test(name)) fs.rmSync(home.file('backups', name), { force: true });
    }
    for (const diskId of fs.readdirSync(home.file('changes'))) {
      if (store.disks.get(diskId) === undefined) fs.rmSync(home.file('changes', diskId), { force: true });
    }
  }
}

function typeOf(id: string): 'backup' | 'vm' | 'backup-destination' {
  if (id.startsWith('bak-')) return 'backup';
  return id.startsWith('vm-') ? 'vm' : 'backup-destination';
}

function imageGone(backup: BackupRow): AppError {
  return new AppError('conflict', `the image ${backup.image_id} of the backup is not there`, {
    field: 'backup',
    remedy:
      'import the image that the VM was made from, or give `image` (--image): one whose kernel boots its disks',
  });
}
