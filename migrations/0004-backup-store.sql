-- Backups are in stores of deduplicated chunks; those of before are flat copies of the disks, in backups/ID.

CREATE TABLE backup_destinations (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL CHECK (kind IN ('directory', 'rclone')),
  -- A folder, empty for the one in the state folder; or a path of an rclone remote.
  location TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;
INSERT INTO backup_destinations (id, name, kind, location, created_at)
  VALUES ('dst-local', 'local', 'directory', '', unixepoch() * 1000);

CREATE TABLE backup_schedules (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  destination_id TEXT NOT NULL REFERENCES backup_destinations (id) ON DELETE RESTRICT,
  cron TEXT NOT NULL,
  time_zone TEXT NOT NULL,
  jitter_seconds INTEGER NOT NULL,
  quiesce INTEGER NOT NULL CHECK (quiesce IN (0, 1)),
  -- What is kept of its backups; NULL: all.
  keep TEXT CHECK (json_valid(keep)),
  enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
  -- When it is due, jitter included; NULL: never.
  next_at INTEGER,
  last_at INTEGER,
  last_operation_id TEXT,
  created_at INTEGER NOT NULL,
  UNIQUE (vm_id, name)
) STRICT;
CREATE INDEX backup_schedules_due ON backup_schedules (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE backups_0004 (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('creating', 'available', 'restoring', 'deleting')),
  -- NULL: flat copies of the disks.
  destination_id TEXT REFERENCES backup_destinations (id) ON DELETE RESTRICT,
  kind TEXT NOT NULL CHECK (kind IN ('full', 'incremental')),
  parent_id TEXT,
  -- NULL: nobody wrote it down.
  consistency TEXT CHECK (consistency IN ('guest-agent', 'synced', 'crash', 'off')),
  schedule_id TEXT,
  vm_id TEXT NOT NULL,
  vm_name TEXT NOT NULL,
  -- May be gone: a backup that was found in a store need not have its image here.
  image_id TEXT NOT NULL,
  memory_bytes INTEGER NOT NULL,
  append TEXT NOT NULL,
  config TEXT NOT NULL CHECK (json_valid(config)),
  keep INTEGER,
  taken_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  -- When all of it was last read and checked, and what was found (NULL: nothing wrong).
  verified_at INTEGER,
  damage TEXT,
  -- When a clone of it last booted to its login prompt or did not, and why (NULL: it did).
  tested_at INTEGER,
  test_error TEXT CHECK (json_valid(test_error)),
  UNIQUE (tenant, name)
) STRICT;
INSERT INTO backups_0004 (seq, id, tenant, name, state, kind, vm_id, vm_name, image_id, memory_bytes, append, config, keep,
    taken_at, created_at)
  SELECT seq, id, tenant, name, state, 'full', vm_id, vm_name, image_id, memory_bytes, append, config, keep, taken_at, created_at
  FROM backups;

CREATE TABLE snapshots_0004 (
  id TEXT PRIMARY KEY,
  backup_id TEXT NOT NULL REFERENCES backups_0004 (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  disk_id TEXT REFERENCES disks (id) ON DELETE SET NULL,
  layer_id TEXT NOT NULL UNIQUE REFERENCES layers (id) ON DELETE RESTRICT,
  size_bytes INTEGER NOT NULL,
  -- Of the flat copy, or what the backup added to its store.
  stored_bytes INTEGER NOT NULL,
  -- What was read of the disk to make it.
  scanned_bytes INTEGER NOT NULL,
  read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
  taken_at INTEGER NOT NULL,
  UNIQUE (backup_id, device)
) STRICT, WITHOUT ROWID;
INSERT INTO snapshots_0004
  SELECT id, backup_id, device, disk_id, layer_id, size_bytes, stored_bytes, size_bytes, read_only, taken_at FROM snapshots;

DROP TABLE snapshots;
DROP TABLE backups;
ALTER TABLE backups_0004 RENAME TO backups;
ALTER TABLE snapshots_0004 RENAME TO snapshots;
CREATE INDEX backups_vm ON backups (vm_id, seq);
CREATE INDEX backups_image ON backups (image_id);
CREATE INDEX backups_destination ON backups (destination_id);
CREATE INDEX backups_schedule ON backups (schedule_id);
CREATE INDEX snapshots_disk ON snapshots (disk_id);
