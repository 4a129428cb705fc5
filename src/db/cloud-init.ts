import type { Sqlite } from './database.ts';

interface CloudInitRow {
  readonly vm_id: string;
  readonly settings: string;
}

export class CloudInitTable {
  readonly #set;
  readonly #remove;
  readonly #ofVms;

  constructor(db: Sqlite) {
    this.#set = db.prepare<[string, string]>(
      'INSERT INTO cloud_init VALUES (?, ?) ON CONFLICT (vm_id) DO UPDATE SET settings = excluded.settings',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM cloud_init WHERE vm_id = ?');
    this.#ofVms = db.prepare<[string], CloudInitRow>(
      'SELECT * FROM cloud_init WHERE vm_id IN (SELECT value FROM json_each(?))',
    );
  }

  /** Null: none. */
  set(vmId: string, settings: string | null): void {
    if (settings === null) this.#remove.run(vmId);
    else this.#set.run(vmId, settings);
  }
  get(vmId: string): string | undefined {
    return this.ofVms([vmId]).get(vmId);
  }
  /** Of several VMs with one query. */
  ofVms(vmIds: readonly string[]): Map<string, string> {
    return new Map(this.#ofVms.all(JSON.stringify(vmIds)).map((row) => [row.vm_id, row.settings]));
  }
}
