-- Limits of a disk (contracts/api/disk.ts, DiskLimits) and what its failed requests do.
ALTER TABLE disks ADD COLUMN limits TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(limits));
ALTER TABLE disks ADD COLUMN on_error TEXT NOT NULL DEFAULT 'report' CHECK (on_error IN ('report', 'pause'));
