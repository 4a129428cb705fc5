/**
 * The manifest of a backup: all that restores it but the chunks, so that a store is enough without a database. A text file of
 * two lines, JSON and the SHA-256 of that JSON. It is written last: a backup without a manifest does not exist.
 *
 * Every backup names all its chunks. `parent` only says which one it was made from: no backup needs another to be there.
 */
import { hash } from 'node:crypto';
import { z } from 'zod';
import { type BackupHead, type BackupSummary, CONSISTENCIES } from '../../contracts/backup.ts';
import { damaged } from './damaged.ts';
import { BACKUP_ID, CHUNK_BYTES, DISK_BYTES_MAX, mapBlocksOf } from './format.ts';

const FORMAT = 'umlaut-backup';
export const MANIFEST_BYTES_MAX = 256 << 20;

const Size = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const Text = z.string().max(64 * 1024);
const Id = z.string().max(100);

const DiskManifest = z
  .object({
    device: z.string().regex(/^[a-z]{1,8}[0-9]{1,3}$/),
    diskId: Id,
    sizeBytes: z.int().min(0).max(DISK_BYTES_MAX),
    readOnly: z.boolean(),
    /** Bytes that were looked at: all of the disk, or what had changed since the parent. */
    scannedBytes: Size,
    /** What this backup added to the store for this disk. */
    storedBytes: Size,
    /** A hash per 64 MiB: of the block of the map with the hashes of its chunks. Null where all is zeros. */
    map: z.array(
      z
        .string()
        .regex(/^[0-9a-f]{64}$/)
        .nullable(),
    ),
  })
  .refine((disk) => disk.map.length === mapBlocksOf(disk.sizeBytes), 'the map does not fit the size');
export type DiskManifest = z.infer<typeof DiskManifest>;

const BackupManifest = z.object({
  format: z.literal(FORMAT),
  version: z.literal(1),
  chunkBytes: z.literal(CHUNK_BYTES),
  id: z.string().regex(BACKUP_ID),
  name: Id,
  tenant: Id,
  kind: z.enum(['full', 'incremental']),
  parent: Id.nullable(),
  consistency: z.enum(CONSISTENCIES),
  /** Unix milliseconds. */
  takenAt: Size,
  createdAt: Size,
  scheduleId: Id.nullable(),
  vm: z.object({
    id: Id,
    name: Id,
    imageId: Id,
    memoryBytes: Size,
    append: Text,
    networks: z.array(Id).max(64),
    debugExitPort: z.int().min(0).max(65_535).nullable(),
    settings: z
      .string()
      .max(1 << 20)
      .optional(),
  }),
  disks: z.array(DiskManifest).max(64),
});
export type BackupManifest = z.infer<typeof BackupManifest>;

/** What is known when the disks have been read. */
export type ManifestRest = Omit<BackupManifest, keyof BackupHead | 'format' | 'version' | 'chunkBytes'>;

export function manifestName(backupId: string): string {
  return `manifests/${backupId}.json`;
}

/** As it is stored. Throws `RangeError` when it is none that could be read back. */
export function manifestText(head: BackupHead, rest: ManifestRest): Buffer {
  const whole = { format: FORMAT, version: 1, chunkBytes: CHUNK_BYTES, ...head, ...rest };
  const json = JSON.stringify(BackupManifest.parse(whole));
  return Buffer.from(`${json}\n${hash('sha256', json)}\n`);
}

/** The manifest of `backupId`. `backup_corrupt` when the text is not what was written. */
export function parseManifest(backupId: string, text: Buffer): BackupManifest {
  const end = text.indexOf(10);
  const json = text.subarray(0, Math.max(end, 0));
  const digest = text.subarray(end + 1).toString('latin1');
  if (end < 0 || digest !== `${hash('sha256', json)}\n`) {
    throw damaged(`the manifest of backup ${backupId} has another hash`);
  }
  let manifest: BackupManifest;
  try {
    manifest = BackupManifest.parse(JSON.parse(json.toString('utf8')));
  } catch (error) {
    throw damaged(`the manifest of backup ${backupId} is none: ${String(error)}`, error);
  }
  if (manifest.id !== backupId) throw damaged(`the manifest of backup ${backupId} is of ${manifest.id}`);
  const devices = new Set(manifest.disks.map((disk) => disk.device));
  if (devices.size !== manifest.disks.length) throw damaged(`backup ${backupId} has a disk twice`);
  return manifest;
}

/** The manifest without the maps. */
export function summaryOf(manifest: BackupManifest): BackupSummary {
  const { format: _format, version: _version, chunkBytes: _chunkBytes, ...summary } = manifest;
  return { ...summary, disks: manifest.disks.map(({ map: _map, ...disk }) => disk) };
}
