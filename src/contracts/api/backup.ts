import { z } from 'zod';
import { CONSISTENCIES } from '../backup.ts';
import { Bytes, ErrorBody, Labels, ListQuery, Name, pageOf, Ref, Timestamp } from './common.ts';
import { Autostart } from './vm.ts';

export const Snapshot = z.object({
  id: z.string(),
  backup_id: z.string(),
  device: z.string().meta({ examples: ['ubd0'] }),
  disk_id: z.string().nullable().meta({ description: 'The disk it was taken of, while that exists' }),
  format: z
    .enum(['raw', 'cow', 'chunks'])
    .meta({ description: 'chunks: in a store; raw: a flat copy, as version 0.1 made them' }),
  size_bytes: Bytes.meta({ description: 'As the guest sees it' }),
  stored_bytes: Bytes.meta({ description: 'What it added to the store, or the space of the flat copy' }),
  scanned_bytes: Bytes.meta({ description: 'What was read of the disk to make it' }),
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
  destination: z.string().nullable().meta({ description: 'Where it is; null for flat copies' }),
  kind: z
    .enum(['full', 'incremental'])
    .meta({ description: 'Whether all of the disks was read or what had changed' }),
  parent_id: z
    .string()
    .nullable()
    .meta({ description: 'What it went on from; it does not need that any more' }),
  consistency: z.enum(CONSISTENCIES).nullable().meta({
    description:
      'guest-agent: file systems were frozen; synced: the kernel had written out; crash: as after a power cut; off: it was off',
  }),
  schedule_id: z.string().nullable(),
  image_id: z.string(),
  memory_bytes: Bytes,
  snapshots: z.array(Snapshot),
  size_bytes: Bytes,
  taken_at: Timestamp,
  created_at: Timestamp,
  verified_at: Timestamp.nullable().meta({ description: 'When all of it was last read and checked' }),
  damage: z.string().nullable().meta({ description: 'What was found wrong then' }),
  tested_at: Timestamp.nullable().meta({ description: 'When a clone of it was last booted' }),
  test_error: ErrorBody.nullable().meta({ description: 'Why that clone did not come to its login prompt' }),
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
  destination: Ref.default('local'),
  full: z.boolean().default(false).meta({ description: 'Read all of the disks, whatever has changed' }),
  quiesce: z
    .boolean()
    .default(true)
    .meta({ description: "Freeze the guest's file systems for the moment, or have them written out" }),
});
export type BackupCreate = z.infer<typeof BackupCreate>;
export type BackupCreateInput = z.input<typeof BackupCreate>;

export const BackupRestore = z.strictObject({
  name: Name.optional().meta({ description: 'Of the new VM; made up when missing' }),
  memory_bytes: z.int().multipleOf(4096).optional(),
  autostart: Autostart.optional(),
  labels: Labels.optional(),
  over: z
    .boolean()
    .default(false)
    .meta({ description: 'In place of the disks of the VM it was taken of, which must be off' }),
  full_copy: z.boolean().default(false).meta({
    description:
      'Disks that need no image. Otherwise those that were over an image have only what differs from it, if it is still there',
  }),
  image: Ref.optional().meta({
    description: 'Whose kernel the new VM boots; that of the VM it was taken of when missing',
  }),
  start: z.boolean().default(false),
});
export type BackupRestore = z.infer<typeof BackupRestore>;
export type BackupRestoreInput = z.input<typeof BackupRestore>;

export const BackupTest = z.strictObject({
  image: Ref.optional().meta({
    description: 'Whose kernel the throwaway VM boots; that of the VM it was taken of when missing',
  }),
});
export type BackupTest = z.infer<typeof BackupTest>;

export const BackupListQuery = ListQuery.extend({ vm: Ref.optional() });

/** How many backups to keep: the newest, and the newest of each hour, day, week (from Monday), month and year that has one. */
export const KeepPolicy = z
  .strictObject({
    last: z.int().min(0).max(10_000).optional(),
    hourly: z.int().min(0).max(10_000).optional(),
    daily: z.int().min(0).max(10_000).optional(),
    weekly: z.int().min(0).max(10_000).optional(),
    monthly: z.int().min(0).max(10_000).optional(),
    yearly: z.int().min(0).max(10_000).optional(),
  })
  .refine((policy) => Object.values(policy).some((count) => (count ?? 0) > 0), 'keep at least one');
export type KeepPolicy = z.infer<typeof KeepPolicy>;

export const BackupPrune = z.strictObject({
  keep: KeepPolicy,
  time_zone: z.string().max(64).default('UTC'),
  dry_run: z.boolean().default(false).meta({ description: 'Only say what would be kept and why' }),
});
export type BackupPrune = z.infer<typeof BackupPrune>;
export type BackupPruneInput = z.input<typeof BackupPrune>;

export const PruneDecision = z.object({
  backup_id: z.string(),
  name: z.string(),
  taken_at: Timestamp,
  keep: z.boolean(),
  reasons: z
    .array(z.string())
    .meta({ description: 'Why it is kept', examples: [['last 1', 'daily 2026-03-01']] }),
});
export type PruneDecision = z.infer<typeof PruneDecision>;
export const PruneResult = z.object({ dry_run: z.boolean(), backups: z.array(PruneDecision) });
export type PruneResult = z.infer<typeof PruneResult>;

/** A partition of one of the disks of a backup, or a disk without a partition table. */
export const BackupFileSystem = z.object({
  disk: z.string().meta({ examples: ['ubd0'] }),
  partition: z.int().nullable().meta({ description: 'Null: the whole disk' }),
  offset: Bytes.meta({ description: 'Where it begins on the disk' }),
  size_bytes: Bytes,
  type: z.enum(['ext2', 'ext3', 'ext4']).nullable().meta({ description: 'Null: none that can be read' }),
  label: z.string().nullable(),
  uuid: z.string().nullable(),
  problem: z.string().nullable().meta({ description: 'Why it cannot be read' }),
});
export type BackupFileSystem = z.infer<typeof BackupFileSystem>;
export const BackupFileSystems = z.object({ items: z.array(BackupFileSystem) });

export const BackupFile = z.object({
  name: z.string().meta({ description: 'What is no UTF-8 in it is U+FFFD' }),
  type: z.enum(['file', 'directory', 'symlink', 'fifo', 'socket', 'character-device', 'block-device']),
  mode: z.string().meta({ description: 'Permissions in octal', examples: ['0644'] }),
  uid: z.int(),
  gid: z.int(),
  size_bytes: Bytes,
  modified_at: Timestamp,
  target: z.string().nullable().meta({ description: 'Where a symbolic link leads' }),
});
export type BackupFile = z.infer<typeof BackupFile>;
export const BackupFilePage = pageOf(BackupFile).extend({
  disk: z.string(),
  partition: z.int().nullable(),
});
export type BackupFilePage = z.infer<typeof BackupFilePage>;

const FilePath = z
  .string()
  .max(4096)
  .meta({
    description: 'In the file system; symbolic links are followed within it',
    examples: ['/etc/fstab'],
  });
const OnDisk = {
  disk: z
    .string()
    .max(16)
    .optional()
    .meta({ description: 'The first that has a file system when missing', examples: ['ubd0'] }),
  partition: z.coerce
    .number()
    .int()
    .min(0)
    .max(1024)
    .optional()
    .meta({ description: 'The one with the largest file system when missing; 0 for the whole disk' }),
};
export const BackupFileQuery = z.strictObject({ path: FilePath.min(1), ...OnDisk });
export type BackupFileQuery = z.infer<typeof BackupFileQuery>;
export const BackupFilesQuery = ListQuery.extend({ path: FilePath.default('/'), ...OnDisk });
export type BackupFilesQuery = z.infer<typeof BackupFilesQuery>;

export const BackupDestination = z.object({
  id: z.string(),
  name: Name,
  kind: z.enum(['directory', 'rclone']),
  location: z.string(),
  backups: z.int().min(0),
  created_at: Timestamp,
});
export type BackupDestination = z.infer<typeof BackupDestination>;
export const BackupDestinationPage = pageOf(BackupDestination);

/** A folder of the host that the operator allows, or a path of a remote that rclone knows. */
export const BackupDestinationCreate = z.discriminatedUnion('kind', [
  z.strictObject({ name: Name, kind: z.literal('directory'), location: z.string().min(1).max(4096) }),
  z.strictObject({
    name: Name,
    kind: z.literal('rclone'),
    location: z
      .string()
      .max(4096)
      .regex(
        /^[A-Za-z0-9_][A-Za-z0-9_. +@-]*:/,
        'write it as REMOTE:PATH, with a remote of `rclone listremotes`',
      ),
    take_over: z.boolean().default(false).meta({
      description:
        'Also from another daemon, which must be gone for good: if it still runs, backups are destroyed',
    }),
  }),
]);
export type BackupDestinationCreate = z.infer<typeof BackupDestinationCreate>;
export type BackupDestinationCreateInput = z.input<typeof BackupDestinationCreate>;

const Cron = z
  .string()
  .max(200)
  .meta({ description: 'Minute, hour, day, month, weekday', examples: ['30 2 * * *'] });
const TimeZone = z
  .string()
  .max(64)
  .meta({ description: 'IANA name', examples: ['Europe/Vienna'] });
const Jitter = z
  .int()
  .min(0)
  .max(86_400)
  .meta({ description: 'Each run is put off by up to so many seconds' });

export const BackupSchedule = z.object({
  id: z.string(),
  name: Name,
  vm_id: z.string(),
  destination: z.string(),
  cron: Cron,
  time_zone: TimeZone,
  jitter_seconds: Jitter,
  quiesce: z.boolean(),
  keep: KeepPolicy.nullable(),
  enabled: z.boolean(),
  next_at: Timestamp.nullable(),
  last_at: Timestamp.nullable(),
  last_operation_id: z.string().nullable(),
  created_at: Timestamp,
});
export type BackupSchedule = z.infer<typeof BackupSchedule>;
export const BackupSchedulePage = pageOf(BackupSchedule);

export const BackupScheduleCreate = z.strictObject({
  name: Name.optional(),
  cron: Cron,
  time_zone: TimeZone.default('UTC'),
  jitter_seconds: Jitter.default(0),
  destination: Ref.default('local'),
  quiesce: z.boolean().default(true),
  keep: KeepPolicy.nullable().default(null),
  enabled: z.boolean().default(true),
});
export type BackupScheduleCreate = z.infer<typeof BackupScheduleCreate>;
export type BackupScheduleCreateInput = z.input<typeof BackupScheduleCreate>;

export const BackupScheduleUpdate = z.strictObject({
  cron: Cron.optional(),
  time_zone: TimeZone.optional(),
  jitter_seconds: Jitter.optional(),
  destination: Ref.optional(),
  quiesce: z.boolean().optional(),
  keep: KeepPolicy.nullable().optional(),
  enabled: z.boolean().optional(),
});
export type BackupScheduleUpdate = z.infer<typeof BackupScheduleUpdate>;
export const BackupScheduleListQuery = ListQuery.extend({ vm: Ref.optional() });
