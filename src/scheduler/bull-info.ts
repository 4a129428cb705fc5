/** BullMQ's view of a job in the terms of the contract. */
import type { Job } from 'bullmq';
import type { JobInfo, JobProgress, JobState } from '../contracts/jobs.ts';
import { parseJobError } from './job-policy.ts';

export interface BullData {
  /** Missing in the jobs of a repeat, which BullMQ names itself. */
  readonly id?: string;
  readonly payload: unknown;
}

const REPEAT = 'repeat:';

/** BullMQ refuses ids that are numbers or have colons. */
export function bullId(id: string): string {
  return id.startsWith(REPEAT) ? id : `j-${encodeURIComponent(id)}`;
}

/** `bullState` is what `Job.getState` says: completed, failed, active, waiting, delayed… */
export function bullInfo(job: Job<BullData>, bullState: string): JobInfo {
  const error =
    bullState === 'failed'
      ? parseJobError(job.failedReason ?? '', stalled(job) ? 'interrupted' : 'job_failed')
      : null;
  return {
    id: job.data.id ?? job.id ?? '',
    kind: job.name,
    payload: job.data.payload,
    state: stateOf(bullState, error?.code === 'canceled'),
    attempts: job.attemptsMade + (bullState === 'active' ? 1 : 0),
    maxAttempts: job.opts.attempts ?? 1,
    progress: progressOf(job.progress),
    result: job.returnvalue ?? null,
    error,
  };
}

function stalled(job: Job<BullData>): boolean {
  return (job.failedReason ?? '').startsWith('job stalled');
}

function stateOf(bullState: string, canceled: boolean): JobState {
  if (bullState === 'completed') return 'succeeded';
  if (bullState === 'failed') return canceled ? 'canceled' : 'failed';
  return bullState === 'active' ? 'running' : 'queued';
}

/** BullMQ starts with the number 0. */
export function progressOf(progress: unknown): JobProgress | null {
  return typeof progress === 'object' && progress !== null ? (progress as JobProgress) : null; // INVARIANT: JobContext.progress wrote it
}
