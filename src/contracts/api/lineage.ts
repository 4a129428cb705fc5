import { z } from 'zod';
import { Bytes, Timestamp } from './common.ts';

/** Whose newest content a layer has. */
export const LayerUser = z.object({
  type: z.enum(['disk', 'snapshot']),
  id: z.string(),
  name: z.string(),
  vm_id: z.string().nullable(),
});
export type LayerUser = z.infer<typeof LayerUser>;

export const Layer = z.object({
  id: z.string(),
  parent_id: z.string().nullable().meta({ description: 'The layer it is over' }),
  kind: z.enum(['image', 'cow', 'raw', 'backup', 'external']),
  image_id: z.string().nullable(),
  frozen: z.boolean().meta({ description: 'Nobody writes to it' }),
  state: z.enum(['ready', 'sealing', 'merging']),
  size_bytes: Bytes.meta({ description: 'As a guest sees it' }),
  stored_bytes: Bytes.meta({ description: 'Of its own file on the host' }),
  users: z.array(LayerUser),
  created_at: Timestamp,
});
export type Layer = z.infer<typeof Layer>;

/** A disk's base, and all layers that have come of its own layers over that; parents before children. */
export const DiskTree = z.object({ disk_id: z.string(), layer_id: z.string(), layers: z.array(Layer) });
export type DiskTree = z.infer<typeof DiskTree>;

/** What a layer has itself, by who sees it. Of a base, all that it shows. */
export const LayerUsage = z.object({
  layer_id: z.string(),
  kind: Layer.shape.kind,
  stored_bytes: Bytes,
  unique_bytes: Bytes.meta({ description: 'Seen by one disk or snapshot alone' }),
  shared_bytes: Bytes.meta({ description: 'Seen by several' }),
  hidden_bytes: Bytes.meta({ description: 'Seen by nobody: all have something else over it' }),
});
export type LayerUsage = z.infer<typeof LayerUsage>;
export const DiskUsage = z.object({ disk_id: z.string(), layers: z.array(LayerUsage) });
export type DiskUsage = z.infer<typeof DiskUsage>;

export const DiskSharersQuery = z.strictObject({
  offset: z.coerce.number().int().min(0).meta({ description: 'Bytes from the start of the disk' }),
});
/** Who sees the same bytes in the sector at an offset. */
export const DiskSharers = z.object({
  offset: Bytes.meta({ description: 'Of the sector' }),
  layer_id: z.string().meta({ description: 'The layer that has it' }),
  kind: Layer.shape.kind,
  users: z.array(LayerUser),
});
export type DiskSharers = z.infer<typeof DiskSharers>;

export const Dependent = z.object({
  type: z.enum(['vm', 'disk', 'snapshot', 'backup']),
  id: z.string(),
  name: z.string(),
  vm_id: z.string().nullable(),
});
export type Dependent = z.infer<typeof Dependent>;
/** What needs an image. */
export const ImageDependents = z.object({ image_id: z.string(), dependents: z.array(Dependent) });
export type ImageDependents = z.infer<typeof ImageDependents>;

/** Layers whose modification time is again what the layers over them were made over; seconds since 1970. */
export const DiskRepair = z.object({
  repaired: z.array(z.object({ layer_id: z.string(), before: z.int(), after: z.int() })),
});
export type DiskRepair = z.infer<typeof DiskRepair>;
