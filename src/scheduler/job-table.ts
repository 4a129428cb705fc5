/** The SQL of the embedded scheduler: one method per transition of a job, each a single statement. */
import type { Database } from 'better-sqlite3';
import type { PlainError } from '../contracts/errors.ts';
import type { JobInfo, JobProgress, JobState } from '../contracts/jobs.ts';
import type { ResolvedOptions } from './job-policy.ts';

export interface JobRow {
  readonly seq: number;
  readonly id: string;
  readonly kind: string;
  readonly payload: string;
  readonly state: JobState;
  readonly attempts: number;
  readonly max_attempts: number;
  readonly backoff_ms: number;
  readonly progress: string | null;
  readonly result: string | null;
  readonly error: string | null;
}

export interface RepeatRow {
  readonly name: string;
  readonly kind: string;
  readonly payload: string;
  readonly every_ms: number;
  readonly next_at: number;
}

const INSERT = `INSERT INTO jobs (id, kind, payload, state, max_attempts, backoff_ms, run_at, created_at)
  VALUES (@id, @kind, @payload, 'queued', @maxAttempts, @backoffMs, @runAt, @now)
  ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, payload = excluded.payload, state = 'queued', attempts = 0,
    max_attempts = excluded.max_attempts, backoff_ms = excluded.backoff_ms, run_at = excluded.run_at,
    progress = NULL, result = NULL, error = NULL, ended_at = NULL
  WHERE jobs.state IN ('failed', 'canceled')`;

const CLAIM = `UPDATE jobs SET state = 'running', lease = @lease, attempts = attempts + 1
  WHERE seq = (SELECT seq FROM jobs WHERE state = 'queued' AND kind = @kind AND run_at <= @now
    ORDER BY run_at, seq LIMIT 1) RETURNING *`;

export class JobTable {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Does nothing when an unfinished or succeeded job has the id. */
  insert(kind: string, payload: string, options: ResolvedOptions, now: number): void {
    const { id, maxAttempts, backoffMs, delayMs } = options;
    const values = { id, kind, payload, maxAttempts, backoffMs, now, runAt: now + delayMs };
    this.#db.prepare(INSERT).run(values);
  }

  get(id: string): JobRow | undefined {
    return this.#db.prepare<[string], JobRow>('SELECT * FROM jobs WHERE id = ?').get(id);
  }

  claim(kind: string, lease: string, now: number): JobRow | undefined {
    return this.#db.prepare<[object], JobRow>(CLAIM).get({ kind, lease, now });
  }

  nextRunAt(kind: string): number | undefined {
    const sql = "SELECT min(run_at) AS at FROM jobs WHERE state = 'queued' AND kind = ?";
    return this.#db.prepare<[string], { at: number | null }>(sql).get(kind)?.at ?? undefined;
  }

  saveProgress(lease: string, progress: JobProgress): void {
    const sql = "UPDATE jobs SET progress = ? WHERE lease = ? AND state = 'running'";
    this.#db.prepare(sql).run(JSON.stringify(progress), lease);
  }

  /** False when the run no longer holds the job. */
  end(
    lease: string,
    state: 'succeeded' | 'failed' | 'canceled',
    outcome: {
      readonly result?: unknown;
      readonly error?: PlainError;
      readonly progress: JobProgress | null;
    },
    now: number,
  ): boolean {
    const sql = `UPDATE jobs SET state = @state, lease = NULL, ended_at = @now, result = @result, error = @error,
      progress = @progress WHERE lease = @lease AND state = 'running'`;
    const values = {
      lease,
      state,
      now,
      result: outcome.result === undefined ? null : JSON.stringify(outcome.result),
      error: outcome.error === undefined ? null : JSON.stringify(outcome.error),
      progress: outcome.progress === null ? null : JSON.stringify(outcome.progress),
    };
    return this.#db.prepare(sql).run(values).changes === 1;
  }

  /** Back to the queue after a failed run. */
  retryAt(lease: string, runAt: number, error: PlainError): void {
    const sql = `UPDATE jobs SET state = 'queued', lease = NULL, run_at = ?, error = ? WHERE lease = ? AND state = 'running'`;
    this.#db.prepare(sql).run(runAt, JSON.stringify(error), lease);
  }

  /** Back to the queue after an orderly interruption: the run does not count. */
  release(lease: string): void {
    const sql = `UPDATE jobs SET state = 'queued', lease = NULL, attempts = attempts - 1
      WHERE lease = ? AND state = 'running'`;
    this.#db.prepare(sql).run(lease);
  }

  cancelQueued(id: string, error: PlainError, now: number): boolean {
    const sql = `UPDATE jobs SET state = 'canceled', error = ?, ended_at = ? WHERE id = ? AND state = 'queued'`;
    return this.#db.prepare(sql).run(JSON.stringify(error), now, id).changes === 1;
  }

  /** Jobs that a process that is gone left running. */
  abandoned(): JobRow[] {
    return this.#db.prepare<[], JobRow>("SELECT * FROM jobs WHERE state = 'running' ORDER BY seq").all();
  }

  requeueAbandoned(id: string, now: number): void {
    const sql =
      "UPDATE jobs SET state = 'queued', lease = NULL, run_at = ? WHERE id = ? AND state = 'running'";
    this.#db.prepare(sql).run(now, id);
  }

  failAbandoned(id: string, error: PlainError, now: number): void {
    const sql = `UPDATE jobs SET state = 'failed', lease = NULL, error = ?, ended_at = ? WHERE id = ? AND state = 'running'`;
    this.#db.prepare(sql).run(JSON.stringify(error), now, id);
  }

  deleteEndedBefore(time: number): void {
    this.#db.prepare('DELETE FROM jobs WHERE ended_at < ?').run(time);
  }

  deleteEnded(id: string): void {
    this.#db.prepare('DELETE FROM jobs WHERE id = ? AND ended_at IS NOT NULL').run(id);
  }

  /** Keeps the next time of a repeat whose interval is unchanged, so that restarts do not postpone it. */
  putRepeat(name: string, kind: string, payload: string, everyMs: number, now: number): void {
    const sql = `INSERT INTO job_repeats (name, kind, payload, every_ms, next_at) VALUES (@name, @kind, @payload, @everyMs, @now)
      ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, payload = excluded.payload, every_ms = excluded.every_ms,
        next_at = CASE WHEN every_ms = excluded.every_ms THEN next_at ELSE excluded.next_at END`;
    this.#db.prepare(sql).run({ name, kind, payload, everyMs, now });
  }

  dueRepeats(now: number): RepeatRow[] {
    const sql = 'SELECT * FROM job_repeats WHERE next_at <= ? ORDER BY next_at, name';
    return this.#db.prepare<[number], RepeatRow>(sql).all(now);
  }

  advanceRepeat(name: string, nextAt: number): void {
    this.#db.prepare('UPDATE job_repeats SET next_at = ? WHERE name = ?').run(nextAt, name);
  }

  nextRepeatAt(): number | undefined {
    const sql = 'SELECT min(next_at) AS at FROM job_repeats';
    return this.#db.prepare<[], { at: number | null }>(sql).get()?.at ?? undefined;
  }

  transaction<T>(work: () => T): T {
    return this.#db.transaction(work).immediate();
  }
}

function parsed(text: string | null): unknown {
  return text === null ? null : JSON.parse(text);
}

export function jobInfo(row: JobRow): JobInfo {
  return {
    id: row.id,
    kind: row.kind,
    payload: parsed(row.payload),
    state: row.state,
    attempts: row.attempts,
    maxAttempts: row.max_attempts,
    progress: parsed(row.progress) as JobProgress | null, // INVARIANT: written by saveProgress and end
    result: parsed(row.result),
    error: row.state === 'succeeded' ? null : (parsed(row.error) as PlainError | null), // INVARIANT: likewise
  };
}
