import { z } from 'zod';
import { Bytes, ListQuery, Name, pageOf, Ref, Timestamp } from './common.ts';

export const Disk = z.object({
  id: z.string(),
  name: Name,
  vm_id: z.string().nullable().meta({ description: 'The VM it is attached to' }),
  device: z
    .string()
    .nullable()
    .meta({ examples: ['ubd0'] }),
  format: z.enum(['raw', 'cow']),
  size_bytes: Bytes.meta({ description: 'As the guest sees it' }),
  allocated_bytes: Bytes.meta({ description: 'On the host, of the private file alone' }),
  read_only: z.boolean(),
  image_id: z.string().nullable().meta({ description: 'The image under a copy-on-write disk' }),
  path: z.string().nullable().meta({ description: "A file of the operator's own; null for the daemon's" }),
  owned_by_vm: z.boolean().meta({ description: 'Deleted with its VM' }),
  created_at: Timestamp,
});
export type Disk = z.infer<typeof Disk>;
export const DiskPage = pageOf(Disk);
export type DiskPage = z.infer<typeof DiskPage>;

export const DISK_SIZE_MIN_BYTES = 512;
export const DISK_SIZE_MAX_BYTES = 16 * 1024 ** 4;

/** An empty disk of `size_bytes`, or a private copy-on-write disk over `image`. */
export const DiskCreate = z
  .strictObject({
    name: Name.optional(),
    size_bytes: z
      .int()
      .min(DISK_SIZE_MIN_BYTES)
      .max(DISK_SIZE_MAX_BYTES)
      .multipleOf(512, 'must be a multiple of 512')
      .optional(),
    image: Ref.optional(),
    read_only: z.boolean().default(false),
  })
  .refine((disk) => (disk.size_bytes === undefined) !== (disk.image === undefined), {
    path: ['size_bytes'],
    message: 'give either size_bytes or image',
  });
export type DiskCreate = z.infer<typeof DiskCreate>;
export type DiskCreateInput = z.input<typeof DiskCreate>;

export const DiskListQuery = ListQuery.extend({ name: z.string().max(63).optional() });
