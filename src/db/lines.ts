import type { Sqlite } from './database.ts';

export interface LineRow {
  readonly vm_id: string;
  /** con0, ssl0, … */
  readonly line: string;
  readonly channel: string;
}

export class LineTable {
  readonly #set;
  readonly #remove;
  readonly #ofVm;

  constructor(db: Sqlite) {
    this.#set = db.prepare<[string, string, string]>(
      'INSERT INTO vm_lines VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET channel = excluded.channel',
    );
    this.#remove = db.prepare<[string, string]>('DELETE FROM vm_lines WHERE vm_id = ? AND line = ?');
    this.#ofVm = db.prepare<[string], LineRow>(
      'SELECT * FROM vm_lines WHERE vm_id = ? ORDER BY length(line), line',
    );
  }

  set(vmId: string, line: string, channel: string): void {
    this.#set.run(vmId, line, channel);
  }
  /** False when there was none. */
  remove(vmId: string, line: string): boolean {
    return this.#remove.run(vmId, line).changes > 0;
  }
  ofVm(vmId: string): LineRow[] {
    return this.#ofVm.all(vmId);
  }
}
