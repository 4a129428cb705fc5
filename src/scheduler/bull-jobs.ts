/**
 * The scheduler on Redis, by BullMQ: a queue for each kind, so that each kind has its own concurrency.
 *
 * The prefix belongs to one host: its queues are filled and worked by that host's daemon alone. BullMQ locks a
 * job while it runs and returns it to the queue when the lock of a dead process has run out. It has no
 * canceled state: a canceled running job is a failed one with that error, and a canceled waiting job is removed
 * and remembered in a record of its own.
 */
import { type Job, Queue, UnrecoverableError, WaitingError, Worker } from 'bullmq';
import type { Redis } from 'ioredis';
import { AppError } from '../contracts/errors.ts';
import type {
  EnqueueOptions,
  JobEvent,
  JobHandler,
  JobInfo,
  JobKind,
  JobPayloads,
  Jobs,
} from '../contracts/jobs.ts';
import { checkRedis, openRedis } from './bull-connection.ts';
import { type BullData, bullId, bullInfo, progressOf } from './bull-info.ts';
import { JobListeners } from './job-listeners.ts';
import {
  backoffDelayMs,
  canceledError,
  deservesRetry,
  interruptedError,
  JOB_KINDS,
  jobError,
  KEEP_ENDED_MS,
  payloadText,
  requireInteger,
  resolveOptions,
  runsAgainAfterCrash,
  stillUsable,
} from './job-policy.ts';

/** Times a job may outlive the process that runs it before it counts as the cause. */
const CRASHES_MAX = 2;
const KEEP = { age: KEEP_ENDED_MS / 1000, count: 10_000 };

export interface BullJobsOptions {
  /** redis://host:port */
  readonly redisUrl: string;
  /** Key prefix of this host, without colons: two daemons must not share it. Standard: `umlaut`. */
  readonly prefix?: string | undefined;
  /** A run whose process is silent this long counts as dead. Standard: 30 s. */
  readonly lockMs?: number | undefined;
  /** Told of lost connections and of errors thrown by listeners. Standard: ignored and rethrown, respectively. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

interface Registration {
  readonly concurrency: number;
  /** INVARIANT: called only with the payload of a job of its own kind. */
  readonly handler: JobHandler<never>;
}

export class BullJobs implements Jobs {
  readonly #url: string;
  readonly #prefix: string;
  readonly #lockMs: number;
  readonly #onError: (error: unknown) => void;
  readonly #listeners: JobListeners;
  readonly #registrations = new Map<JobKind, Registration>();
  readonly #queues = new Map<JobKind, Queue<BullData>>();
  readonly #workers: Worker<BullData>[] = [];
  readonly #runs = new Map<string, AbortController>();
  #redis: Promise<Redis> | undefined;
  #state: 'new' | 'started' | 'closed' = 'new';

  constructor(options: BullJobsOptions) {
    this.#url = options.redisUrl;
    this.#prefix = options.prefix ?? 'umlaut';
    this.#lockMs = options.lockMs ?? 30_000;
    this.#onError = options.onError ?? (() => {});
    this.#listeners = new JobListeners(this.#onError);
    if (!/^[\w.-]{1,100}$/.test(this.#prefix)) {
      throw new AppError('invalid_input', `"${this.#prefix}" cannot be a prefix of Redis keys`, {
        field: 'prefix',
        remedy: 'Use letters, digits, dots, dashes and underscores.',
      });
    }
  }

  async enqueue<K extends JobKind>(
    kind: K,
    payload: JobPayloads[K],
    options: EnqueueOptions = {},
  ): Promise<JobInfo> {
    stillUsable(this.#state === 'closed');
    const { id, delayMs, maxAttempts, backoffMs } = resolveOptions(options);
    payloadText(payload);
    await this.#forgetFailed(kind, id);
    const queue = await this.#queue(kind);
    await queue.add(
      kind,
      { id, payload },
      {
        jobId: bullId(id),
        delay: delayMs,
        attempts: maxAttempts,
        backoff: { type: 'umlaut', delay: backoffMs },
        removeOnComplete: KEEP,
        removeOnFail: KEEP,
      },
    );
    const job = await this.get(id);
    if (job === undefined) throw new AppError('internal', `job ${id} was not stored`);
    return job;
  }

  process<K extends JobKind>(
    kind: K,
    handler: JobHandler<K>,
    options: { readonly concurrency?: number } = {},
  ): void {
    const { concurrency = 1 } = options;
    requireInteger('concurrency', concurrency, 1);
    this.#registrations.set(kind, { handler, concurrency });
  }

  async repeat<K extends JobKind>(
    name: string,
    kind: K,
    payload: JobPayloads[K],
    everyMs: number,
  ): Promise<void> {
    stillUsable(this.#state === 'closed');
    requireInteger('everyMs', everyMs, 1);
    payloadText(payload);
    for (const other of JOB_KINDS) {
      if (other !== kind) await (await this.#queue(other)).removeJobScheduler(name);
    }
    const opts = {
      attempts: 3,
      backoff: { type: 'umlaut', delay: 1000 },
      removeOnComplete: KEEP,
      removeOnFail: KEEP,
    };
    const queue = await this.#queue(kind);
    await queue.upsertJobScheduler(name, { every: everyMs }, { name: kind, data: { payload }, opts });
  }

  async get(id: string): Promise<JobInfo | undefined> {
    const job = await this.#find(id);
    if (job !== undefined) return bullInfo(job, await job.getState());
    const canceled = await (await this.#connection()).get(this.#canceledKey(id));
    return canceled === null ? undefined : (JSON.parse(canceled) as JobInfo); // INVARIANT: written by cancel
  }

  async cancel(id: string): Promise<boolean> {
    stillUsable(this.#state === 'closed');
    const run = this.#runs.get(id);
    if (run !== undefined) {
      run.abort(canceledError());
      return true;
    }
    const job = await this.#find(id);
    if (job === undefined) return false;
    const state = await job.getState();
    if (state === 'completed' || state === 'failed') return false;
    const info: JobInfo = {
      ...bullInfo(job, state),
      state: 'canceled',
      error: canceledError().toPlain(),
    };
    try {
      await job.remove();
    } catch (error) {
      // BullMQ does not remove a job that a worker has taken in the meantime; then the run is there to abort.
      const started = this.#runs.get(id);
      if (started === undefined) throw error;
      started.abort(canceledError());
      return true;
    }
    const redis = await this.#connection();
    await redis.set(this.#canceledKey(id), JSON.stringify(info), 'PX', KEEP_ENDED_MS);
    this.#listeners.emit({ type: 'ended', job: info });
    return true;
  }

  subscribe(listener: (event: JobEvent) => void): () => void {
    return this.#listeners.add(listener);
  }

  async start(): Promise<void> {
    stillUsable(this.#state === 'closed');
    if (this.#state === 'started') return;
    this.#state = 'started';
    const connection = await this.#connection();
    for (const [kind, registration] of this.#registrations) {
      this.#workers.push(this.#worker(kind, registration, connection));
    }
    await Promise.all(this.#workers.map((worker) => worker.waitUntilReady()));
  }

  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    // Closing first: a worker that closes takes no further job, also not the one that is put back below.
    const closing = this.#workers.map((worker) => worker.close());
    for (const run of this.#runs.values()) run.abort(interruptedError());
    await Promise.all(closing);
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
    const redis = await this.#redis?.catch(() => undefined);
    redis?.disconnect();
  }

  #worker(kind: JobKind, registration: Registration, connection: Redis): Worker<BullData> {
    const worker = new Worker<BullData>(kind, (job, token) => this.#run(registration.handler, job, token), {
      connection,
      prefix: this.#prefix,
      concurrency: registration.concurrency,
      lockDuration: this.#lockMs,
      stalledInterval: this.#lockMs,
      maxStalledCount: runsAgainAfterCrash(kind) ? CRASHES_MAX : 0,
      settings: {
        backoffStrategy: (attempt, _type, _error, job) => backoffDelayMs(baseDelayMs(job), attempt),
      },
    });
    worker.on('error', this.#onError);
    worker.on('progress', (job, progress) => {
      // The job's own field may already hold a later one.
      this.#listeners.emit({
        type: 'progress',
        job: { ...bullInfo(job, 'active'), progress: progressOf(progress) },
      });
    });
    worker.on('completed', (job) => this.#listeners.emit({ type: 'ended', job: bullInfo(job, 'completed') }));
    worker.on('failed', (job) => {
      // Failed runs that are followed by another one come here too; those have no end yet.
      if (job?.finishedOn !== undefined) {
        this.#listeners.emit({ type: 'ended', job: bullInfo(job, 'failed') });
      }
    });
    return worker;
  }

  async #run(handler: JobHandler<never>, job: Job<BullData>, token: string | undefined): Promise<unknown> {
    const { id } = bullInfo(job, 'active');
    const abort = new AbortController();
    this.#runs.set(id, abort);
    const saves = new Set<Promise<void>>();
    try {
      const result = await handler(job.data.payload as never, {
        id,
        attempt: job.attemptsMade + 1,
        signal: abort.signal,
        progress: (progress) => {
          const save = job
            .updateProgress(progress)
            .catch(this.#onError)
            .finally(() => saves.delete(save));
          saves.add(save);
        },
      });
      await Promise.all(saves);
      return result ?? null;
    } catch (error) {
      await Promise.all(saves);
      return await this.#failRun(job, token, abort.signal, error);
    } finally {
      this.#runs.delete(id);
    }
  }

  /** Throws what tells BullMQ how to go on: another run, the end, or back to the queue. */
  async #failRun(
    job: Job<BullData>,
    token: string | undefined,
    signal: AbortSignal,
    error: unknown,
  ): Promise<never> {
    const reason: unknown = signal.aborted ? signal.reason : undefined;
    if (reason instanceof AppError && reason.code === 'canceled') {
      throw new UnrecoverableError(JSON.stringify(jobError(reason)));
    }
    if (reason !== undefined) {
      await job.moveToWait(token);
      throw new WaitingError();
    }
    const text = JSON.stringify(jobError(error));
    throw deservesRetry(error) ? new Error(text, { cause: error }) : new UnrecoverableError(text);
  }

  /** Makes room for a new job with the id of one that failed or was canceled. */
  async #forgetFailed(kind: JobKind, id: string): Promise<void> {
    const redis = await this.#connection();
    await redis.del(this.#canceledKey(id));
    const job = await (await this.#queue(kind)).getJob(bullId(id));
    if (job !== undefined && (await job.getState()) === 'failed') await job.remove();
  }

  async #find(id: string): Promise<Job<BullData> | undefined> {
    const found = await Promise.all(
      JOB_KINDS.map(async (kind) => (await this.#queue(kind)).getJob(bullId(id))),
    );
    return found.find((job) => job !== undefined);
  }

  async #queue(kind: JobKind): Promise<Queue<BullData>> {
    const connection = await this.#connection();
    const known = this.#queues.get(kind);
    if (known !== undefined) return known;
    const queue = new Queue<BullData>(kind, { connection, prefix: this.#prefix });
    queue.on('error', this.#onError);
    this.#queues.set(kind, queue);
    return queue;
  }

  #connection(): Promise<Redis> {
    this.#redis ??= checkRedis(this.#url).then(() => {
      const redis = openRedis(this.#url);
      redis.on('error', this.#onError);
      return redis;
    });
    return this.#redis;
  }

  #canceledKey(id: string): string {
    return `${this.#prefix}:canceled:${id}`;
  }
}

function baseDelayMs(job: { readonly opts: { readonly backoff?: unknown } } | undefined): number {
  const backoff = job?.opts.backoff;
  const delay =
    typeof backoff === 'object' && backoff !== null && 'delay' in backoff ? backoff.delay : undefined;
  return typeof delay === 'number' ? delay : 1000;
}
