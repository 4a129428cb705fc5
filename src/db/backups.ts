import type { Sqlite } from './database.ts';
import type { BackupRow, PageQuery, SnapshotRow } from './rows.ts';
import { definedOf } from './vms.ts';

const SELECT_SNAPSHOT =
  'SELECT snapshots.*, layers.path FROM snapshots JOIN layers ON layers.id = snapshots.layer_id';

export class BackupTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #inState;
  readonly #ofVm;
  readonly #publish;
  readonly #setState;
  readonly #remove;
  readonly #insertSnapshot;
  readonly #snapshots;
  readonly #dropLayers;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<BackupRow, 'seq'>]>(
      `INSERT INTO backups (id, tenant, name, state, vm_id, vm_name, image_id, memory_bytes, append, config, keep,
        taken_at, created_at) VALUES (@id, @tenant, @name, @state, @vm_id, @vm_name, @image_id, @memory_bytes, @append,
        @config, @keep, @taken_at, @created_at)`,
    );
    this.#get = db.prepare<[string], BackupRow>('SELECT * FROM backups WHERE id = ?');
    this.#byName = db.prepare<[string], BackupRow>('SELECT * FROM backups WHERE name = ? ORDER BY seq');
    this.#page = db.prepare<[object], BackupRow>(
      `SELECT * FROM backups WHERE seq > @after AND state <> 'creating' AND (@tenant IS NULL OR tenant = @tenant)
        AND (@vm IS NULL OR vm_id = @vm OR vm_name = @vm) ORDER BY seq LIMIT @limit`,
    );
    this.#inState = db.prepare<[string], BackupRow>('SELECT * FROM backups WHERE state = ? ORDER BY seq');
    this.#ofVm = db.prepare<[string], BackupRow>(
      "SELECT * FROM backups WHERE vm_id = ? AND state = 'available' ORDER BY seq DESC",
    );
    this.#publish = db.prepare<[number, string]>(
      "UPDATE backups SET state = 'available', taken_at = ? WHERE id = ?",
    );
    this.#setState = db.prepare<[string, string]>('UPDATE backups SET state = ? WHERE id = ?');
    this.#remove = db.prepare<[string]>('DELETE FROM backups WHERE id = ?');
    this.#insertSnapshot = db.prepare<[Omit<SnapshotRow, 'path'>]>(
      `INSERT INTO snapshots VALUES
        (@id, @backup_id, @device, @disk_id, @layer_id, @size_bytes, @stored_bytes, @read_only, @taken_at)`,
    );
    this.#snapshots = db.prepare<[string], SnapshotRow>(
      `${SELECT_SNAPSHOT} WHERE backup_id IN (SELECT value FROM json_each(?)) ORDER BY backup_id, length(device), device`,
    );
    this.#dropLayers = db.prepare<[string]>(
      'DELETE FROM layers WHERE id IN (SELECT value FROM json_each(?))',
    );
  }

  insert(backup: Omit<BackupRow, 'seq'>): void {
    this.#insert.run(backup);
  }
  get(id: string): BackupRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): BackupRow[] {
    return this.#byName.all(name);
  }
  /** Without those that are being made. `vm` is an id or a name. */
  page(query: PageQuery, vm: string | undefined): BackupRow[] {
    return this.#page.all({ tenant: null, ...definedOf(query), vm: vm ?? null });
  }
  inState(state: BackupRow['state']): BackupRow[] {
    return this.#inState.all(state);
  }
  /** Complete ones, newest first. */
  ofVm(vmId: string): BackupRow[] {
    return this.#ofVm.all(vmId);
  }
  publish(id: string, takenAt: number): void {
    this.#publish.run(takenAt, id);
  }
  setState(id: string, state: BackupRow['state']): void {
    this.#setState.run(state, id);
  }
  insertSnapshot(snapshot: Omit<SnapshotRow, 'path'>): void {
    this.#insertSnapshot.run(snapshot);
  }
  snapshots(backupIds: readonly string[]): SnapshotRow[] {
    return this.#snapshots.all(JSON.stringify(backupIds));
  }
  /** Removes the backup, its snapshots and their layers. */
  remove(id: string): void {
    const layers = this.snapshots([id]).map((snapshot) => snapshot.layer_id);
    this.#remove.run(id);
    this.#dropLayers.run(JSON.stringify(layers));
  }
}
