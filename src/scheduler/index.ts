/** Background jobs. See the contract in src/contracts/jobs.ts. */
import type { Database } from 'better-sqlite3';
import type { Jobs } from '../contracts/jobs.ts';
import { BullJobs } from './bull-jobs.ts';
import { EmbeddedJobs } from './embedded-jobs.ts';

export { BullJobs, type BullJobsOptions } from './bull-jobs.ts';
export { EmbeddedJobs, type EmbeddedJobsOptions } from './embedded-jobs.ts';

export interface SchedulerOptions {
  /** The daemon's database, with its migrations applied. */
  readonly db: Database;
  /** redis://host:port; the embedded scheduler when missing. */
  readonly redisUrl?: string | undefined;
  /** Names this host among those that share the Redis. */
  readonly prefix?: string | undefined;
  /** Told of lost connections and of errors thrown by listeners. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** On Redis where its address is configured, else embedded. */
export function createJobs(options: SchedulerOptions): Jobs {
  const { db, redisUrl, prefix, onError } = options;
  return redisUrl === undefined
    ? new EmbeddedJobs(db, { onError })
    : new BullJobs({ redisUrl, prefix, onError });
}
