-- Of UML's flags of a disk that is attached: s (every write is durable before it is done), t (no discards).
ALTER TABLE disks ADD COLUMN ubd_flags TEXT NOT NULL DEFAULT '';
