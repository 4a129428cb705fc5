/** Files out of backups, for front doors: nothing is restored for it. */
import type {
  BackupFile,
  BackupFilePage,
  BackupFileQuery,
  BackupFileSystem,
  BackupFilesQuery,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { BackupRow } from '../../db/index.ts';
import { type FileEntry, type FilePlace, StoredFile } from '../../storage/index.ts';
import { cursorSeq, iso, type Principal } from '../access.ts';
import type { BackupStores } from './stores.ts';

/** Files and lists that a tenant reads at once. */
const READERS_MAX = 4;
/** What a Date can be: the guest may have written any time. */
const TIME_MAX = 8.64e15;

/** A file that is read while it is sent. */
export interface FileDownload {
  readonly name: string;
  readonly sizeBytes: number;
  /** Two of the same are the same bytes. */
  readonly etag: string;
  /** Once; it closes the file at its end. */
  bytes(start: number, end: number): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

export class BackupFiles {
  readonly #stores: BackupStores;
  readonly #find: (who: Principal, ref: string) => BackupRow;
  readonly #readers = new Map<string, number>();

  /** @param find an available backup by id or name */
  constructor(stores: BackupStores, find: (who: Principal, ref: string) => BackupRow) {
    this.#stores = stores;
    this.#find = find;
  }

  async fileSystems(who: Principal, ref: string): Promise<BackupFileSystem[]> {
    const { backup, destinationId } = this.#stored(who, ref);
    return await this.#reading(who, async () => {
      const places = await this.#stores.run(destinationId, 'file-systems', { backupId: backup.id });
      return places.map(({ device, sizeBytes, ...place }) => ({
        disk: device,
        size_bytes: sizeBytes,
        ...place,
      }));
    });
  }

  /** In the order of the directory; the cursor is a place in it. */
  async list(who: Principal, ref: string, query: BackupFilesQuery): Promise<BackupFilePage> {
    const { backup, destinationId } = this.#stored(who, ref);
    const from = cursorSeq(query.cursor);
    const place = { ...placeOf(backup, query), from, limit: query.limit };
    return await this.#reading(who, async () => {
      const { entries, next, device, partition } = await this.#stores.run(destinationId, 'list-files', place);
      const next_cursor = next === null ? null : next.toString(36);
      return { items: entries.map(fileView), next_cursor, disk: device, partition };
    });
  }

  /** A regular file. Whoever opens it reads it to its end or closes it. */
  async open(who: Principal, ref: string, query: BackupFileQuery): Promise<FileDownload> {
    const { backup, destinationId } = this.#stored(who, ref);
    const release = this.#take(who);
    try {
      const file = await StoredFile.open(await this.#stores.config(destinationId), placeOf(backup, query));
      const { name, sizeBytes, modifiedAt } = file.entry;
      void file.closed.then(release);
      return {
        name,
        sizeBytes,
        etag: `"${backup.id}-${sizeBytes}-${modifiedAt}"`,
        bytes: (start, end) => file.bytes(start, end),
        close: () => file.close(),
      };
    } catch (error) {
      release();
      throw error;
    }
  }

  #stored(who: Principal, ref: string): { readonly backup: BackupRow; readonly destinationId: string } {
    const backup = this.#find(who, ref);
    if (backup.destination_id !== null) return { backup, destinationId: backup.destination_id };
    throw new AppError('unsupported', 'a flat copy has no files that can be read by themselves', {
      field: 'backup',
      remedy: 'restore it to a new VM, and make a new backup of that',
    });
  }

  async #reading<T>(who: Principal, read: () => Promise<T>): Promise<T> {
    const release = this.#take(who);
    try {
      return await read();
    } finally {
      release();
    }
  }

  /** The result gives the place back. */
  #take({ tenant }: Principal): () => void {
    const readers = this.#readers.get(tenant) ?? 0;
    if (readers >= READERS_MAX) {
      throw new AppError('rate_limited', `${READERS_MAX} files of backups are being read already`, {
        remedy: 'read to the end what has been begun',
      });
    }
    this.#readers.set(tenant, readers + 1);
    return () => this.#readers.set(tenant, (this.#readers.get(tenant) ?? 1) - 1);
  }
}

function placeOf(backup: BackupRow, { path, disk, partition }: BackupFileQuery): FilePlace {
  return { backupId: backup.id, device: disk ?? null, partition: partition ?? null, path };
}

function fileView({ permissions, sizeBytes, modifiedAt, ...entry }: FileEntry): BackupFile {
  return {
    ...entry,
    mode: permissions.toString(8).padStart(4, '0'),
    size_bytes: sizeBytes,
    modified_at: iso(Math.max(-TIME_MAX, Math.min(TIME_MAX, modifiedAt))),
  };
}
