import type { Sqlite } from './database.ts';
import type { EventRow } from './rows.ts';

export class EventTable {
  readonly #insert;
  readonly #after;
  readonly #last;
  readonly #trim;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<EventRow, 'seq'>]>(
      `INSERT INTO events (time, tenant, type, resource_type, resource_id, data)
        VALUES (@time, @tenant, @type, @resource_type, @resource_id, @data)`,
    );
    this.#after = db.prepare<[number, number], EventRow>(
      'SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?',
    );
    this.#last = db.prepare<[], { seq: number | null }>('SELECT max(seq) AS seq FROM events');
    this.#trim = db.prepare<[number]>('DELETE FROM events WHERE seq <= ?');
  }

  /** The event's sequence number. */
  insert(event: Omit<EventRow, 'seq'>): number {
    return Number(this.#insert.run(event).lastInsertRowid);
  }
  after(seq: number, limit: number): EventRow[] {
    return this.#after.all(seq, limit);
  }
  lastSeq(): number {
    return this.#last.get()?.seq ?? 0;
  }
  removeUpTo(seq: number): number {
    return this.#trim.run(seq).changes;
  }
}
