/** Files out of the disks of a backup, without restoring them. */
import { AppError } from '../../contracts/errors.ts';
import type { ByteSource } from '../disk-source.ts';
import { type DirectoryPage, Ext4, type OpenFile } from '../ext4/file-system.ts';
import { readSuperblock } from '../ext4/superblock.ts';
import { type Partition, readPartitions } from '../partitions.ts';
import type { BackupManifest, DiskManifest } from './manifest.ts';
import { diskOf } from './restore.ts';
import type { BackupStore } from './store.ts';
import { StoredDisk } from './stored-disk.ts';

/** A partition of a disk, or a disk without a table. */
export interface FileSystemPlace {
  readonly device: string;
  /** Null: the whole disk. */
  readonly partition: number | null;
  readonly offset: number;
  readonly sizeBytes: number;
  /** Null: none that can be read. */
  readonly type: 'ext2' | 'ext3' | 'ext4' | null;
  readonly label: string | null;
  readonly uuid: string | null;
  /** Why it cannot be read, if it is one. */
  readonly problem: string | null;
}

export interface FilePlace {
  readonly backupId: string;
  /** Null: the first disk that has a file system. */
  readonly device: string | null;
  /** Null: the largest file system of the disk. 0: the whole disk. */
  readonly partition: number | null;
  readonly path: string;
}

export interface FilePage extends DirectoryPage {
  readonly device: string;
  readonly partition: number | null;
}

/** `backup_corrupt`, and errors of the destination. */
export async function fileSystemsOf(store: BackupStore, backupId: string): Promise<FileSystemPlace[]> {
  const { disks } = await store.readManifest(backupId);
  const places: FileSystemPlace[] = [];
  for (const disk of disks) places.push(...(await placesOf(new StoredDisk(store, disk), disk.device)));
  return places;
}

/** `from` is `next` of the page before, or 0. */
export async function listFiles(
  store: BackupStore,
  { from, limit, ...place }: FilePlace & { readonly from: number; readonly limit: number },
): Promise<FilePage> {
  const { fileSystem, found } = await open(store, place);
  const { device, partition } = found;
  return { device, partition, ...(await fileSystem.list(place.path, from, limit)) };
}

export async function openFile(store: BackupStore, place: FilePlace): Promise<OpenFile> {
  return await (await open(store, place)).fileSystem.openFile(place.path);
}

async function open(
  store: BackupStore,
  place: FilePlace,
): Promise<{ readonly fileSystem: Ext4; readonly found: FileSystemPlace }> {
  const manifest = await store.readManifest(place.backupId);
  let problem: string | undefined;
  for (const disk of disksOf(manifest, place.device)) {
    const source = new StoredDisk(store, disk);
    const places = await placesOf(source, disk.device);
    const found = choose(places, place.partition);
    problem ??= places.find((one) => one.problem !== null)?.problem ?? undefined;
    const fileSystem =
      found === undefined ? undefined : await Ext4.open(new Section(source, found.offset, found.sizeBytes));
    if (found !== undefined && fileSystem !== undefined) return { fileSystem, found };
  }
  const where = place.partition === null ? 'it' : `partition ${place.partition}`;
  throw new AppError('unsupported', problem ?? `${where} has no ext2, ext3 or ext4 file system`, {
    field: place.partition === null ? 'disk' : 'partition',
    remedy: 'see which file systems the backup has, or restore it to a new VM',
  });
}

function disksOf(manifest: BackupManifest, device: string | null): readonly DiskManifest[] {
  return device === null ? manifest.disks : [diskOf(manifest, device)];
}

function choose(places: readonly FileSystemPlace[], partition: number | null): FileSystemPlace | undefined {
  if (partition !== null) return places.find((place) => (place.partition ?? 0) === partition);
  return places.filter(({ type }) => type !== null).sort((a, b) => b.sizeBytes - a.sizeBytes)[0];
}

async function placesOf(disk: ByteSource, device: string): Promise<FileSystemPlace[]> {
  const whole = { number: null, offset: 0, sizeBytes: disk.sizeBytes };
  const partitions = await partitionsOf(disk);
  const inWhole = await placeOf(disk, device, whole);
  // A file system may begin with a boot sector that looks like a table.
  if (inWhole.type !== null || partitions.length === 0) return [inWhole];
  const places: FileSystemPlace[] = [];
  for (const partition of partitions) places.push(await placeOf(disk, device, partition));
  return places;
}

async function partitionsOf(disk: ByteSource): Promise<Partition[]> {
  try {
    return await readPartitions(disk);
  } catch (error) {
    if (error instanceof AppError && error.code === 'bad_image') return [];
    throw error;
  }
}

async function placeOf(
  disk: ByteSource,
  device: string,
  { number: partition, offset, sizeBytes }: Omit<Partition, 'number'> & { readonly number: number | null },
): Promise<FileSystemPlace> {
  const place = { device, partition, offset, sizeBytes };
  try {
    const superblock = await readSuperblock(new Section(disk, offset, sizeBytes));
    const { type = null, label = null, uuid = null } = superblock ?? {};
    return { ...place, type, label, uuid, problem: null };
  } catch (error) {
    const isContent = error instanceof AppError && ['bad_file_system', 'unsupported'].includes(error.code);
    if (!isContent) throw error;
    return { ...place, type: null, label: null, uuid: null, problem: error.message };
  }
}

/** A part of a disk. */
class Section implements ByteSource {
  readonly sizeBytes: number;
  readonly #disk: ByteSource;
  readonly #offset: number;

  constructor(disk: ByteSource, offset: number, sizeBytes: number) {
    this.#disk = disk;
    this.#offset = offset;
    this.sizeBytes = sizeBytes;
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#disk.read(this.#offset + offset, into);
  }
}
