-- What the daemon knows. Times are Unix milliseconds; `seq` is the order of creation, which lists follow.

CREATE TABLE images (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT UNIQUE,
  files TEXT NOT NULL CHECK (json_valid(files)),
  append TEXT NOT NULL,
  -- As uname -r and uname -v say it; NULL when the kernel file does not tell.
  kernel_release TEXT,
  kernel_version TEXT,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE networks (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  subnet TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE vms (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('created', 'starting', 'running', 'stopped', 'halting', 'halted', 'failed')),
  cause TEXT CHECK (json_valid(cause)),
  -- Started and not ended since by its user or its guest: boots again with the daemon.
  want_running INTEGER NOT NULL DEFAULT 0 CHECK (want_running IN (0, 1)),
  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE RESTRICT,
  memory_bytes INTEGER NOT NULL,
  append TEXT NOT NULL,
  autostart TEXT NOT NULL CHECK (autostart IN ('last-state', 'always', 'never')),
  debug_exit_port INTEGER,
  labels TEXT NOT NULL CHECK (json_valid(labels)),
  version INTEGER NOT NULL DEFAULT 1,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  started_at INTEGER,
  UNIQUE (tenant, name)
) STRICT;
CREATE INDEX vms_image ON vms (image_id);

CREATE TABLE nics (
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  mac TEXT NOT NULL UNIQUE,
  network_id TEXT NOT NULL REFERENCES networks (id) ON DELETE RESTRICT,
  PRIMARY KEY (vm_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX nics_network ON nics (network_id);

-- Lineage. A layer is one file with disk content; a COW layer's parent is the read-only layer under it,
-- which cannot be deleted before its children. A copy remembers what it was copied from.
CREATE TABLE layers (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('image', 'cow', 'raw', 'backup', 'external')),
  parent_id TEXT REFERENCES layers (id) ON DELETE RESTRICT,
  origin_id TEXT REFERENCES layers (id) ON DELETE SET NULL,
  image_id TEXT REFERENCES images (id) ON DELETE CASCADE,
  -- Below the state folder; absolute for an operator's own file; empty for an image's (the image store knows).
  path TEXT NOT NULL,
  size_bytes INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  CHECK ((kind = 'image') = (image_id IS NOT NULL)),
  CHECK (kind <> 'cow' OR parent_id IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX layers_parent ON layers (parent_id);
CREATE INDEX layers_origin ON layers (origin_id);
CREATE UNIQUE INDEX layers_image ON layers (image_id) WHERE image_id IS NOT NULL;

CREATE TABLE disks (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  layer_id TEXT NOT NULL UNIQUE REFERENCES layers (id) ON DELETE RESTRICT,
  vm_id TEXT REFERENCES vms (id) ON DELETE RESTRICT,
  device TEXT,
  read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
  owned_by_vm INTEGER NOT NULL CHECK (owned_by_vm IN (0, 1)),
  created_at INTEGER NOT NULL,
  UNIQUE (tenant, name),
  UNIQUE (vm_id, device),
  CHECK ((vm_id IS NULL) = (device IS NULL))
) STRICT;

-- A backup and its snapshots exist for others only once its state is not 'creating'.
CREATE TABLE backups (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('creating', 'available', 'restoring', 'deleting')),
  vm_id TEXT NOT NULL,
  vm_name TEXT NOT NULL,
  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE RESTRICT,
  memory_bytes INTEGER NOT NULL,
  append TEXT NOT NULL,
  -- The rest of what a restore needs: networks of the NICs, exit port.
  config TEXT NOT NULL CHECK (json_valid(config)),
  keep INTEGER,
  taken_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (tenant, name)
) STRICT;
CREATE INDEX backups_vm ON backups (vm_id, seq);
CREATE INDEX backups_image ON backups (image_id);

CREATE TABLE snapshots (
  id TEXT PRIMARY KEY,
  backup_id TEXT NOT NULL REFERENCES backups (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  disk_id TEXT REFERENCES disks (id) ON DELETE SET NULL,
  layer_id TEXT NOT NULL UNIQUE REFERENCES layers (id) ON DELETE RESTRICT,
  size_bytes INTEGER NOT NULL,
  stored_bytes INTEGER NOT NULL,
  read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
  taken_at INTEGER NOT NULL,
  UNIQUE (backup_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX snapshots_disk ON snapshots (disk_id);

CREATE TABLE operations (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  kind TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'canceled')),
  progress TEXT CHECK (json_valid(progress)),
  error TEXT CHECK (json_valid(error)),
  may_cancel INTEGER NOT NULL CHECK (may_cancel IN (0, 1)),
  -- The scheduler carries it out (the job has the operation's id) and goes on after a restart.
  is_job INTEGER NOT NULL CHECK (is_job IN (0, 1)),
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  ended_at INTEGER
) STRICT;
CREATE INDEX operations_open ON operations (status) WHERE ended_at IS NULL;
CREATE INDEX operations_ended ON operations (ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE operation_resources (
  operation_id TEXT NOT NULL REFERENCES operations (id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  type TEXT NOT NULL,
  resource_id TEXT NOT NULL,
  PRIMARY KEY (operation_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX operation_resources_resource ON operation_resources (resource_id);

-- AUTOINCREMENT: a number is never used twice, even when the newest events have been deleted.
CREATE TABLE events (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  time INTEGER NOT NULL,
  -- NULL: the operator's alone.
  tenant TEXT,
  type TEXT NOT NULL,
  resource_type TEXT,
  resource_id TEXT,
  data TEXT NOT NULL CHECK (json_valid(data))
) STRICT;

CREATE TABLE tokens (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL UNIQUE,
  role TEXT NOT NULL CHECK (role IN ('admin', 'user', 'viewer')),
  tenant TEXT NOT NULL,
  -- SHA-256 of the secret, which is 256 random bits.
  hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
  token_id TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  -- SHA-256 of method, URL and body.
  fingerprint BLOB NOT NULL,
  -- The first answer; NULL while it is being made.
  status INTEGER,
  headers TEXT,
  body TEXT,
  created_at INTEGER NOT NULL,
  PRIMARY KEY (token_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
