/** Backups as the database has them and as the API shows them. */
import type { Backup, Snapshot } from '../../contracts/api/index.ts';
import type { BackupSummary } from '../../contracts/backup.ts';
import type { PlainError } from '../../contracts/errors.ts';
import type { BackupRow, SnapshotRow, Store } from '../../db/index.ts';
import { iso, isoOrNull } from '../access.ts';
import { newId } from '../ids.ts';

/** Writes the disks of a backup down, in the running transaction. The lineage knows them as layers without a file of their own. */
export function recordDisks(store: Store, summary: BackupSummary): void {
  for (const disk of summary.disks) {
    const layerId = newId('layer');
    store.disks.insertLayer({
      id: layerId,
      kind: 'backup',
      parent_id: null,
      origin_id: store.disks.get(disk.diskId)?.layer_id ?? null,
      image_id: null,
      path: '',
      size_bytes: disk.sizeBytes,
      created_at: summary.takenAt,
    });
    store.backups.insertSnapshot({
      id: newId('snap'),
      backup_id: summary.id,
      device: disk.device,
      disk_id: disk.diskId,
      layer_id: layerId,
      size_bytes: disk.sizeBytes,
      stored_bytes: disk.storedBytes,
      scanned_bytes: disk.scannedBytes,
      read_only: Number(disk.readOnly),
      taken_at: summary.takenAt,
    });
  }
}

/** Views of rows, with the name of each one's destination. */
export function backupViews(store: Store, rows: readonly BackupRow[]): Backup[] {
  const snapshots = Map.groupBy(
    store.backups.snapshots(rows.map((row) => row.id)),
    (snapshot) => snapshot.backup_id,
  );
  return rows.map((row) => {
    const destination = row.destination_id === null ? undefined : store.destinations.get(row.destination_id);
    return backupView(row, snapshots.get(row.id) ?? [], destination?.name ?? null);
  });
}

function backupView(row: BackupRow, snapshots: readonly SnapshotRow[], destination: string | null): Backup {
  return {
    id: row.id,
    name: row.name,
    vm_id: row.vm_id,
    vm_name: row.vm_name,
    state: row.state,
    destination,
    kind: row.kind,
    parent_id: row.parent_id,
    consistency: row.consistency,
    schedule_id: row.schedule_id,
    image_id: row.image_id,
    memory_bytes: row.memory_bytes,
    snapshots: snapshots.map((snapshot) => snapshotView(snapshot, row)),
    size_bytes: snapshots.reduce((sum, snapshot) => sum + snapshot.stored_bytes, 0),
    taken_at: iso(row.taken_at),
    created_at: iso(row.created_at),
    verified_at: isoOrNull(row.verified_at),
    damage: row.damage,
    tested_at: isoOrNull(row.tested_at),
    // INVARIANT: `Checks` writes it.
    test_error: row.test_error === null ? null : (JSON.parse(row.test_error) as PlainError),
  };
}

function snapshotView(snapshot: SnapshotRow, backup: BackupRow): Snapshot {
  return {
    id: snapshot.id,
    backup_id: snapshot.backup_id,
    device: snapshot.device,
    disk_id: snapshot.disk_id,
    format: backup.destination_id === null ? 'raw' : 'chunks',
    size_bytes: snapshot.size_bytes,
    stored_bytes: snapshot.stored_bytes,
    scanned_bytes: snapshot.scanned_bytes,
    image_id: null,
    taken_at: iso(snapshot.taken_at),
  };
}
