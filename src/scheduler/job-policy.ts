/** What both schedulers agree on: limits, defaults, and which errors and crashes lead to another run. */
import { randomUUID } from 'node:crypto';
import { AppError, isErrorCode, type PlainError, toAppError } from '../contracts/errors.ts';
import type { EnqueueOptions, JobKind } from '../contracts/jobs.ts';

/** Ended jobs are kept this long, to answer for their ids. */
export const KEEP_ENDED_MS = 7 * 24 * 60 * 60 * 1000;
/** A payload is a few ids and names; more is a mistake of the caller. */
export const PAYLOAD_CHARS_MAX = 64 * 1024;
const BACKOFF_MS_MAX = 60 * 60 * 1000;

interface KindPolicy {
  /**
   * Run again when the process died in the middle. A kind that deletes things is not: what it had decided
   * to delete may no longer be what should go, so a new job has to decide afresh.
   */
  readonly afterCrash: 'run-again' | 'fail';
}

const KIND_POLICIES: Record<JobKind, KindPolicy> = {
  'image.build': { afterCrash: 'run-again' },
  'image.import': { afterCrash: 'run-again' },
  'image.verify': { afterCrash: 'run-again' },
  'backup.create': { afterCrash: 'run-again' },
  'backup.restore': { afterCrash: 'run-again' },
  'snapshot.delete': { afterCrash: 'run-again' },
  'layer.merge': { afterCrash: 'run-again' },
  'backup.verify': { afterCrash: 'run-again' },
  'backup.test': { afterCrash: 'fail' },
  'backup.collect': { afterCrash: 'run-again' },
  'backup.rebuild': { afterCrash: 'run-again' },
  'disk.rebase': { afterCrash: 'run-again' },
  retention: { afterCrash: 'fail' },
};

export const JOB_KINDS = Object.keys(KIND_POLICIES) as JobKind[];

export function isJobKind(kind: string): kind is JobKind {
  return Object.hasOwn(KIND_POLICIES, kind);
}

export function runsAgainAfterCrash(kind: JobKind): boolean {
  return KIND_POLICIES[kind].afterCrash === 'run-again';
}

export interface ResolvedOptions {
  readonly id: string;
  readonly delayMs: number;
  readonly maxAttempts: number;
  readonly backoffMs: number;
}

export function resolveOptions(options: EnqueueOptions): ResolvedOptions {
  const { id = randomUUID(), delayMs = 0, maxAttempts = 3, backoffMs = 1000 } = options;
  if (id === '' || id.length > 200) {
    throw new AppError('invalid_input', `a job's id has ${id.length} characters`, {
      field: 'id',
      remedy: 'Use 1 to 200 characters.',
    });
  }
  requireInteger('delayMs', delayMs, 0);
  requireInteger('maxAttempts', maxAttempts, 1);
  requireInteger('backoffMs', backoffMs, 0);
  return { id, delayMs, maxAttempts, backoffMs };
}

export function requireInteger(field: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new AppError('invalid_input', `${field} is ${value}`, {
    field,
    remedy: `Use a whole number of at least ${least}.`,
  });
}

/** @throws AppError `invalid_input` when it is not JSON or too large. */
export function payloadText(payload: unknown): string {
  const text = JSON.stringify(payload);
  if (text === undefined || text.length > PAYLOAD_CHARS_MAX) {
    throw new AppError('invalid_input', 'the payload of a job is not JSON, or too large', {
      field: 'payload',
      remedy: `Pass at most ${PAYLOAD_CHARS_MAX} characters of JSON.`,
    });
  }
  return text;
}

/** Wait before run `attempt + 1`: the base, doubled after each failed run, at most an hour. */
export function backoffDelayMs(backoffMs: number, attempt: number): number {
  return Math.min(backoffMs * 2 ** Math.min(attempt - 1, 30), BACKOFF_MS_MAX);
}

/** Errors that were foreseen say themselves whether a repeat can help; all others are tried again. */
export function deservesRetry(error: unknown): boolean {
  return error instanceof AppError ? error.retryable : true;
}

/** How the end of a job is recorded: an unforeseen error keeps its message under `job_failed`. */
export function jobError(error: unknown): PlainError {
  const known = toAppError(error);
  if (known.code !== 'internal') return known.toPlain();
  return { code: 'job_failed', detail: known.detail };
}

/** The plain error in `text`, or `fallback` with the text as its detail. */
export function parseJobError(text: string, fallback: PlainError['code']): PlainError {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && 'code' in value && isErrorCode(value.code)) {
      return value as PlainError; // INVARIANT: written by this module's jobError
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return { code: fallback, detail: text };
}

export function canceledError(): AppError {
  return new AppError('canceled', 'the job was canceled');
}

export function interruptedError(): AppError {
  return new AppError('interrupted', 'the daemon stopped while the job ran');
}

export function stillUsable(closed: boolean): void {
  if (closed) throw new AppError('shutting_down', 'the scheduler is closed');
}
