import { z } from 'zod';
import { Bytes, Labels, ListQuery, Name, pageOf, Ref, Timestamp } from './common.ts';
import { Autostart } from './vm.ts';

export const Snapshot = z.object({
  id: z.string(),
  backup_id: z.string(),
  device: z.string().meta({ examples: ['ubd0'] }),
  disk_id: z.string().nullable().meta({ description: 'The disk it was taken of, while that exists' }),
  format: z.enum(['raw', 'cow']),
  size_bytes: Bytes.meta({ description: 'As the guest sees it' }),
  stored_bytes: Bytes.meta({ description: "Space of the snapshot's file on the host" }),
  image_id: z.string().nullable(),
  taken_at: Timestamp,
});
/** One disk at the moment of a backup. */
export type Snapshot = z.infer<typeof Snapshot>;

/** All disks of a VM at one moment. Only complete backups are listed. */
export const Backup = z.object({
  id: z.string(),
  name: Name,
  vm_id: z.string().meta({ description: 'The VM it was taken of; it may be gone' }),
  vm_name: z.string(),
  state: z.enum(['creating', 'available', 'restoring', 'deleting']),
  image_id: z.string(),
  memory_bytes: Bytes,
  snapshots: z.array(Snapshot),
  size_bytes: Bytes,
  taken_at: Timestamp,
  created_at: Timestamp,
});
export type Backup = z.infer<typeof Backup>;
export const BackupPage = pageOf(Backup);
export type BackupPage = z.infer<typeof BackupPage>;

export const BackupCreate = z.strictObject({
  name: Name.optional(),
  keep: z
    .int()
    .min(1)
    .max(10_000)
    .optional()
    .meta({ description: "Afterwards keep only so many of this VM's newest backups" }),
});
export type BackupCreate = z.infer<typeof BackupCreate>;

export const BackupRestore = z.strictObject({
  name: Name.optional().meta({ description: 'Of the new VM; made up when missing' }),
  memory_bytes: z.int().multipleOf(4096).optional(),
  autostart: Autostart.optional(),
  labels: Labels.optional(),
  start: z.boolean().default(false),
});
export type BackupRestore = z.infer<typeof BackupRestore>;

export const BackupListQuery = ListQuery.extend({ vm: Ref.optional() });
