import type { BackupSummary } from '../contracts/backup.ts';
import type { Sqlite } from './database.ts';
import type { BackupRow, PageQuery, SnapshotRow } from './rows.ts';
import { definedOf } from './vms.ts';

const SELECT_SNAPSHOT =
  'SELECT snapshots.*, layers.path FROM snapshots JOIN layers ON layers.id = snapshots.layer_id';

export type NewBackup = Omit<
  BackupRow,
  'seq' | 'verified_at' | 'damage' | 'tested_at' | 'test_error' | 'kind' | 'parent_id' | 'consistency'
>;

export class BackupTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #inState;
  readonly #inDestination;
  readonly #ofVm;
  readonly #ofVmNamed;
  readonly #publish;
  readonly #setState;
  readonly #verified;
  readonly #tested;
  readonly #remove;
  readonly #insertSnapshot;
  readonly #snapshots;
  readonly #dropLayers;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[NewBackup]>(
      `INSERT INTO backups (id, tenant, name, state, destination_id, kind, schedule_id, vm_id, vm_name, image_id, memory_bytes,
        append, config, keep, taken_at, created_at) VALUES (@id, @tenant, @name, @state, @destination_id, 'full',
        @schedule_id, @vm_id, @vm_name, @image_id, @memory_bytes, @append, @config, @keep, @taken_at, @created_at)`,
    );
    this.#get = db.prepare<[string], BackupRow>('SELECT * FROM backups WHERE id = ?');
    this.#byName = db.prepare<[string], BackupRow>('SELECT * FROM backups WHERE name = ? ORDER BY seq');
    this.#page = db.prepare<[object], BackupRow>(
      `SELECT * FROM backups WHERE seq > @after AND state <> 'creating' AND (@tenant IS NULL OR tenant = @tenant)
        AND (@vm IS NULL OR vm_id = @vm OR vm_name = @vm) ORDER BY seq LIMIT @limit`,
    );
    this.#inState = db.prepare<[string], BackupRow>('SELECT * FROM backups WHERE state = ? ORDER BY seq');
    this.#inDestination = db.prepare<[string], BackupRow>(
      'SELECT * FROM backups WHERE destination_id = ? ORDER BY seq',
    );
    this.#ofVm = db.prepare<[string], BackupRow>(
      "SELECT * FROM backups WHERE vm_id = ? AND state = 'available' ORDER BY taken_at DESC, seq DESC",
    );
    this.#ofVmNamed = db.prepare<[object], BackupRow>(
      "SELECT * FROM backups WHERE state = 'available' AND (vm_id = @ref OR vm_name = @ref)",
    );
    this.#publish = db.prepare<[object]>(
      `UPDATE backups SET state = 'available', taken_at = @takenAt, kind = @kind, parent_id = @parent,
        consistency = @consistency WHERE id = @id`,
    );
    this.#setState = db.prepare<[string, string]>('UPDATE backups SET state = ? WHERE id = ?');
    this.#verified = db.prepare<[number, string | null, string]>(
      'UPDATE backups SET verified_at = ?, damage = ? WHERE id = ?',
    );
    this.#tested = db.prepare<[number, string | null, string]>(
      'UPDATE backups SET tested_at = ?, test_error = ? WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM backups WHERE id = ?');
    this.#insertSnapshot = db.prepare<[Omit<SnapshotRow, 'path'>]>(
      `INSERT INTO snapshots VALUES (@id, @backup_id, @device, (SELECT id FROM disks WHERE id = @disk_id), @layer_id,
        @size_bytes, @stored_bytes, @scanned_bytes, @read_only, @taken_at)`,
    );
    this.#snapshots = db.prepare<[string], SnapshotRow>(
      `${SELECT_SNAPSHOT} WHERE backup_id IN (SELECT value FROM json_each(?)) ORDER BY backup_id, length(device), device`,
    );
    this.#dropLayers = db.prepare<[string]>(
      'DELETE FROM layers WHERE id IN (SELECT value FROM json_each(?))',
    );
  }

  insert(backup: NewBackup): void {
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
  /** In any state. */
  inDestination(destinationId: string): BackupRow[] {
    return this.#inDestination.all(destinationId);
  }
  /** Complete ones, newest first. */
  ofVm(vmId: string): BackupRow[] {
    return this.#ofVm.all(vmId);
  }
  /** Complete ones of all VMs that had this name or id. */
  ofVmNamed(ref: string): BackupRow[] {
    return this.#ofVmNamed.all({ ref });
  }
  publish({ id, takenAt, kind, parent, consistency }: BackupSummary): void {
    this.#publish.run({ id, takenAt, kind, parent, consistency });
  }
  setState(id: string, state: BackupRow['state']): void {
    this.#setState.run(state, id);
  }
  /** `damage`: what is wrong with it, if anything is. */
  verified(id: string, at: number, damage: string | null): void {
    this.#verified.run(at, damage, id);
  }
  /** `error`: why it did not boot, JSON, if it did not. */
  tested(id: string, at: number, error: string | null): void {
    this.#tested.run(at, error, id);
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
