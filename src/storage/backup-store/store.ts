/** A store of backups: chunks in packs, manifests, and the index that finds a chunk. Belongs to one thread. */
import type { StoreConfig } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import { ChunkIndex, type ChunkPlace } from './chunk-index.ts';
import { damaged } from './damaged.ts';
import { openObjects } from './destination.ts';
import { BACKUP_ID, MAP_BLOCK_BYTES, PACK_NAME } from './format.ts';
import { type BackupManifest, MANIFEST_BYTES_MAX, manifestName, parseManifest } from './manifest.ts';
import type { ObjectStore } from './objects.ts';
import { readPackIndex, unpackChunk } from './pack.ts';
import { StoreLease } from './store-lease.ts';

const MANIFEST_FILE = /^(.+)\.json$/;

export class BackupStore {
  readonly objects: ObjectStore;
  readonly index: ChunkIndex;
  readonly #lease: StoreLease | undefined;

  /** AppErrors of the destination. @param objects of the location */
  constructor(config: StoreConfig, objects: ObjectStore = openObjects(config.location)) {
    this.objects = objects;
    this.index = new ChunkIndex(config.indexFile);
    this.#lease = config.lease === undefined ? undefined : new StoreLease(objects, config.lease);
  }

  close(): void {
    this.objects.close();
    this.index.close();
  }

  /**
   * Brings the index up to date with the packs that are there. Before anything else, once, by the process that has the store.
   * The names of packs that cannot be read are the result: they are left alone and nothing relies on them.
   */
  async synchronize(): Promise<readonly string[]> {
    this.index.dropSessions();
    this.objects.removeDrafts();
    const broken: string[] = [];
    const there = new Map(
      (await this.objects.list('packs'))
        .filter(({ name }) => PACK_NAME.test(name))
        .map(({ name, sizeBytes }) => [name, sizeBytes]),
    );
    for (const { name, bytes } of this.index.packs()) {
      if (there.get(name) === bytes) there.delete(name);
      else this.index.forgetPack(name);
    }
    for (const [name, bytes] of there) {
      try {
        const read = (offset: number, length: number): Promise<Buffer> =>
          this.objects.read(`packs/${name}`, offset, length);
        this.index.addPack(name, bytes, await readPackIndex(name, bytes, read));
      } catch (error) {
        if (!(error instanceof AppError && error.code === 'backup_corrupt')) throw error;
        broken.push(name);
      }
    }
    return broken;
  }

  /**
   * Nobody else has had the store since `session` was begun, so what it relies on is there. Rejects with `interrupted` when that is
   * not certain. @param lately what was seen in the last minute is believed
   */
  async confirmHeld(session: number, { lately = false } = {}): Promise<void> {
    this.index.requireSession(session);
    await (lately ? this.#lease?.confirmLately() : this.#lease?.confirm());
  }

  /**
   * A chunk by its hash, verified. `backup_corrupt` when it is not there or not what it was.
   * @param known where the index had it, to save a search; it may have been moved since @param into as unpackChunk
   */
  async readChunk(hash: Buffer, known?: ChunkPlace, into?: Buffer): Promise<Buffer> {
    for (let attempt = 0; ; attempt++) {
      const place = (attempt === 0 ? known : undefined) ?? this.index.find(hash);
      if (place === undefined) throw damaged(`chunk ${hash.toString('hex')} is not in the store`);
      try {
        const stored = await this.objects.read(`packs/${place.packName}`, place.offset, place.storedBytes);
        return unpackChunk(hash, stored, place.rawBytes, into);
      } catch (error) {
        if (!(error instanceof AppError && error.code === 'not_found')) throw error;
        // Garbage collection may just have moved it to another pack.
        const moved = this.index.find(hash)?.pack !== place.pack;
        if (!moved || attempt > 2) throw damaged(`pack ${place.packName} is missing`, error);
      }
    }
  }

  /** A block of a disk's map. */
  async readMapBlock(name: string): Promise<Buffer> {
    const block = await this.readChunk(Buffer.from(name, 'hex'));
    if (block.length !== MAP_BLOCK_BYTES) throw damaged(`chunk ${name} is no block of a map`);
    return block;
  }

  /** Ids of all backups that have a manifest, in no order. */
  async backupIds(): Promise<string[]> {
    const ids: string[] = [];
    for (const { name } of await this.objects.list('manifests')) {
      const id = MANIFEST_FILE.exec(name)?.[1];
      if (id !== undefined && BACKUP_ID.test(id)) ids.push(id);
    }
    return ids;
  }

  /** `not_found`, `backup_corrupt`. */
  async readManifest(backupId: string): Promise<BackupManifest> {
    return parseManifest(backupId, await this.objects.get(manifestName(backupId), MANIFEST_BYTES_MAX));
  }

  /** The backup is gone; its chunks stay until garbage is collected. */
  async removeManifest(backupId: string): Promise<void> {
    await this.#lease?.confirmLately();
    await this.objects.remove(manifestName(backupId));
  }
}
