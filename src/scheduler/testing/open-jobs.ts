/** Opens a scheduler on a store that several processes of a test can name: a database file or a Redis address. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import type { Jobs } from '../../contracts/jobs.ts';
import { BullJobs } from '../bull-jobs.ts';
import { EmbeddedJobs } from '../embedded-jobs.ts';

export type TestStore =
  | { readonly type: 'sqlite'; readonly file: string }
  | { readonly type: 'redis'; readonly url: string; readonly prefix: string };

/** Short, so that a test need not wait long for the lock of a killed process to run out. */
const LOCK_MS = 400;

export interface OpenJobs {
  readonly jobs: Jobs;
  close(): Promise<void>;
}

export function openJobs(store: TestStore, onError?: (error: unknown) => void): OpenJobs {
  if (store.type === 'redis') {
    const jobs = new BullJobs({ redisUrl: store.url, prefix: store.prefix, lockMs: LOCK_MS, onError });
    return { jobs, close: () => jobs.close() };
  }
  const db = new Database(store.file);
  if (!db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'jobs'").get()) {
    const migration = fileURLToPath(new URL('../../../migrations/0002-jobs.sql', import.meta.url));
    db.exec(readFileSync(migration, 'utf8'));
  }
  const jobs = new EmbeddedJobs(db, { onError });
  return {
    jobs,
    async close() {
      await jobs.close();
      db.close();
    },
  };
}
