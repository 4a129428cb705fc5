/** Deleting backups, one or those that a rule no longer keeps. */
import * as fs from 'node:fs';
import type { BackupPrune, KeepPolicy, PruneResult } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { BackupRow } from '../../db/index.ts';
import { iso } from '../access.ts';
import type { BackupDeps } from './deps.ts';
import { keptBackups } from './retention.ts';

export class BackupRemoval {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  /** `locked` while something goes on that needs it. */
  async delete(backup: BackupRow): Promise<void> {
    const busy = this.#usedBy(backup);
    if (busy !== undefined) {
      throw new AppError('locked', busy, { remedy: 'wait for the end of that operation, or cancel it' });
    }
    await this.remove(backup);
  }

  /** First marked, then what is stored, then the record: a crash in between is finished by the next start. */
  async remove(backup: BackupRow): Promise<void> {
    const { store, home, events, stores } = this.#deps;
    store.backups.setState(backup.id, 'deleting');
    if (backup.destination_id === null) {
      fs.rmSync(home.file('backups', backup.id), { recursive: true, force: true });
    } else {
      await stores.run(backup.destination_id, 'remove', { backupIds: [backup.id] });
      stores.littered(backup.destination_id);
    }
    store.transaction(() => {
      store.backups.remove(backup.id);
      const resource = { type: 'backup', id: backup.id } as const;
      events.append({ type: 'backup.deleted', tenant: backup.tenant, resource, data: { name: backup.name } });
    });
  }

  /** What a policy keeps of a VM's backups, and why; the others are deleted unless it is a dry run. */
  async prune(vmId: string, { keep, time_zone, dry_run }: BackupPrune): Promise<PruneResult> {
    const backups = this.#deps.store.backups.ofVm(vmId);
    const kept = keptBackups(backups.map(candidate), keep, time_zone);
    if (!dry_run) await this.#removeAllBut(kept, backups);
    return {
      dry_run,
      backups: backups.map(({ id, name, taken_at }) => ({
        backup_id: id,
        name,
        taken_at: iso(taken_at),
        keep: kept.has(id),
        reasons: kept.get(id) ?? [],
      })),
    };
  }

  /** After a backup: what its `keep` and its schedule's rule no longer want. */
  async pruneAfter(newest: BackupRow): Promise<void> {
    const { store } = this.#deps;
    const backups = store.backups.ofVm(newest.vm_id);
    if (newest.keep !== null) {
      await this.#removeAllBut(keptBackups(backups.map(candidate), { last: newest.keep }), backups);
    }
    const schedule = newest.schedule_id === null ? undefined : store.schedules.get(newest.schedule_id);
    if (schedule === undefined || schedule.keep === null) return;
    const own = store.backups.ofVm(newest.vm_id).filter((backup) => backup.schedule_id === schedule.id);
    const policy = JSON.parse(schedule.keep) as KeepPolicy; // INVARIANT: `BackupSchedules` writes it.
    await this.#removeAllBut(keptBackups(own.map(candidate), policy, schedule.time_zone), own);
  }

  /** For what could not be deleted when its successor was made. */
  async pruneAll(): Promise<void> {
    const { store, log } = this.#deps;
    const newest = new Map<string, BackupRow>();
    for (const backup of store.backups.inState('available')) {
      newest.set(`${backup.vm_id} ${backup.schedule_id}`, backup);
    }
    for (const backup of newest.values()) {
      try {
        await this.pruneAfter(backup);
      } catch (error) {
        log.warn({ vm: backup.vm_id, error: String(error) }, 'old backups could not be deleted');
      }
    }
  }

  async #removeAllBut(kept: ReadonlyMap<string, unknown>, backups: readonly BackupRow[]): Promise<void> {
    for (const backup of backups) {
      if (!kept.has(backup.id) && this.#usedBy(backup) === undefined) await this.remove(backup);
    }
  }

  #usedBy(backup: BackupRow): string | undefined {
    const { operations, store } = this.#deps;
    for (const kind of ['backup.restore', 'backup.test', 'backup.verify'] as const) {
      if (operations.openOn(kind, backup.id).length > 0)
        return `the backup is in use by an operation ${kind}`;
    }
    // The next backup may just be going on from it.
    const newest = store.backups
      .ofVm(backup.vm_id)
      .find((one) => one.destination_id === backup.destination_id);
    const isParent =
      newest?.id === backup.id && store.backups.inState('creating').some((one) => one.vm_id === backup.vm_id);
    return isParent ? 'a backup of the VM is being made, which goes on from this one' : undefined;
  }
}

function candidate({ id, taken_at }: BackupRow): { readonly id: string; readonly takenAt: number } {
  return { id, takenAt: taken_at };
}
