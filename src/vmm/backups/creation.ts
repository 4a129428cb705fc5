/** The job that makes a backup: all disks of a VM at one moment, running or not, into a store. */
import type { BackupPlan, BackupSummary } from '../../contracts/backup.ts';
import type { JobContext, JobPayloads } from '../../contracts/jobs.ts';
import type { BackupRow } from '../../db/index.ts';
import { beginWriting, openDisk, prepareBackup } from '../../storage/index.ts';
import { notFound } from '../access.ts';
import type { Instance } from '../instance/instance.ts';
import type { MachineLink } from '../instance/machine-link.ts';
import { canceled } from '../operations.ts';
import type { BackupConfig, BackupDeps } from './deps.ts';
import { recordDisks } from './records.ts';

type Progress = (done: number, total: number) => void;

export class BackupCreation {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  async create(payload: JobPayloads['backup.create'], context: JobContext): Promise<void> {
    const { store, supervisor } = this.#deps;
    const backup = store.backups.get(payload.backupId);
    if (backup === undefined) throw notFound('backup', payload.backupId);
    if (backup.state !== 'creating') return;
    const instance = supervisor.get(backup.vm_id);
    const progress: Progress = (done, total) => context.progress({ done, total, unit: 'bytes' });
    try {
      const plan = await this.#plan(backup, payload.full === true);
      const quiesce = payload.quiesce !== false;
      this.#publish(backup, await this.#backUp(instance, backup, plan, quiesce, progress, context.signal));
    } catch (error) {
      // Where that fails too it is done later; why the backup failed is worth more.
      await this.abandon(backup.id).catch(() => undefined);
      throw error;
    }
  }

  /** Removes what there is of a backup that was not completed. */
  async abandon(backupId: string): Promise<void> {
    const { store, stores } = this.#deps;
    const backup = store.backups.get(backupId);
    if (backup === undefined || backup.state !== 'creating') return;
    if (backup.destination_id !== null) {
      await stores.run(backup.destination_id, 'remove', { backupIds: [backupId] });
      stores.littered(backup.destination_id);
    }
    store.backups.remove(backupId);
  }

  async #plan(backup: BackupRow, full: boolean): Promise<BackupPlan> {
    const { store, stores } = this.#deps;
    // INVARIANT: every backup that is made has a destination.
    const storeId = backup.destination_id!;
    const config = JSON.parse(backup.config) as BackupConfig;
    return {
      store: await stores.config(storeId),
      storeId,
      head: {
        id: backup.id,
        name: backup.name,
        tenant: backup.tenant,
        createdAt: backup.created_at,
        scheduleId: backup.schedule_id,
        vm: {
          id: backup.vm_id,
          name: backup.vm_name,
          imageId: backup.image_id,
          memoryBytes: backup.memory_bytes,
          append: backup.append,
          networks: config.networks,
          debugExitPort: config.debugExitPort,
          settings: config.settings === undefined ? undefined : JSON.stringify(config.settings),
        },
      },
      diskIds: Object.fromEntries(store.disks.ofVm(backup.vm_id).map((disk) => [disk.device, disk.id])),
      parent: full ? null : this.parentOf(backup),
    };
  }

  /** The backup that the next one of the VM would go on from: the newest in the same store, unless it is damaged. */
  parentOf({ vm_id, destination_id }: Pick<BackupRow, 'vm_id' | 'destination_id'>): string | null {
    const newest = this.#deps.store.backups.ofVm(vm_id).find((one) => one.destination_id === destination_id);
    return newest === undefined || newest.damage !== null ? null : newest.id;
  }

  async #backUp(
    instance: Instance,
    backup: BackupRow,
    plan: BackupPlan,
    quiesce: boolean,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<BackupSummary> {
    // In the queue: a machine that is just starting or ending is not caught in between.
    const begun = await instance.exclusive(async () =>
      instance.hasMachine
        ? this.#beginOnline(instance.machine(), plan, quiesce, progress, signal)
        : { finished: await this.#backUpHalted(backup, plan, progress, signal) },
    );
    return await begun.finished;
  }

  /** The moment is taken when it resolves; `finished` settles when nothing is written to the store any more. */
  async #beginOnline(
    link: MachineLink,
    plan: BackupPlan,
    quiesce: boolean,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<{ readonly finished: Promise<BackupSummary> }> {
    const writing = beginWriting(plan);
    signal.addEventListener('abort', writing.cancel, { once: true });
    if (signal.aborted) writing.cancel();
    const end = async (error: unknown): Promise<never> => {
      // Also when the machine does not answer, or is gone.
      writing.cancel();
      await writing.ended;
      throw error;
    };
    try {
      const { finished } = await link.backup(plan, quiesce, writing.port, progress);
      return {
        finished: finished.catch(end).finally(() => signal.removeEventListener('abort', writing.cancel)),
      };
    } catch (error) {
      return await end(error);
    }
  }

  async #backUpHalted(
    backup: BackupRow,
    plan: BackupPlan,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<BackupSummary> {
    const { store, disks } = this.#deps;
    if (signal.aborted) throw canceled();
    const opened = [];
    try {
      for (const disk of store.disks.ofVm(backup.vm_id)) {
        opened.push(openDisk({ ...disks.config(disk), readOnly: true }));
      }
      const prepared = await prepareBackup(opened, plan);
      const run = prepared.begin('off', progress);
      const cancel = (): void => void run.cancel();
      signal.addEventListener('abort', cancel, { once: true });
      try {
        return await run.finished;
      } finally {
        signal.removeEventListener('abort', cancel);
      }
    } finally {
      for (const disk of opened) await disk.close();
    }
  }

  #publish(backup: BackupRow, summary: BackupSummary): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      recordDisks(store, summary);
      store.backups.publish(summary);
      events.append({
        type: 'backup.created',
        tenant: backup.tenant,
        resource: { type: 'backup', id: backup.id },
        data: {
          name: backup.name,
          vm_id: backup.vm_id,
          kind: summary.kind,
          consistency: summary.consistency,
        },
      });
    });
  }
}
