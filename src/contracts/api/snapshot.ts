import { z } from 'zod';
import { CONSISTENCIES } from '../backup.ts';
import { Bytes, Labels, ListQuery, Name, pageOf, Timestamp } from './common.ts';
import { Autostart } from './vm.ts';

/** So many layers a disk may have over each other. */
export const LAYERS_MAX = 64;

export const SnapshotDisk = z.object({
  device: z.string().meta({ examples: ['ubd0'] }),
  disk_id: z.string().nullable().meta({ description: 'The disk it was taken of, while that exists' }),
  layer_id: z.string(),
  size_bytes: Bytes.meta({ description: 'As the guest sees it' }),
  stored_bytes: Bytes.meta({ description: "Space of the layer's own file on the host" }),
});
export type SnapshotDisk = z.infer<typeof SnapshotDisk>;

/** All disks of a VM as they were at one moment, beside the VM: no copy, and no backup. */
export const VmSnapshot = z.object({
  id: z.string(),
  name: Name,
  vm_id: z.string(),
  vm_name: z.string(),
  state: z.enum(['available', 'deleting']),
  running: z.boolean().meta({ description: 'The VM ran: its file systems were in use' }),
  consistency: z.enum(CONSISTENCIES).nullable().meta({
    description:
      'guest-agent: file systems were frozen; synced: the kernel had written out; crash: as after a power cut; off: it was off; null: nobody wrote it down',
  }),
  image_id: z.string(),
  memory_bytes: Bytes,
  disks: z.array(SnapshotDisk),
  taken_at: Timestamp,
});
export type VmSnapshot = z.infer<typeof VmSnapshot>;
export const VmSnapshotPage = pageOf(VmSnapshot);
export type VmSnapshotPage = z.infer<typeof VmSnapshotPage>;

export const SnapshotCreate = z.strictObject({
  name: Name.optional().meta({
    description: "Unlike those of the VM's other snapshots; made up when missing",
  }),
  quiesce: z.boolean().default(false).meta({
    description:
      "Freeze the guest's file systems for the moment, or have them written out: it may take as long as the guest has to write",
  }),
});
export type SnapshotCreate = z.infer<typeof SnapshotCreate>;
export type SnapshotCreateInput = z.input<typeof SnapshotCreate>;

export const SnapshotListQuery = ListQuery;

/** Of a merge in the background. */
export const MergeRate = z.coerce
  .number()
  .int()
  .min(64 * 1024)
  .optional()
  .meta({ description: 'Bytes per second that merging its layers may take; 100 MiB when missing' });
export const SnapshotDeleteQuery = z.strictObject({ bytes_per_second: MergeRate });

export const SnapshotRollback = z.strictObject({
  force: z
    .boolean()
    .default(false)
    .meta({ description: 'Halt a VM that runs, and start it again afterwards' }),
});
export type SnapshotRollback = z.infer<typeof SnapshotRollback>;
export type SnapshotRollbackInput = z.input<typeof SnapshotRollback>;

export const SnapshotClone = z.strictObject({
  name: Name.optional().meta({ description: 'Of the new VM; made up when missing' }),
  memory_bytes: z.int().multipleOf(4096).optional(),
  autostart: Autostart.optional(),
  labels: Labels.optional(),
  start: z.boolean().default(false),
});
export type SnapshotClone = z.infer<typeof SnapshotClone>;
export type SnapshotCloneInput = z.input<typeof SnapshotClone>;
