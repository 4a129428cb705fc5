/**
 * The state folder. One daemon holds it at a time: the lock is an exclusive SQLite transaction on the file `lock`,
 * which the operating system lets go of when the process dies, however it dies. `pid` only says who holds it.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import Database from 'better-sqlite3';
import { AppError, systemErrorCode } from '../contracts/errors.ts';

export class Home {
  readonly dir: string;
  readonly #lock: Database.Database;

  /** Makes the folder when missing and takes it. AppErrors: `home_in_use` (with the pid), `home_unusable`. */
  constructor(dir: string) {
    this.dir = path.resolve(dir);
    try {
      for (const folder of [
        '',
        'images',
        'vms',
        'disks',
        'layers',
        'changes',
        'backups',
        'networks',
        'transfers',
      ]) {
        fs.mkdirSync(path.join(this.dir, folder), { recursive: true, mode: 0o700 });
      }
      fs.closeSync(fs.openSync(this.file('lock'), 'a', 0o600));
    } catch (error) {
      throw this.#unusable(error);
    }
    this.#lock = this.#takeLock();
    fs.writeFileSync(this.file('pid'), `${process.pid}\n`, { mode: 0o600 });
  }

  /** A path in the folder. */
  file(...parts: string[]): string {
    return path.join(this.dir, ...parts);
  }

  /** As it is kept in the database: below the folder, so that the folder can be moved. */
  relative(file: string): string {
    return path.relative(this.dir, file);
  }

  /** Absolute from how it is kept in the database. */
  absolute(stored: string): string {
    return path.resolve(this.dir, stored);
  }

  release(): void {
    fs.rmSync(this.file('pid'), { force: true });
    this.#lock.close();
  }

  #takeLock(): Database.Database {
    let lock: Database.Database | undefined;
    try {
      lock = new Database(this.file('lock'), { timeout: 0 });
      lock.pragma('journal_mode = MEMORY');
      lock.exec('BEGIN EXCLUSIVE');
      return lock;
    } catch (error) {
      lock?.close();
      if (systemErrorCode(error)?.startsWith('SQLITE_BUSY')) throw this.#inUse(error);
      throw error instanceof Database.SqliteError ? this.#unusable(error) : error;
    }
  }

  #inUse(cause: unknown): AppError {
    let pid = '';
    try {
      pid = fs.readFileSync(this.file('pid'), 'utf8').trim();
    } catch {
      // It is just starting: it has the lock and not yet written its pid.
    }
    const who = pid === '' ? 'another daemon' : `the daemon with pid ${pid}`;
    return new AppError('home_in_use', `the state folder ${this.dir} is in use by ${who}`, {
      field: 'UMLAUT_HOME',
      remedy: pid === '' ? 'use another state folder' : `stop it (kill ${pid}), or use another state folder`,
      cause,
    });
  }

  #unusable(cause: unknown): AppError {
    const why = cause instanceof Error ? cause.message : String(cause);
    return new AppError('home_unusable', `the state folder ${this.dir} cannot be used: ${why}`, {
      field: 'UMLAUT_HOME',
      remedy: 'name a folder that this user may write to, on a disk with free space',
      cause,
    });
  }
}
