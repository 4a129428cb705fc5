import type { Sqlite } from './database.ts';
import type { ImageRow, PageQuery } from './rows.ts';

const SELECT = `SELECT images.*, (SELECT count(*) FROM layers AS child JOIN layers AS base ON base.id = child.parent_id
    WHERE base.image_id = images.id)
  + (SELECT count(*) FROM backups WHERE backups.image_id = images.id) AS in_use_by FROM images`;

export type NewImage = Omit<ImageRow, 'seq' | 'in_use_by'>;

export interface ImageDependentRow {
  readonly type: 'vm' | 'backup';
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
}

export class ImageTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #all;
  readonly #takeName;
  readonly #setName;
  readonly #users;
  readonly #dependents;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[NewImage]>(
      `INSERT INTO images (id, name, files, append, kernel_release, kernel_version, created_at)
        VALUES (@id, @name, @files, @append, @kernel_release, @kernel_version, @created_at)`,
    );
    this.#get = db.prepare<[string], ImageRow>(`${SELECT} WHERE images.id = ?`);
    this.#byName = db.prepare<[string], ImageRow>(`${SELECT} WHERE images.name = ?`);
    this.#page = db.prepare<[object], ImageRow>(
      `${SELECT} WHERE images.seq > @after AND (@name IS NULL OR images.name = @name) ORDER BY images.seq LIMIT @limit`,
    );
    this.#all = db.prepare<[], ImageRow>(`${SELECT} ORDER BY images.seq`);
    this.#takeName = db.prepare<[string]>('UPDATE images SET name = NULL WHERE name = ?');
    this.#setName = db.prepare<[string, string]>('UPDATE images SET name = ? WHERE id = ?');
    this.#users = db.prepare<[string, string], { name: string }>(
      `SELECT 'VM ' || name AS name FROM vms WHERE image_id = ?
        UNION ALL SELECT 'backup ' || name FROM backups WHERE image_id = ?`,
    );
    this.#dependents = db.prepare<[string, string], ImageDependentRow>(
      `SELECT 'vm' AS type, id, name, tenant FROM vms WHERE image_id = ?
        UNION ALL SELECT 'backup', id, name, tenant FROM backups WHERE image_id = ?`,
    );
    this.#remove = db.prepare<[string]>('DELETE FROM images WHERE id = ?');
  }

  insert(image: NewImage): void {
    this.#insert.run(image);
  }
  get(id: string): ImageRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): ImageRow | undefined {
    return this.#byName.get(name);
  }
  page(query: PageQuery, name: string | undefined): ImageRow[] {
    return this.#page.all({ after: query.after, limit: query.limit, name: name ?? null });
  }
  all(): ImageRow[] {
    return this.#all.all();
  }
  /** Gives `name` to an image; whichever had it has none then. */
  moveName(id: string, name: string): void {
    this.#takeName.run(name);
    this.#setName.run(name, id);
  }
  /** VMs and backups that were made for the image. */
  dependents(id: string): ImageDependentRow[] {
    return this.#dependents.all(id, id);
  }
  /** VMs and backups that need the image. */
  users(id: string): string[] {
    return this.#users.all(id, id).map((row) => row.name);
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
}
