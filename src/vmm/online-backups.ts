/** The backups of a running machine, on its own thread. */
import type { BackupPlan } from '../contracts/backup.ts';
import { toAppError } from '../contracts/errors.ts';
import type { FromMachine } from '../contracts/ports.ts';
import { type BackupRun, type GuestDisk, prepareBackup } from '../storage/guest.ts';
import type { Quiescer } from './quiescer.ts';

export interface OnlineBackupDeps {
  readonly disks: () => readonly GuestDisk[];
  readonly quiescer: Quiescer;
  readonly post: (message: FromMachine) => void;
}

export class OnlineBackups {
  readonly #deps: OnlineBackupDeps;
  readonly #runs = new Map<string, BackupRun>();
  #preparing = 0;

  constructor(deps: OnlineBackupDeps) {
    this.#deps = deps;
  }

  get busy(): boolean {
    return this.#preparing > 0 || this.#runs.size > 0;
  }

  /** Resolves when the moment is taken; the rest comes as messages. `quiesce`: ask the guest to write out what it has. */
  async begin(plan: BackupPlan, quiesce: boolean, writer: MessagePort | undefined): Promise<void> {
    const { disks, quiescer } = this.#deps;
    const backupId = plan.head.id;
    this.#preparing++;
    try {
      const all = disks();
      // The store is open before the guest is made to hold still.
      const prepared = await prepareBackup(all, plan, writer);
      try {
        const run = await quiescer.hold(quiesce, (consistency) =>
          prepared.begin(consistency, (doneBytes, totalBytes) =>
            this.#deps.post({ type: 'backup-progress', backupId, doneBytes, totalBytes }),
          ),
        );
        this.#follow(backupId, run);
      } catch (error) {
        prepared.abandon();
        throw error;
      }
    } finally {
      this.#preparing--;
    }
  }

  async cancelAll(): Promise<void> {
    await Promise.all([...this.#runs.values()].map((run) => run.cancel()));
  }

  #follow(backupId: string, run: BackupRun): void {
    this.#runs.set(backupId, run);
    const finish = (message: FromMachine): void => {
      this.#runs.delete(backupId);
      this.#deps.post(message);
    };
    run.finished.then(
      (result) => finish({ type: 'backup-done', backupId, result }),
      (error: unknown) => finish({ type: 'backup-failed', backupId, error: toAppError(error).toPlain() }),
    );
  }
}
