/** Background jobs: one interface, implemented on SQLite (embedded) and on BullMQ (Redis). */
import type { PlainError } from './errors.ts';

/** Every kind of job and its payload. Payloads are JSON; handlers are idempotent: a job may run again. */
export interface JobPayloads {
  'image.build': {
    readonly operationId: string;
    readonly name: string;
    readonly kernel?: 'cloud' | 'generic' | undefined;
  };
  'image.import': {
    readonly operationId: string;
    readonly name: string;
    readonly kernel?: string | undefined;
    readonly initrd?: string | undefined;
    readonly disk: string;
    readonly append?: string | undefined;
  };
  'image.verify': { readonly operationId: string; readonly imageId: string };
  'backup.create': {
    readonly operationId: string;
    readonly backupId: string;
    readonly full?: boolean | undefined;
    readonly quiesce?: boolean | undefined;
  };
  'backup.restore': {
    readonly operationId: string;
    readonly backupId: string;
    readonly vmId: string;
    readonly tenant: string;
    readonly name: string;
    readonly memoryBytes?: number | undefined;
    readonly autostart?: 'last-state' | 'always' | 'never' | undefined;
    readonly labels?: Readonly<Record<string, string>> | undefined;
    readonly start: boolean;
    /** In place of the disks of the VM `vmId`. */
    readonly over?: boolean | undefined;
    /** Raw disks, also where they were over an image. */
    readonly fullCopy?: boolean | undefined;
    /** Whose kernel it boots, if not that of the backup's VM. */
    readonly imageId?: string | undefined;
    /** Without network cards. */
    readonly isolated?: boolean | undefined;
  };
  /** Merges a snapshot's layers into those over them, where nobody else needs them. */
  'snapshot.delete': {
    readonly operationId: string;
    readonly snapshotId: string;
    readonly bytesPerSecond?: number | undefined;
  };
  'layer.merge': {
    readonly operationId: string;
    readonly layerId: string;
    readonly bytesPerSecond?: number | undefined;
  };
  /** All backups of a destination, or one. */
  'backup.verify': {
    readonly operationId: string;
    readonly destinationId: string;
    readonly backupId: string | null;
  };
  /** Boots a clone, `vmId`, which is deleted again. */
  'backup.test': {
    readonly operationId: string;
    readonly backupId: string;
    readonly vmId: string;
    /** As of a restore. */
    readonly imageId?: string | undefined;
  };
  'backup.collect': { readonly operationId: string; readonly destinationId: string };
  'backup.rebuild': { readonly operationId: string; readonly destinationId: string };
  /** Puts a disk over an image, or, without one, over nothing. */
  'disk.rebase': {
    readonly operationId: string;
    readonly diskId: string;
    readonly imageId: string | null;
  };
  /** Deletes backups and finished operations that their owners' limits no longer keep. */
  retention: Record<string, never>;
}
export type JobKind = keyof JobPayloads;

export type JobState = 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled';

export interface JobProgress {
  readonly done: number;
  readonly total: number;
  readonly unit?: 'bytes' | 'steps' | 'percent' | undefined;
  readonly message?: string | undefined;
}

export interface JobInfo {
  readonly id: string;
  readonly kind: string;
  readonly payload: unknown;
  readonly state: JobState;
  /** How often it has been started. */
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly progress: JobProgress | null;
  readonly result: unknown;
  readonly error: PlainError | null;
}

export interface JobContext {
  readonly id: string;
  /** 1 on the first run. */
  readonly attempt: number;
  /** Aborted when the job is canceled or the scheduler closes; `signal.reason` is an AppError (`canceled`, `interrupted`). */
  readonly signal: AbortSignal;
  progress(progress: JobProgress): void;
}

/** Returns a JSON result. An AppError that is not retryable fails the job for good; everything else is retried. */
export type JobHandler<K extends JobKind> = (
  payload: JobPayloads[K],
  context: JobContext,
) => Promise<unknown>;

export interface EnqueueOptions {
  /** A second job with the id of an unfinished or succeeded one is the same job. Random when missing. */
  readonly id?: string | undefined;
  readonly delayMs?: number | undefined;
  /** Runs at most this often; 3 when missing. */
  readonly maxAttempts?: number | undefined;
  /** Wait before the second run, doubled for each further one; 1000 when missing. */
  readonly backoffMs?: number | undefined;
}

export type JobEvent =
  | { readonly type: 'progress'; readonly job: JobInfo }
  /** The job has reached succeeded, failed or canceled. */
  | { readonly type: 'ended'; readonly job: JobInfo };

export interface Jobs {
  enqueue<K extends JobKind>(kind: K, payload: JobPayloads[K], options?: EnqueueOptions): Promise<JobInfo>;
  /** Sets the handler of a kind. `concurrency` defaults to 1. All are set before `start`. */
  process<K extends JobKind>(
    kind: K,
    handler: JobHandler<K>,
    options?: { readonly concurrency?: number },
  ): void;
  /** Enqueues `payload` every `everyMs`, at most one unfinished at a time. Same `name`: replaced. */
  repeat<K extends JobKind>(name: string, kind: K, payload: JobPayloads[K], everyMs: number): Promise<void>;
  get(id: string): Promise<JobInfo | undefined>;
  /** A queued job never starts, a running one is aborted. False when it has ended or is unknown. */
  cancel(id: string): Promise<boolean>;
  /** Returns the function that unsubscribes. */
  subscribe(listener: (event: JobEvent) => void): () => void;
  /** Takes up work, also jobs left by an earlier process. */
  start(): Promise<void>;
  /** Aborts running jobs with `interrupted` (they run again after a restart), waits for them, lets go. */
  close(): Promise<void>;
}
