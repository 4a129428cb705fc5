/**
 * Backup to a store: all disks of a machine as they are at one moment, running or not, by reading before each change.
 *
 * The moment. `begin` installs its watchers on all disks within one synchronous call on the thread that runs the
 * vCPU, so no guest request falls between two disks. From then on a guest write or discard waits until the
 * old content of the chunks that it touches has been read. Requests that had begun before and are not finished may or may
 * not be part of the moment (the guest has not been told either), but a chunk must not be read while one
 * of them changes it, or the backup could hold half a sector: its reading waits for them first. They depend on nothing
 * of the backup, so nobody waits in a circle. A write that finished before the moment is always in the backup, one that
 * was begun after it never is: it has what a power cut at that moment would have left.
 *
 * The rest is read in pieces in the thread pool, while the event loop and the guest go on. A thread of the backup's own hashes,
 * compresses and writes (backup-store/). Where it is known what has changed since the parent, only that is read.
 */
import * as path from 'node:path';
import type { MessagePort } from 'node:worker_threads';
import type { BackupPlan, BackupSummary, Consistency } from '../contracts/backup.ts';
import { AppError } from '../contracts/errors.ts';
import { StoreTask } from './backup-store/store-task.ts';
import { type StartedTask, startStoreTask } from './backup-store/store-threads.ts';
import type { TrackingAttempt } from './change-tracker.ts';
import { type CopyEvents, DiskCopy, PIECE_BYTES } from './disk-copy.ts';
import { fileError } from './errors.ts';
import type { GuestDisk } from './guest-disk.ts';
import { StoreSink } from './store-sink.ts';

/** About so many times progress is told: each time is a message to another thread. */
const PROGRESS_STEPS = 200;

export type BackupProgress = (doneBytes: number, totalBytes: number) => void;

export interface BackupRun {
  /** What is read of the disks. */
  readonly totalBytes: number;
  /**
   * Resolves when the backup is durable. Rejects with AppError `canceled`, `disk_full`, `io_error` and those of the store; then
   * there is no such backup.
   */
  readonly finished: Promise<BackupSummary>;
  /** Ends it; `finished` rejects with `canceled` unless it was complete. */
  cancel(): Promise<void>;
}

export interface PreparedBackup {
  /**
   * The moment, within this call. `onProgress` is called in this thread, at the start, now and then, and at the end.
   * Throws AppError `locked` when one of the disks is being backed up; then nothing has begun.
   */
  begin(consistency: Consistency, onProgress?: BackupProgress): BackupRun;
  /** Instead of `begin`. */
  abandon(): void;
}

/**
 * Opens the store. AppErrors of the destination.
 * @param writer to a task `write` on the store; without one it is begun here
 */
export async function prepareBackup(
  disks: readonly GuestDisk[],
  plan: BackupPlan,
  writer: MessagePort = beginWriting(plan).port,
): Promise<PreparedBackup> {
  const task = new StoreTask<'write'>(writer);
  const ready = new Promise<string | null>((resolve) => {
    task.onMessage((message) => {
      if (message.type === 'ready') resolve(message.parent);
    });
  });
  // A task that ends here has failed.
  const parent = await Promise.race([ready, task.result.then(() => null)]);
  return {
    begin(consistency, onProgress = () => undefined) {
      try {
        return new Backup(disks, { ...plan, parent }, task, consistency, onProgress);
      } catch (error) {
        task.cancel();
        throw error;
      }
    },
    abandon: () => task.cancel(),
  };
}

/** The task that takes a backup's pieces. */
export function beginWriting({ store, head, parent }: BackupPlan): StartedTask {
  return startStoreTask({ store, task: 'write', input: { head, parent } });
}

class Backup implements BackupRun {
  readonly totalBytes: number;
  readonly finished: Promise<BackupSummary>;
  readonly #task: StoreTask<'write'>;
  readonly #sink: StoreSink;
  readonly #copies: DiskCopy[] = [];
  readonly #attempts: TrackingAttempt[] = [];
  readonly #onProgress: BackupProgress;
  #doneBytes = 0;
  #toldBytes = 0;
  #failure: unknown;

  constructor(
    disks: readonly GuestDisk[],
    plan: BackupPlan,
    task: StoreTask<'write'>,
    consistency: Consistency,
    onProgress: BackupProgress,
  ) {
    this.#task = task;
    const events = {
      taken: (bytes: number) => this.#taken(bytes),
      failed: (error: unknown) => this.#fail(error),
    };
    this.#sink = new StoreSink((message) => task.post(message), path.dirname(plan.store.indexFile), events);
    this.#onProgress = onProgress;
    const { parent, storeId, head } = plan;
    const known = disks.map(({ tracker }) =>
      parent === null ? undefined : tracker.changedSince(storeId, parent),
    );
    this.#watch(disks, known);
    const takenAt = Date.now();
    for (const { tracker } of disks) this.#attempts.push(tracker.begin(storeId, head.id));
    this.totalBytes = this.#copies.reduce((sum, copy) => sum + copy.totalBytes, 0);
    task.onMessage(({ type }) => {
      if (type === 'taken') this.#sink.taken();
    });
    task.post({
      type: 'begin',
      disks: disks.map((disk, index) => ({
        device: disk.stats.device,
        diskId: plan.diskIds[disk.stats.device] ?? '',
        sizeBytes: disk.sizeBytes,
        readOnly: disk.readOnly,
        incremental: known[index] !== undefined,
      })),
    });
    onProgress(0, this.totalBytes);
    this.finished = this.#run(consistency, takenAt);
    // The owner may look only later; until then this is not an unhandled rejection.
    this.finished.catch(() => undefined);
  }

  cancel(): Promise<void> {
    return this.#end(canceled('it was cancelled'));
  }

  /** The moment itself. */
  #watch(disks: readonly GuestDisk[], known: readonly (Uint8Array | undefined)[]): void {
    const events: CopyEvents = {
      failed: (error) => this.#fail(error),
      closing: () => this.#end(canceled('the machine ended')),
    };
    try {
      for (const [index, disk] of disks.entries()) {
        this.#copies.push(new DiskCopy(index, disk, this.#sink, events, known[index]));
      }
    } catch (error) {
      for (const copy of this.#copies) copy.stop();
      throw error;
    }
  }

  #end(error: AppError): Promise<void> {
    this.#fail(error);
    return this.finished.then(
      () => undefined,
      () => undefined,
    );
  }

  async #run(consistency: Consistency, takenAt: number): Promise<BackupSummary> {
    // The store's thread may fail at any time.
    this.#task.result.catch((error: unknown) => this.#fail(error));
    try {
      await Promise.all(this.#copies.map((copy) => copy.copyAll()));
      await this.#sink.drained();
      this.#task.post({ type: 'finish', consistency, takenAt });
      const summary = await this.#task.result;
      for (const attempt of this.#attempts) attempt.succeed();
      this.#onProgress(this.totalBytes, this.totalBytes);
      return summary;
    } catch (error) {
      this.#fail(error);
      await Promise.all(this.#copies.map((copy) => copy.idle()));
      await this.#task.result.catch(() => undefined);
      for (const attempt of this.#attempts) attempt.fail();
      throw fileError(this.#failure ?? error, 'backup', 'the backup failed');
    } finally {
      await this.#sink.close();
    }
  }

  #taken(bytes: number): void {
    this.#doneBytes += bytes;
    const step = Math.max(PIECE_BYTES, this.totalBytes / PROGRESS_STEPS);
    if (this.#doneBytes < this.#toldBytes + step) return;
    // The end is told when the backup is durable.
    if (this.#failure === undefined && this.#doneBytes < this.totalBytes) {
      this.#toldBytes = this.#doneBytes;
      this.#onProgress(this.#doneBytes, this.totalBytes);
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    for (const copy of this.#copies) copy.stop();
    this.#sink.fail(error);
    this.#task.cancel();
  }
}

function canceled(why: string): AppError {
  return new AppError('canceled', `the backup ended early: ${why}`, { field: 'backup' });
}
