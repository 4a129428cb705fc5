/**
 * Which pack has which chunk: an SQLite file that is only a cache, made anew from the packs' own indexes. Every thread that works
 * on a store opens it; its transactions are what keeps backups and the collection of garbage apart:
 *
 * - A pack is in here once it is durable, never before.
 * - A session (a backup being written) that is told a chunk is there pins the chunk's pack, in the same transaction. So a pack
 *   is condemned before it is relied on, and then not found, or pinned, and then kept.
 * - A session that ends while garbage is collected leaves its pins to the collector: what it used may belong to a manifest that
 *   the collector had not seen.
 */
import * as fs from 'node:fs';
import Database from 'better-sqlite3';
import { AppError } from '../../contracts/errors.ts';
import type { Pack, PackEntry } from './pack.ts';

const SCHEMA = `
CREATE TABLE IF NOT EXISTS packs (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, bytes INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS chunks (hash BLOB PRIMARY KEY, pack INTEGER NOT NULL, offset INTEGER NOT NULL,
  stored INTEGER NOT NULL, raw INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS chunks_pack ON chunks (pack);
CREATE TABLE IF NOT EXISTS sessions (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, ended INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS pins (session INTEGER NOT NULL, pack INTEGER NOT NULL, PRIMARY KEY (session, pack)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
`;
const BUSY_TIMEOUT_MS = 60_000;

export interface ChunkPlace {
  readonly pack: number;
  readonly packName: string;
  readonly offset: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
}

export interface PackUse {
  readonly id: number;
  readonly name: string;
  readonly bytes: number;
  readonly liveBytes: number;
}

interface PlaceRow {
  readonly pack: number;
  readonly name: string;
  readonly offset: number;
  readonly stored: number;
  readonly raw: number;
}

export class ChunkIndex {
  readonly #db: Database.Database;
  readonly #find;
  readonly #pin;
  readonly #insertPack;
  readonly #insertChunk;
  #marking: Database.Statement<[Uint8Array]> | undefined;

  constructor(file: string) {
    this.#db = openCache(file);
    this.#find = this.#db.prepare<[Uint8Array], PlaceRow>(
      'SELECT pack, name, offset, stored, raw FROM chunks JOIN packs ON packs.id = pack WHERE hash = ?',
    );
    this.#pin = this.#db.prepare<[number, number]>('INSERT OR IGNORE INTO pins VALUES (?, ?)');
    this.#insertPack = this.#db.prepare<[string, number]>('INSERT INTO packs (name, bytes) VALUES (?, ?)');
    this.#insertChunk = this.#db.prepare<[Uint8Array, number, number, number, number]>(
      'INSERT OR IGNORE INTO chunks VALUES (?, ?, ?, ?, ?)',
    );
  }

  find(hash: Uint8Array): ChunkPlace | undefined {
    const row = this.#find.get(hash);
    if (row === undefined) return undefined;
    return {
      pack: row.pack,
      packName: row.name,
      offset: row.offset,
      storedBytes: row.stored,
      rawBytes: row.raw,
    };
  }

  /** As `find` of each, at one moment: a transaction of its own for each would cost more than the search. */
  findAll(hashes: readonly Uint8Array[]): (ChunkPlace | undefined)[] {
    return this.#db.transaction(() => hashes.map((hash) => this.find(hash)))();
  }

  /** As `find`, and the pack stays until the session's end. */
  findPinned(hash: Uint8Array, session: number): ChunkPlace | undefined {
    return this.#immediate(() => {
      const place = this.find(hash);
      if (place !== undefined) this.#pin.run(session, place.pack);
      return place;
    });
  }

  /** A pack that is durable. The session, if any, relies on each of its chunks wherever the index has it. */
  addPack(name: string, bytes: number, entries: readonly PackEntry[], session?: number): void {
    this.#immediate(() => {
      const known = this.#packId(name);
      const id = known ?? Number(this.#insertPack.run(name, bytes).lastInsertRowid);
      for (const entry of entries) {
        const { changes } = this.#insertChunk.run(
          entry.hash,
          id,
          entry.offset,
          entry.storedBytes,
          entry.rawBytes,
        );
        if (session === undefined || changes === 1) continue;
        // INVARIANT: what was not inserted is there.
        this.#pin.run(session, this.#find.get(entry.hash)!.pack);
      }
      if (session !== undefined) this.#pin.run(session, id);
    });
  }

  /** What is alive of a pack is in another one from now on. False when a session relies on it. `interrupted` as requireSession. */
  moveChunks(from: number, collection: number, { name, bytes, entries }: Pack): boolean {
    return this.#immediate(() => {
      this.requireSession(collection);
      if (this.#isPinned(from)) return false;
      this.#dropPack(from);
      const id = this.#packId(name) ?? Number(this.#insertPack.run(name, bytes.length).lastInsertRowid);
      for (const { hash, offset, storedBytes, rawBytes } of entries) {
        this.#insertChunk.run(hash, id, offset, storedBytes, rawBytes);
      }
      return true;
    });
  }

  /** Forgets a pack unless a session relies on it. From then on its object may be removed. `interrupted` as requireSession. */
  condemn(pack: number, collection: number): boolean {
    return this.#immediate(() => {
      this.requireSession(collection);
      if (this.#isPinned(pack)) return false;
      this.#dropPack(pack);
      return true;
    });
  }

  /** Forgets what is not (or no longer) in the store. */
  forgetPack(name: string): void {
    this.#immediate(() => {
      const id = this.#packId(name);
      if (id !== undefined) this.#dropPack(id);
    });
  }

  forgetChunk(hash: Uint8Array): void {
    this.#db.prepare('DELETE FROM chunks WHERE hash = ?').run(hash);
  }

  packs(): { readonly name: string; readonly bytes: number }[] {
    return this.#db.prepare<[], { name: string; bytes: number }>('SELECT name, bytes FROM packs').all();
  }

  chunksOfPack(pack: number): PackEntry[] {
    const rows = this.#db
      .prepare<[number], { hash: Buffer; offset: number; stored: number; raw: number }>(
        'SELECT hash, offset, stored, raw FROM chunks WHERE pack = ? ORDER BY offset',
      )
      .all(pack);
    return rows.map(({ hash, offset, stored, raw }) => ({
      hash,
      offset,
      storedBytes: stored,
      rawBytes: raw,
    }));
  }

  beginSession(kind: 'backup' | 'collection'): number {
    return Number(
      this.#db.prepare('INSERT INTO sessions (kind, ended) VALUES (?, 0)').run(kind).lastInsertRowid,
    );
  }

  /** `interrupted` when the store was opened anew since the session was begun: its pins are gone. */
  requireSession(session: number): void {
    if (this.#db.prepare('SELECT 1 FROM sessions WHERE id = ?').get(session) !== undefined) return;
    throw new AppError('interrupted', 'the store of backups was opened anew meanwhile', {
      field: 'destination',
      remedy: 'try again',
    });
  }

  /** Its manifest is durable, or will never be. */
  endSession(session: number): void {
    this.#immediate(() => {
      if (this.#count("SELECT count(*) AS n FROM sessions WHERE kind = 'collection'") > 0) {
        this.#db.prepare('UPDATE sessions SET ended = 1 WHERE id = ?').run(session);
      } else this.#dropSession(session);
    });
  }

  endCollection(session: number): void {
    this.#immediate(() => {
      this.#dropSession(session);
      const ended = this.#db.prepare<[], { id: number }>('SELECT id FROM sessions WHERE ended = 1').all();
      for (const { id } of ended) this.#dropSession(id);
    });
  }

  /** Marks for a collection: the hashes that manifests reach. In memory or a temporary file, of this connection alone. */
  beginMarks(): void {
    this.#db.exec(
      'CREATE TEMP TABLE IF NOT EXISTS marks (hash BLOB PRIMARY KEY) STRICT, WITHOUT ROWID; DELETE FROM marks;',
    );
  }

  /** False when it was marked already. */
  mark(hash: Uint8Array): boolean {
    return this.#mark().run(hash).changes === 1;
  }

  markAll(hashes: readonly Uint8Array[]): void {
    const insert = this.#mark();
    this.#db.transaction(() => {
      for (const hash of hashes) insert.run(hash);
    })();
  }

  /** Every pack and how much of it is marked. */
  packUse(): PackUse[] {
    return this.#db
      .prepare<[], PackUse>(
        `SELECT packs.id, name, bytes, (SELECT coalesce(sum(stored), 0) FROM chunks
          WHERE pack = packs.id AND hash IN (SELECT hash FROM marks)) AS liveBytes FROM packs`,
      )
      .all();
  }

  isMarked(hash: Uint8Array): boolean {
    return this.#db.prepare('SELECT 1 FROM marks WHERE hash = ?').get(hash) !== undefined;
  }

  fact(name: string): string | undefined {
    return this.#db.prepare<[string], { value: string }>('SELECT value FROM facts WHERE name = ?').get(name)
      ?.value;
  }

  setFact(name: string, value: string): void {
    this.#db
      .prepare('INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value')
      .run(name, value);
  }

  /** What was pinned before the store was opened. */
  dropSessions(): void {
    this.#db.exec('DELETE FROM pins; DELETE FROM sessions;');
  }

  close(): void {
    this.#db.close();
  }

  /** Prepared when the marks have been begun. */
  #mark(): Database.Statement<[Uint8Array]> {
    this.#marking ??= this.#db.prepare('INSERT OR IGNORE INTO marks VALUES (?)');
    return this.#marking;
  }

  #packId(name: string): number | undefined {
    return this.#db.prepare<[string], { id: number }>('SELECT id FROM packs WHERE name = ?').get(name)?.id;
  }

  #isPinned(pack: number): boolean {
    return this.#db.prepare('SELECT 1 FROM pins WHERE pack = ?').get(pack) !== undefined;
  }

  #dropPack(id: number): void {
    this.#db.prepare('DELETE FROM chunks WHERE pack = ?').run(id);
    this.#db.prepare('DELETE FROM packs WHERE id = ?').run(id);
  }

  #dropSession(id: number): void {
    this.#db.prepare('DELETE FROM pins WHERE session = ?').run(id);
    this.#db.prepare('DELETE FROM sessions WHERE id = ?').run(id);
  }

  #count(sql: string): number {
    return this.#db.prepare<[], { n: number }>(sql).get()!.n;
  }

  #immediate<T>(work: () => T): T {
    return this.#db.transaction(work).immediate();
  }
}

/** A file that is no database is made anew: nothing is lost with it. */
function openCache(file: string): Database.Database {
  for (let attempt = 0; ; attempt++) {
    let db: Database.Database | undefined;
    try {
      db = new Database(file, { timeout: BUSY_TIMEOUT_MS });
      db.pragma('journal_mode = WAL');
      db.pragma('synchronous = NORMAL');
      db.exec(SCHEMA);
      return db;
    } catch (error) {
      db?.close();
      const broken = error instanceof Database.SqliteError && /^SQLITE_(NOTADB|CORRUPT)/.test(error.code);
      if (!broken || attempt > 0) throw error;
      for (const part of ['', '-wal', '-shm']) fs.rmSync(`${file}${part}`, { force: true });
    }
  }
}
