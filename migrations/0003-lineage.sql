-- Snapshots of VMs. Layers that others are over are frozen: nobody writes to them, and they are not removed.

ALTER TABLE layers ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1));
-- sealing: what was written before it was frozen is being made durable. merging: it takes in its only child.
ALTER TABLE layers ADD COLUMN state TEXT NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'sealing', 'merging'));
-- Of a frozen layer's file, Unix seconds, as the layers over it have it in their headers; NULL: not known to us.
ALTER TABLE layers ADD COLUMN mtime INTEGER;
-- Of a merge: so much of its child has been taken in, and is durable.
ALTER TABLE layers ADD COLUMN merged_bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX layers_state ON layers (state) WHERE state <> 'ready';

UPDATE layers SET frozen = 1
  WHERE kind IN ('image', 'backup') OR id IN (SELECT parent_id FROM layers WHERE parent_id IS NOT NULL);

CREATE TABLE vm_snapshots (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  vm_id TEXT NOT NULL REFERENCES vms (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('creating', 'available', 'deleting')),
  -- Whether the VM ran at that moment.
  running INTEGER NOT NULL CHECK (running IN (0, 1)),
  image_id TEXT NOT NULL REFERENCES images (id) ON DELETE RESTRICT,
  memory_bytes INTEGER NOT NULL,
  append TEXT NOT NULL,
  -- The rest of what a clone needs: networks of the NICs, exit port.
  config TEXT NOT NULL CHECK (json_valid(config)),
  taken_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (vm_id, name)
) STRICT;
CREATE INDEX vm_snapshots_image ON vm_snapshots (image_id);

CREATE TABLE vm_snapshot_disks (
  snapshot_id TEXT NOT NULL REFERENCES vm_snapshots (id) ON DELETE CASCADE,
  device TEXT NOT NULL,
  disk_id TEXT REFERENCES disks (id) ON DELETE SET NULL,
  -- Goes only with a snapshot that is being deleted: the trigger below.
  layer_id TEXT NOT NULL REFERENCES layers (id) ON DELETE CASCADE,
  read_only INTEGER NOT NULL CHECK (read_only IN (0, 1)),
  PRIMARY KEY (snapshot_id, device)
) STRICT, WITHOUT ROWID;
CREATE INDEX vm_snapshot_disks_layer ON vm_snapshot_disks (layer_id);
CREATE INDEX vm_snapshot_disks_disk ON vm_snapshot_disks (disk_id);

CREATE TRIGGER layers_kept BEFORE DELETE ON layers
WHEN EXISTS (
  SELECT 1 FROM vm_snapshot_disks AS d JOIN vm_snapshots AS s ON s.id = d.snapshot_id
    WHERE d.layer_id = OLD.id AND s.state <> 'deleting'
)
BEGIN SELECT RAISE(ABORT, 'the layer belongs to a snapshot'); END;

CREATE TRIGGER layers_over_frozen BEFORE INSERT ON layers
WHEN NEW.parent_id IS NOT NULL AND (SELECT frozen FROM layers WHERE id = NEW.parent_id) = 0
BEGIN SELECT RAISE(ABORT, 'the layer below can still be written to'); END;

CREATE TRIGGER layers_moved_over_frozen BEFORE UPDATE OF parent_id ON layers
WHEN NEW.parent_id IS NOT NULL AND (SELECT frozen FROM layers WHERE id = NEW.parent_id) = 0
BEGIN SELECT RAISE(ABORT, 'the layer below can still be written to'); END;

CREATE TRIGGER layers_stay_frozen BEFORE UPDATE OF frozen ON layers
WHEN NEW.frozen = 0 AND OLD.frozen = 1 AND OLD.state <> 'sealing'
BEGIN SELECT RAISE(ABORT, 'a layer that is frozen and sealed stays so'); END;

CREATE TRIGGER disks_on_writable BEFORE INSERT ON disks
WHEN (SELECT frozen FROM layers WHERE id = NEW.layer_id) = 1
BEGIN SELECT RAISE(ABORT, 'a disk cannot write to a frozen layer'); END;

CREATE TRIGGER disks_moved_on_writable BEFORE UPDATE OF layer_id ON disks
WHEN (SELECT frozen FROM layers WHERE id = NEW.layer_id) = 1
BEGIN SELECT RAISE(ABORT, 'a disk cannot write to a frozen layer'); END;
