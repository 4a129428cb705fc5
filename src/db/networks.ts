import type { Sqlite } from './database.ts';
import type { NetworkRow, PageQuery } from './rows.ts';

export class NetworkTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #all;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<NetworkRow, 'seq'>]>(
      'INSERT INTO networks (id, name, subnet, created_at) VALUES (@id, @name, @subnet, @created_at)',
    );
    this.#get = db.prepare<[string], NetworkRow>('SELECT * FROM networks WHERE id = ?');
    this.#byName = db.prepare<[string], NetworkRow>('SELECT * FROM networks WHERE name = ?');
    this.#page = db.prepare<[number, number], NetworkRow>(
      'SELECT * FROM networks WHERE seq > ? ORDER BY seq LIMIT ?',
    );
    this.#all = db.prepare<[], NetworkRow>('SELECT * FROM networks ORDER BY seq');
    this.#remove = db.prepare<[string]>('DELETE FROM networks WHERE id = ?');
  }

  insert(network: Omit<NetworkRow, 'seq'>): void {
    this.#insert.run(network);
  }
  get(id: string): NetworkRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): NetworkRow | undefined {
    return this.#byName.get(name);
  }
  page(query: PageQuery): NetworkRow[] {
    return this.#page.all(query.after, query.limit);
  }
  all(): NetworkRow[] {
    return this.#all.all();
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
}
