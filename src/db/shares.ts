import type { Sqlite } from './database.ts';
import type { ShareRow } from './rows.ts';

export class ShareTable {
  readonly #insert;
  readonly #remove;
  readonly #ofVms;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[ShareRow]>(
      'INSERT INTO shares VALUES (@vm_id, @tag, @path, @read_only, @set_id, @uid_map, @gid_map)',
    );
    this.#remove = db.prepare<[string, string]>('DELETE FROM shares WHERE vm_id = ? AND tag = ?');
    this.#ofVms = db.prepare<[string], ShareRow>(
      'SELECT * FROM shares WHERE vm_id IN (SELECT value FROM json_each(?)) ORDER BY vm_id, tag',
    );
  }

  insert(share: ShareRow): void {
    this.#insert.run(share);
  }
  /** False when there was none. */
  remove(vmId: string, tag: string): boolean {
    return this.#remove.run(vmId, tag).changes === 1;
  }
  /** Shares of several VMs with one query. */
  ofVms(vmIds: readonly string[]): ShareRow[] {
    return this.#ofVms.all(JSON.stringify(vmIds));
  }
}
