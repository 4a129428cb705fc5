/** What is recorded of an image, and how its address is made. */
import { createHash } from 'node:crypto';
import * as z from 'zod';
import { AppError } from '../contracts/errors.ts';

export const MANIFEST_FILE = 'manifest.json';
export const PART_NAMES = ['kernel', 'initrd', 'disk'] as const;
export type PartName = (typeof PART_NAMES)[number];

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/);

const Part = z.object({
  sizeBytes: z.number().int().positive(),
  sha256: Sha256,
  /** Modification time of the stored file, whole seconds since 1970: part of the cheap check on use. */
  mtimeSeconds: z.number().int(),
});
export type ImagePart = z.infer<typeof Part>;

const Manifest = z.object({
  format: z.literal(1),
  id: Sha256,
  name: z.string().min(1).max(128),
  createdAt: z.iso.datetime(),
  /** Default kernel command line. */
  append: z.string().max(2048),
  parts: z.object({ kernel: Part, initrd: Part.optional(), disk: Part }),
});
export type ImageManifest = z.infer<typeof Manifest>;

/** SHA-256 over the parts' hashes and the command line: the same content is the same image, whatever its name. */
export function imageId(manifest: Pick<ImageManifest, 'append' | 'parts'>): string {
  const { kernel, initrd, disk } = manifest.parts;
  const lines = ['umlaut image 1', kernel.sha256, initrd?.sha256 ?? '-', disk.sha256, manifest.append];
  return createHash('sha256').update(lines.join('\n')).digest('hex');
}

/** Parses a manifest file's text and checks it against its address. `image_corrupt`. */
export function parseManifest(text: string, id: string): ImageManifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw manifestCorrupt(id, 'is not JSON');
  }
  const result = Manifest.safeParse(value);
  if (!result.success) {
    throw manifestCorrupt(id, `is not valid: ${result.error.issues[0]?.path.join('.') ?? 'unknown field'}`);
  }
  if (result.data.id !== id || imageId(result.data) !== id)
    throw manifestCorrupt(id, 'does not have the content of its address');
  return result.data;
}

function manifestCorrupt(id: string, what: string): AppError {
  return new AppError('image_corrupt', `the manifest of image ${id} ${what}`, {
    field: 'image',
    remedy: 'remove the image and import or build it again',
  });
}
