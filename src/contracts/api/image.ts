import { z } from 'zod';
import { Bytes, ListQuery, Name, pageOf, Timestamp } from './common.ts';

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const HostPath = z
  .string()
  .min(1)
  .max(4096)
  .startsWith('/', 'must be an absolute path on the host of the daemon');

export const ImageFileRole = z.enum(['kernel', 'initrd', 'disk']);
export type ImageFileRole = z.infer<typeof ImageFileRole>;

export const ImageFile = z.object({
  role: ImageFileRole,
  sha256: Sha256,
  size_bytes: Bytes,
});
export type ImageFile = z.infer<typeof ImageFile>;

/** Immutable; the id is derived from the SHA-256 of its manifest. A name may be moved to another image. */
export const Image = z.object({
  id: z.string(),
  name: Name.nullable(),
  files: z.array(ImageFile),
  append: z.string().meta({ description: 'Kernel command line' }),
  kernel_release: z
    .string()
    .nullable()
    .meta({ examples: ['6.1.0-32-cloud-amd64'] }),
  size_bytes: Bytes,
  in_use_by: z.int().meta({ description: 'Disks and backups that are over it' }),
  created_at: Timestamp,
});
export type Image = z.infer<typeof Image>;
export const ImagePage = pageOf(Image);
export type ImagePage = z.infer<typeof ImagePage>;

export const ImageBuild = z.strictObject({
  name: Name.default('default'),
  kernel: z.enum(['cloud', 'generic']).default('cloud').meta({
    description:
      "Debian's kernel for clouds boots fastest; the generic one has all drivers, 9P for shares among them",
  }),
});
export type ImageBuild = z.infer<typeof ImageBuild>;
export type ImageBuildInput = z.input<typeof ImageBuild>;

/** Paths on the daemon's host; each must be under a folder that the operator allows (`--allow-path`). */
export const ImageImport = z.strictObject({
  name: Name,
  kernel: HostPath.optional().meta({
    description:
      'Missing: kernel, initial RAM disk and command line are taken out of the disk, from /boot of its ext4 file system, as cloud images have them',
  }),
  initrd: HostPath.optional(),
  disk: HostPath.meta({ description: "A raw or qcow2 disk; becomes the read-only base of the VMs' ubd0" }),
  append: z.string().max(2048).optional(),
});
export type ImageImport = z.infer<typeof ImageImport>;

export const ImageListQuery = ListQuery.extend({ name: z.string().max(63).optional() });
