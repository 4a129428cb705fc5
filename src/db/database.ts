/** Opens the daemon's SQLite database and brings its schema up to date. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import Database from 'better-sqlite3';
import { AppError } from '../contracts/errors.ts';

export type Sqlite = Database.Database;

const MIGRATION_NAME = /^(\d{4})-[a-z0-9-]+\.sql$/;
const BUSY_TIMEOUT_MS = 5000;

interface Migration {
  readonly number: number;
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

interface AppliedRow {
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
}

/**
 * Opens `file` (made when missing, mode 0600) and applies the SQL files of `migrationsDir` that it does not have yet,
 * in order, each in a transaction. AppErrors: `database_newer` when it has a migration that this version does not,
 * `database_corrupt` when it is no database or a migration differs from the one that was applied.
 */
export function openDatabase(file: string, migrationsDir: string): Sqlite {
  const migrations = readMigrations(migrationsDir);
  let db: Sqlite | undefined;
  try {
    if (file !== ':memory:') fs.closeSync(fs.openSync(file, 'a', 0o600));
    db = new Database(file, { timeout: BUSY_TIMEOUT_MS });
    db.pragma('journal_mode = WAL');
    // WAL with FULL: a transaction that was answered for survives a power cut.
    db.pragma('synchronous = FULL');
    db.pragma('foreign_keys = ON');
    migrate(db, migrations);
    return db;
  } catch (error) {
    db?.close();
    if (error instanceof Database.SqliteError && /^SQLITE_(NOTADB|CORRUPT)/.test(error.code)) {
      throw new AppError('database_corrupt', `${file} cannot be read: ${error.message}`, {
        remedy: 'restore the file from a copy, or start with another state folder',
        cause: error,
      });
    }
    throw error;
  }
}

function readMigrations(folder: string): Migration[] {
  const names = fs.readdirSync(folder).filter((name) => MIGRATION_NAME.test(name));
  return names.sort().map((name) => {
    const sql = fs.readFileSync(path.join(folder, name), 'utf8');
    const checksum = createHash('sha256').update(sql).digest('hex');
    return { number: Number.parseInt(name, 10), name, sql, checksum };
  });
}

function migrate(db: Sqlite, migrations: readonly Migration[]): void {
  db.exec(`CREATE TABLE IF NOT EXISTS migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT`);
  const applied = db
    .prepare<[], AppliedRow>('SELECT number, name, checksum FROM migrations ORDER BY number')
    .all();
  const known = new Map(migrations.map((migration) => [migration.number, migration]));
  for (const row of applied) checkApplied(row, known.get(row.number));
  const done = new Set(applied.map((row) => row.number));
  const record = db.prepare(
    'INSERT INTO migrations (number, name, checksum, applied_at) VALUES (?, ?, ?, ?)',
  );
  for (const migration of migrations) {
    if (done.has(migration.number)) continue;
    db.transaction(() => {
      db.exec(migration.sql);
      record.run(migration.number, migration.name, migration.checksum, Date.now());
    }).immediate();
  }
}

function checkApplied(row: AppliedRow, migration: Migration | undefined): void {
  if (migration === undefined) {
    throw new AppError(
      'database_newer',
      `the database has migration ${row.name}, which this version does not know`,
      {
        remedy: 'start the newer version of umlaut that made it, or use another state folder',
      },
    );
  }
  if (migration.checksum !== row.checksum) {
    throw new AppError(
      'database_corrupt',
      `migration ${row.name} differs from the one that made the database`,
      {
        remedy: 'put the original file back; changes belong into a new migration',
      },
    );
  }
}
