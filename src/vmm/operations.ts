/** Work that outlives its request: carried out in this process, or as a job of the scheduler. */
import type {
  Operation,
  OperationKind,
  OperationProgress,
  OperationStatus,
  Page,
  ResourceRef,
  ResourceType,
} from '../contracts/api/index.ts';
import { AppError, type PlainError, toAppError } from '../contracts/errors.ts';
import type { JobEvent, JobInfo, JobKind, JobPayloads, JobProgress, Jobs } from '../contracts/jobs.ts';
import type { OperationResourceRow, OperationRow, Store } from '../db/index.ts';
import { iso, isoOrNull, mayRead, notFound, type Principal, pageOfRows, tenantFilter } from './access.ts';
import type { EventLog } from './events.ts';
import { newId } from './ids.ts';
import type { Log } from './ports.ts';

/** Progress is written down and told at most this often. */
const PROGRESS_EVERY_MS = 250;
const KEEP_ENDED_MS = 7 * 24 * 3600 * 1000;

export interface NewOperation {
  readonly kind: OperationKind;
  readonly tenant: string;
  readonly resources: readonly ResourceRef[];
  readonly mayCancel?: boolean;
}

export interface JobOptions {
  readonly maxAttempts: number;
}

export interface OperationListQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly status?: OperationStatus | undefined;
  readonly resource?: string | undefined;
}

export class Operations {
  readonly #store: Store;
  readonly #events: EventLog;
  readonly #jobs: Jobs;
  readonly #log: Log;
  /** Those that run in this process. */
  readonly #running = new Map<string, { abort: AbortController; done: Promise<void> }>();
  readonly #toldAt = new Map<string, number>();

  constructor(store: Store, events: EventLog, jobs: Jobs, log: Log) {
    this.#store = store;
    this.#events = events;
    this.#jobs = jobs;
    this.#log = log;
    jobs.subscribe((event) => this.#onJob(event));
  }

  /** Starts `task` in this process. It does not survive the daemon: then the operation fails with `interrupted`. */
  run(
    operation: NewOperation,
    task: (signal: AbortSignal, progress: (progress: JobProgress) => void, id: string) => Promise<void>,
  ): Operation {
    const id = newId('op');
    this.#create(id, operation, false);
    const abort = new AbortController();
    const done = this.#carryOut(id, () => task(abort.signal, (progress) => this.#progress(id, progress), id));
    this.#running.set(id, { abort, done });
    return this.#view(id);
  }

  /** Gives work to the scheduler; it goes on after a restart. `also` belongs to the same transaction. */
  async enqueue<K extends JobKind>(
    operation: NewOperation,
    kind: K,
    payload: (operationId: string) => JobPayloads[K],
    options: JobOptions,
    also: () => void = () => undefined,
  ): Promise<Operation> {
    const id = newId('op');
    this.#store.transaction(() => {
      also();
      this.#create(id, operation, true);
    });
    try {
      await this.#jobs.enqueue(kind, payload(id), { id, maxAttempts: options.maxAttempts });
    } catch (error) {
      this.#end(id, 'failed', toAppError(error).toPlain());
      throw error;
    }
    return this.#view(id);
  }

  addResource(id: string, resource: ResourceRef): void {
    this.#store.operations.addResource(id, resource.type, resource.id);
  }

  get(who: Principal, id: string): Operation {
    this.#require(who, id);
    return this.#view(id);
  }

  list(who: Principal, query: OperationListQuery): Page<Operation> {
    const { status, resource } = query;
    const read = (after: number, limit: number): OperationRow[] =>
      this.#store.operations.page({ after, limit, tenant: tenantFilter(who) }, { status, resource });
    return pageOfRows(query, read, (rows) => this.#views(rows));
  }

  /** The operation when it has ended, or as it is after the timeout. */
  async wait(who: Principal, id: string, timeoutMs: number, signal?: AbortSignal): Promise<Operation> {
    this.#require(who, id);
    const ended = (): Operation | undefined => {
      const row = this.#require(who, id);
      return row.ended_at === null ? undefined : this.#view(id);
    };
    return (await this.#events.waitFor(ended, timeoutMs, signal)) ?? this.#view(id);
  }

  /** Asks for the end; the operation is `canceled` when it has stopped. `conflict` when it cannot be. */
  async cancel(who: Principal, id: string): Promise<Operation> {
    const row = this.#require(who, id);
    if (row.ended_at !== null) {
      throw new AppError('conflict', `the operation has ended already: ${row.status}`);
    }
    if (row.may_cancel === 0) {
      throw new AppError('conflict', `an operation ${row.kind} cannot be canceled`, {
        remedy: 'wait for its end',
      });
    }
    if (row.is_job === 1) await this.#jobs.cancel(id);
    else this.#running.get(id)?.abort.abort(canceled());
    return this.#view(id);
  }

  /** Open operations of a kind on a resource. */
  openOn(kind: OperationKind, resourceId: string): readonly string[] {
    return this.#store.operations.openOn(kind, resourceId);
  }

  /** At start, before the jobs: ends what an earlier process cannot have finished. */
  async recover(): Promise<void> {
    for (const row of this.#store.operations.open()) {
      if (row.is_job === 0) {
        this.#end(row.id, 'failed', interrupted());
        continue;
      }
      const job = await this.#jobs.get(row.id);
      if (job === undefined) this.#end(row.id, 'failed', interrupted());
      else if (isEnded(job)) this.#endAsJob(job);
    }
  }

  /** Deletes what ended long ago. */
  sweep(): void {
    this.#store.operations.removeEndedBefore(Date.now() - KEEP_ENDED_MS);
  }

  /** Ends what runs in this process; what is a job is the scheduler's to interrupt. */
  async close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { abort } of running) abort.abort(AppError.fromPlain(interrupted()));
    await Promise.all(running.map(({ done }) => done));
  }

  #create(id: string, operation: NewOperation, isJob: boolean): void {
    const { kind, tenant, resources, mayCancel = false } = operation;
    this.#store.transaction(() => {
      this.#store.operations.insert({
        id,
        tenant,
        kind,
        status: isJob ? 'pending' : 'running',
        may_cancel: Number(mayCancel),
        is_job: Number(isJob),
        created_at: Date.now(),
      });
      for (const resource of resources) this.addResource(id, resource);
      this.#tell(id, 'operation.created');
    });
  }

  async #carryOut(id: string, task: () => Promise<void>): Promise<void> {
    try {
      await task();
      this.#end(id, 'succeeded', null);
    } catch (error) {
      const cause = toAppError(error);
      if (cause.code === 'internal') this.#log.error({ operation: id, error }, 'an operation failed');
      this.#end(id, cause.code === 'canceled' ? 'canceled' : 'failed', cause.toPlain());
    } finally {
      this.#running.delete(id);
    }
  }

  #onJob({ type, job }: JobEvent): void {
    if (this.#store.operations.get(job.id) === undefined) return;
    if (type === 'ended') this.#endAsJob(job);
    else if (job.progress !== null) this.#progress(job.id, job.progress);
  }

  #endAsJob(job: JobInfo): void {
    const status = job.state === 'succeeded' || job.state === 'canceled' ? job.state : 'failed';
    const progress = job.progress === null ? null : JSON.stringify(progressView(job.progress));
    this.#end(job.id, status, job.error, progress);
  }

  #progress(id: string, progress: JobProgress): void {
    const now = Date.now();
    if (now - (this.#toldAt.get(id) ?? 0) < PROGRESS_EVERY_MS) return;
    this.#toldAt.set(id, now);
    this.#store.transaction(() => {
      this.#store.operations.setProgress(id, JSON.stringify(progressView(progress)), now);
      this.#tell(id, 'operation.progress');
    });
  }

  #end(id: string, status: OperationStatus, error: PlainError | null, progress: string | null = null): void {
    this.#toldAt.delete(id);
    this.#store.transaction(() => {
      const text = error === null ? null : JSON.stringify(error);
      if (this.#store.operations.end(id, status, text, progress, Date.now()))
        this.#tell(id, 'operation.ended');
    });
  }

  #tell(id: string, type: 'operation.created' | 'operation.progress' | 'operation.ended'): void {
    const { kind, status, progress, error, resources } = this.#view(id);
    const tenant = this.#store.operations.get(id)!.tenant;
    this.#events.append({
      type,
      tenant,
      resource: { type: 'operation', id },
      data: { kind, status, progress, error, resources },
    });
  }

  #require(who: Principal, id: string): OperationRow {
    const row = this.#store.operations.get(id);
    if (row === undefined || !mayRead(who, row)) throw notFound('operation', id);
    return row;
  }

  #view(id: string): Operation {
    const row = this.#store.operations.get(id);
    if (row === undefined) throw notFound('operation', id);
    return this.#views([row])[0]!;
  }

  #views(rows: readonly OperationRow[]): Operation[] {
    const resources = Map.groupBy(
      this.#store.operations.resources(rows.map((row) => row.id)),
      (resource) => resource.operation_id,
    );
    return rows.map((row) => operationView(row, resources.get(row.id) ?? []));
  }
}

function operationView(row: OperationRow, resources: readonly OperationResourceRow[]): Operation {
  return {
    id: row.id,
    // INVARIANT: rows are written by `#create` alone.
    kind: row.kind as OperationKind,
    status: row.status,
    progress: row.progress === null ? null : (JSON.parse(row.progress) as OperationProgress),
    resources: resources.map(({ type, resource_id }) => ({ type: type as ResourceType, id: resource_id })),
    may_cancel: row.may_cancel === 1,
    error: row.error === null ? null : (JSON.parse(row.error) as Operation['error']),
    created_at: iso(row.created_at),
    updated_at: iso(row.updated_at),
    ended_at: isoOrNull(row.ended_at),
  };
}

function progressView({ done, total, unit = 'steps', message }: JobProgress): OperationProgress {
  return { done, total, unit, message: message ?? null };
}

/** Progress of files, as the storage tells it. */
export function bytesOf(progress: (progress: JobProgress) => void): (done: number, total: number) => void {
  return (done, total) => progress({ done, total, unit: 'bytes' });
}

function isEnded(job: JobInfo): boolean {
  return job.state === 'succeeded' || job.state === 'failed' || job.state === 'canceled';
}

function interrupted(): PlainError {
  return {
    code: 'interrupted',
    detail: 'the daemon ended while this was going on',
    remedy: 'ask for it again',
  };
}

export function canceled(): AppError {
  return new AppError('canceled', 'it was canceled on request');
}
