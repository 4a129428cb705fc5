import type { Sqlite } from './database.ts';
import type { PageQuery, SnapshotDiskRow, VmSnapshotRow } from './rows.ts';
import { definedOf } from './vms.ts';

const SELECT =
  'SELECT vm_snapshots.*, vms.name AS vm_name FROM vm_snapshots JOIN vms ON vms.id = vm_snapshots.vm_id';

/** Snapshots of VMs, and the layers that have their disks' content. */
export class SnapshotTable {
  readonly #insert;
  readonly #insertDisk;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #inState;
  readonly #setState;
  readonly #remove;
  readonly #disks;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<VmSnapshotRow, 'seq' | 'vm_name'>]>(
      `INSERT INTO vm_snapshots (id, tenant, vm_id, name, state, running, image_id, memory_bytes, append, config,
        taken_at, created_at, consistency) VALUES (@id, @tenant, @vm_id, @name, @state, @running, @image_id,
        @memory_bytes, @append, @config, @taken_at, @created_at, @consistency)`,
    );
    this.#insertDisk = db.prepare<[SnapshotDiskRow]>(
      'INSERT INTO vm_snapshot_disks VALUES (@snapshot_id, @device, @disk_id, @layer_id, @read_only)',
    );
    this.#get = db.prepare<[string], VmSnapshotRow>(`${SELECT} WHERE vm_snapshots.id = ?`);
    this.#byName = db.prepare<[string, string], VmSnapshotRow>(
      `${SELECT} WHERE vm_snapshots.vm_id = ? AND vm_snapshots.name = ?`,
    );
    this.#page = db.prepare<[object], VmSnapshotRow>(
      `${SELECT} WHERE vm_snapshots.seq > @after AND vm_snapshots.state <> 'creating'
        AND (@tenant IS NULL OR vm_snapshots.tenant = @tenant) AND vm_snapshots.vm_id = @vm
        ORDER BY vm_snapshots.seq LIMIT @limit`,
    );
    this.#inState = db.prepare<[string], VmSnapshotRow>(
      `${SELECT} WHERE vm_snapshots.state = ? ORDER BY vm_snapshots.seq`,
    );
    this.#setState = db.prepare<[string, number, string | null, string]>(
      'UPDATE vm_snapshots SET state = ?, taken_at = ?, consistency = ? WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM vm_snapshots WHERE id = ?');
    this.#disks = db.prepare<[string], SnapshotDiskRow>(
      `SELECT * FROM vm_snapshot_disks WHERE snapshot_id IN (SELECT value FROM json_each(?))
        ORDER BY snapshot_id, length(device), device`,
    );
  }

  insert(snapshot: Omit<VmSnapshotRow, 'seq' | 'vm_name'>, disks: readonly SnapshotDiskRow[]): void {
    this.#insert.run(snapshot);
    for (const disk of disks) this.#insertDisk.run(disk);
  }
  get(id: string): VmSnapshotRow | undefined {
    return this.#get.get(id);
  }
  byName(vmId: string, name: string): VmSnapshotRow | undefined {
    return this.#byName.get(vmId, name);
  }
  /** Of one VM, without those that are being made. */
  page(query: PageQuery, vmId: string): VmSnapshotRow[] {
    return this.#page.all({ tenant: null, ...definedOf(query), vm: vmId });
  }
  inState(state: VmSnapshotRow['state']): VmSnapshotRow[] {
    return this.#inState.all(state);
  }
  setState(
    { id, taken_at, consistency }: Pick<VmSnapshotRow, 'id' | 'taken_at' | 'consistency'>,
    state: VmSnapshotRow['state'],
  ): void {
    this.#setState.run(state, taken_at, consistency, id);
  }
  /** The layers stay. */
  remove(id: string): void {
    this.#remove.run(id);
  }
  /** Of several snapshots, in the order of their devices. */
  disks(ids: readonly string[]): SnapshotDiskRow[] {
    return this.#disks.all(JSON.stringify(ids));
  }
}
