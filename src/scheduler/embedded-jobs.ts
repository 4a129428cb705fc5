/**
 * The scheduler of a single daemon: jobs in the daemon's own SQLite database, run in this process.
 *
 * It wakes when a job is added, when one ends, and when the next delayed job or repeat is due; it never polls.
 * The daemon holds the lock of its state folder, so a job that is `running` at `start` was left by a process
 * that is gone. Each run has a lease, and only its holder can record how the run ended.
 */
import { randomUUID } from 'node:crypto';
import type { Database } from 'better-sqlite3';
import { AppError } from '../contracts/errors.ts';
import type {
  EnqueueOptions,
  JobEvent,
  JobHandler,
  JobInfo,
  JobKind,
  JobPayloads,
  JobProgress,
  Jobs,
} from '../contracts/jobs.ts';
import { JobListeners } from './job-listeners.ts';
import {
  backoffDelayMs,
  canceledError,
  deservesRetry,
  interruptedError,
  isJobKind,
  jobError,
  KEEP_ENDED_MS,
  payloadText,
  requireInteger,
  resolveOptions,
  runsAgainAfterCrash,
  stillUsable,
} from './job-policy.ts';
import { type JobRow, JobTable, jobInfo } from './job-table.ts';

/** setTimeout's longest; a later job is looked at again then. */
const TIMER_MS_MAX = 2 ** 31 - 1;
/** Progress goes to the disk at most this often; readers in this process see all of it. */
const PROGRESS_WRITE_MS = 250;

interface Worker {
  readonly concurrency: number;
  /** INVARIANT: called only with the payload of a job of its own kind. */
  readonly handler: JobHandler<never>;
  running: number;
}

interface Run {
  readonly row: JobRow;
  readonly lease: string;
  readonly abort: AbortController;
  progress: JobProgress | null;
  writtenAt: number;
}

export interface EmbeddedJobsOptions {
  /** Told of errors thrown by listeners. Standard: an uncaught exception. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export class EmbeddedJobs implements Jobs {
  readonly #table: JobTable;
  readonly #listeners: JobListeners;
  readonly #workers = new Map<string, Worker>();
  readonly #runs = new Map<string, Run>();
  readonly #settled = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #state: 'new' | 'started' | 'closed' = 'new';

  /** `db` has `migrations/0002-jobs.sql` applied; it stays the caller's to close, after `close()`. */
  constructor(db: Database, options: EmbeddedJobsOptions = {}) {
    this.#table = new JobTable(db);
    this.#listeners = new JobListeners(options.onError ?? rethrowLater);
  }

  async enqueue<K extends JobKind>(
    kind: K,
    payload: JobPayloads[K],
    options: EnqueueOptions = {},
  ): Promise<JobInfo> {
    stillUsable(this.#state === 'closed');
    const resolved = resolveOptions(options);
    this.#table.insert(kind, payloadText(payload), resolved, Date.now());
    const job = await this.get(resolved.id);
    this.#wake();
    if (job === undefined) throw new AppError('internal', `job ${resolved.id} was not stored`);
    return job;
  }

  process<K extends JobKind>(
    kind: K,
    handler: JobHandler<K>,
    options: { readonly concurrency?: number } = {},
  ): void {
    const { concurrency = 1 } = options;
    requireInteger('concurrency', concurrency, 1);
    this.#workers.set(kind, { handler, concurrency, running: 0 });
  }

  async repeat<K extends JobKind>(
    name: string,
    kind: K,
    payload: JobPayloads[K],
    everyMs: number,
  ): Promise<void> {
    stillUsable(this.#state === 'closed');
    requireInteger('everyMs', everyMs, 1);
    this.#table.putRepeat(name, kind, payloadText(payload), everyMs, Date.now());
    this.#wake();
  }

  async get(id: string): Promise<JobInfo | undefined> {
    const row = this.#table.get(id);
    if (row === undefined) return undefined;
    const run = this.#runs.get(id);
    return run === undefined || run.progress === null
      ? jobInfo(row)
      : { ...jobInfo(row), progress: run.progress };
  }

  async cancel(id: string): Promise<boolean> {
    stillUsable(this.#state === 'closed');
    if (this.#table.cancelQueued(id, canceledError().toPlain(), Date.now())) {
      this.#ended(id);
      return true;
    }
    const run = this.#runs.get(id);
    if (run === undefined) return false;
    run.abort.abort(canceledError());
    return true;
  }

  subscribe(listener: (event: JobEvent) => void): () => void {
    return this.#listeners.add(listener);
  }

  async start(): Promise<void> {
    stillUsable(this.#state === 'closed');
    if (this.#state === 'started') return;
    const now = Date.now();
    this.#table.deleteEndedBefore(now - KEEP_ENDED_MS);
    const failed = this.#table.transaction(() => this.#takeOver(now));
    this.#state = 'started';
    for (const id of failed) this.#ended(id);
    this.#wake();
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    clearTimeout(this.#timer);
    for (const run of this.#runs.values()) run.abort.abort(interruptedError());
    await Promise.all(this.#settled);
  }

  /** Queues what a dead process left running, or fails it where a repeat would be wrong. Ids of the failed ones. */
  #takeOver(now: number): string[] {
    const failed: string[] = [];
    for (const row of this.#table.abandoned()) {
      const again = isJobKind(row.kind) && runsAgainAfterCrash(row.kind) && row.attempts < row.max_attempts;
      if (again) {
        this.#table.requeueAbandoned(row.id, now);
      } else {
        this.#table.failAbandoned(row.id, interruptedError().toPlain(), now);
        failed.push(row.id);
      }
    }
    return failed;
  }

  /** Starts everything that is due and has a free place, then sleeps until the next thing is due. */
  #wake(): void {
    if (this.#state !== 'started') return;
    clearTimeout(this.#timer);
    const now = Date.now();
    this.#enqueueRepeats(now);
    let nextAt = this.#table.nextRepeatAt() ?? Number.POSITIVE_INFINITY;
    for (const [kind, worker] of this.#workers) {
      while (worker.running < worker.concurrency) {
        const lease = randomUUID();
        const row = this.#table.claim(kind, lease, now);
        if (row === undefined) {
          nextAt = Math.min(nextAt, this.#table.nextRunAt(kind) ?? Number.POSITIVE_INFINITY);
          break;
        }
        this.#launch(worker, row, lease);
      }
    }
    if (nextAt === Number.POSITIVE_INFINITY) return;
    const waitMs = Math.min(Math.max(nextAt - Date.now(), 1), TIMER_MS_MAX);
    this.#timer = setTimeout(() => this.#wake(), waitMs);
  }

  #enqueueRepeats(now: number): void {
    for (const repeat of this.#table.dueRepeats(now)) {
      this.#table.transaction(() => {
        const id = `repeat:${repeat.name}`;
        const last = this.#table.get(id);
        // The id is the same each time, so that at most one is unfinished; a succeeded one makes room.
        if (last === undefined || (last.state !== 'queued' && last.state !== 'running')) {
          this.#table.deleteEnded(id);
          this.#table.insert(repeat.kind, repeat.payload, resolveOptions({ id }), now);
        }
        this.#table.advanceRepeat(repeat.name, now + repeat.every_ms);
      });
    }
  }

  #launch(worker: Worker, row: JobRow, lease: string): void {
    const run: Run = { row, lease, abort: new AbortController(), progress: null, writtenAt: 0 };
    worker.running += 1;
    this.#runs.set(row.id, run);
    const settled = this.#carryOut(worker, run).finally(() => {
      worker.running -= 1;
      this.#settled.delete(settled);
      this.#wake();
    });
    this.#settled.add(settled);
  }

  async #carryOut(worker: Worker, run: Run): Promise<void> {
    const { row, lease, abort } = run;
    try {
      const result = await worker.handler(JSON.parse(row.payload) as never, {
        id: row.id,
        attempt: row.attempts,
        signal: abort.signal,
        progress: (progress) => this.#progress(run, progress),
      });
      this.#runs.delete(row.id);
      const outcome = { result: result ?? null, progress: run.progress };
      if (this.#table.end(lease, 'succeeded', outcome, Date.now())) this.#ended(row.id);
    } catch (error) {
      this.#runs.delete(row.id);
      this.#failed(run, error);
    }
  }

  #failed(run: Run, error: unknown): void {
    const { row, lease, progress } = run;
    const now = Date.now();
    const reason: unknown = run.abort.signal.aborted ? run.abort.signal.reason : undefined;
    const end = (state: 'failed' | 'canceled', cause: unknown): void => {
      const outcome = { error: jobError(cause), progress };
      if (this.#table.end(lease, state, outcome, now)) this.#ended(row.id);
    };
    if (reason instanceof AppError && reason.code === 'canceled') end('canceled', reason);
    else if (reason !== undefined) this.#table.release(lease);
    else if (deservesRetry(error) && row.attempts < row.max_attempts) {
      this.#table.retryAt(lease, now + backoffDelayMs(row.backoff_ms, row.attempts), jobError(error));
    } else end('failed', error);
  }

  #progress(run: Run, progress: JobProgress): void {
    if (this.#runs.get(run.row.id) !== run) return;
    run.progress = progress;
    const now = Date.now();
    if (now - run.writtenAt >= PROGRESS_WRITE_MS) {
      run.writtenAt = now;
      this.#table.saveProgress(run.lease, progress);
    }
    this.#listeners.emit({ type: 'progress', job: { ...jobInfo(run.row), progress } });
  }

  #ended(id: string): void {
    const row = this.#table.get(id);
    if (row !== undefined) this.#listeners.emit({ type: 'ended', job: jobInfo(row) });
  }
}

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
