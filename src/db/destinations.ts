import type { Sqlite } from './database.ts';
import type { DestinationRow, PageQuery } from './rows.ts';

export type NewDestination = Omit<DestinationRow, 'seq'>;

/** Where backups go. */
export class DestinationTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #all;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[NewDestination]>(
      `INSERT INTO backup_destinations (id, name, kind, location, created_at)
        VALUES (@id, @name, @kind, @location, @created_at)`,
    );
    this.#get = db.prepare<[string], DestinationRow>('SELECT * FROM backup_destinations WHERE id = ?');
    this.#byName = db.prepare<[string], DestinationRow>('SELECT * FROM backup_destinations WHERE name = ?');
    this.#page = db.prepare<[number, number], DestinationRow>(
      'SELECT * FROM backup_destinations WHERE seq > ? ORDER BY seq LIMIT ?',
    );
    this.#all = db.prepare<[], DestinationRow>('SELECT * FROM backup_destinations ORDER BY seq');
    this.#remove = db.prepare<[string]>('DELETE FROM backup_destinations WHERE id = ?');
  }

  insert(destination: NewDestination): void {
    this.#insert.run(destination);
  }
  get(id: string): DestinationRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): DestinationRow | undefined {
    return this.#byName.get(name);
  }
  page({ after, limit }: PageQuery): DestinationRow[] {
    return this.#page.all(after, limit);
  }
  all(): DestinationRow[] {
    return this.#all.all();
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
}
