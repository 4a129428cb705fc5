-- State of the file systems at the moment of a snapshot, as of backups; NULL: nobody wrote it down.
ALTER TABLE vm_snapshots ADD COLUMN consistency TEXT CHECK (consistency IN ('guest-agent', 'synced', 'crash', 'off'));
