import { z } from 'zod';
import { Bytes, ListQuery, Name, pageOf, Ref, Timestamp } from './common.ts';

const RATE_MAX = 1e12;
const limit = (description: string) =>
  z
    .int()
    .min(1)
    .max(RATE_MAX)
    .nullable()
    .meta({ description: `${description}; null: no limit` });

/** Reads, writes and discards together. A burst is what may come at once after a rest; a tenth of a second's worth when null. */
export const DiskLimits = z.object({
  iops: limit('Requests per second'),
  iops_burst: limit('Requests'),
  bytes_per_second: limit('Bytes per second that are read and written'),
  bytes_burst: limit('Bytes'),
});
export type DiskLimits = z.infer<typeof DiskLimits>;
/** What is missing stays as it is. */
export const DiskLimitsChange = z.strictObject(DiskLimits.shape).partial();
export type DiskLimitsChange = z.infer<typeof DiskLimitsChange>;

export const DiskErrorPolicy = z.enum(['report', 'pause']).meta({
  description:
    'A failed request of the host (no space, an I/O error) is an I/O error in the guest, or stops the VM until it is let go on, when it is tried again',
});
export type DiskErrorPolicy = z.infer<typeof DiskErrorPolicy>;

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
  limits: DiskLimits,
  on_error: DiskErrorPolicy,
  created_at: Timestamp,
});
export type Disk = z.infer<typeof Disk>;
export const DiskPage = pageOf(Disk);
export type DiskPage = z.infer<typeof DiskPage>;

export const DISK_SIZE_MIN_BYTES = 512;
export const DISK_SIZE_MAX_BYTES = 16 * 1024 ** 4;

/** Also of a running VM, which follows at once. */
export const DiskSettings = z.strictObject({
  limits: DiskLimitsChange.optional(),
  on_error: DiskErrorPolicy.optional(),
});
export type DiskSettings = z.infer<typeof DiskSettings>;

const DiskSize = z
  .int()
  .min(DISK_SIZE_MIN_BYTES)
  .max(DISK_SIZE_MAX_BYTES)
  .multipleOf(512, 'must be a multiple of 512');

/** Of a disk that is no copy-on-write file, and only to a larger size; also of a running VM, whose guest is told. */
export const DiskResize = z.strictObject({ size_bytes: DiskSize });
export type DiskResize = z.infer<typeof DiskResize>;

/** An empty disk of `size_bytes`, or a private copy-on-write disk over `image`. */
export const DiskCreate = z
  .strictObject({
    name: Name.optional(),
    size_bytes: DiskSize.optional(),
    image: Ref.optional(),
    read_only: z.boolean().default(false),
    ...DiskSettings.shape,
  })
  .refine((disk) => (disk.size_bytes === undefined) !== (disk.image === undefined), {
    path: ['size_bytes'],
    message: 'give either size_bytes or image',
  });
export type DiskCreate = z.infer<typeof DiskCreate>;
export type DiskCreateInput = z.input<typeof DiskCreate>;

export const DiskListQuery = ListQuery.extend({ name: z.string().max(63).optional() });

export const DiskRebase = z.strictObject({
  image: Ref.meta({ description: 'At least as large as the disk' }),
});
export type DiskRebase = z.infer<typeof DiskRebase>;

/** What a disk is written as; the file is then at `/v1/operations/{operation}/file` for a day. */
export const DiskExport = z
  .strictObject({
    format: z.enum(['qcow2', 'raw']).default('qcow2'),
    compression: z.enum(['zlib', 'zstd']).nullable().default(null),
    qcow2_version: z.literal([2, 3]).default(3),
    backing_file: z
      .string()
      .max(1023)
      .regex(/^[^\p{Cc}:]+$/u, 'write a path without ":"')
      .nullable()
      .default(null)
      .meta({
        description:
          'Only what differs from the disk of the image that the disk is over, which the file calls by this name: download that too',
        examples: ['default.img'],
      }),
  })
  .refine(({ format, backing_file }) => format === 'qcow2' || backing_file === null, {
    path: ['backing_file'],
    message: 'a raw file is over no other',
  })
  .refine(({ format, compression }) => format === 'qcow2' || compression === null, {
    path: ['compression'],
    message: 'a raw file is not compressed',
  })
  .refine(({ qcow2_version, compression }) => qcow2_version === 3 || compression !== 'zstd', {
    path: ['compression'],
    message: 'version 2 of qcow2 has no zstd',
  });
export type DiskExport = z.infer<typeof DiskExport>;
export type DiskExportInput = z.input<typeof DiskExport>;

/** The request's body is the file, `application/octet-stream`. */
export const DiskImportQuery = z.strictObject({
  name: Name.optional(),
  format: z.enum(['raw', 'qcow2']).optional().meta({ description: 'Missing: as the file begins' }),
});
export type DiskImportQuery = z.infer<typeof DiskImportQuery>;

/** An image of a disk that holds a kernel, as imported cloud images do. */
export const DiskToImage = z.strictObject({ name: Name, append: z.string().max(2048).optional() });
export type DiskToImage = z.infer<typeof DiskToImage>;
