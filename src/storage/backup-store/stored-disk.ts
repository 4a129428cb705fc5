/** A disk in a backup, read at any offset: each chunk when it is needed, verified, and then kept for a while. */
import type { ByteSource } from '../disk-source.ts';
import { CHUNK_BYTES, HASH_BYTES, isZero, MAP_ENTRIES } from './format.ts';
import { damaged } from './damaged.ts';
import type { DiskManifest } from './manifest.ts';
import { readWhole } from './reader.ts';
import type { BackupStore } from './store.ts';

/** 4 MiB. */
const CHUNKS_KEPT = 64;
/** Of the map: 512 KiB, for 1 GiB of the disk. */
const MAP_BLOCKS_KEPT = 16;

export class StoredDisk implements ByteSource {
  readonly sizeBytes: number;
  readonly #store: BackupStore;
  readonly #disk: DiskManifest;
  readonly #chunks = new Kept<Buffer>(CHUNKS_KEPT);
  readonly #map = new Kept<Buffer>(MAP_BLOCKS_KEPT);

  constructor(store: BackupStore, disk: DiskManifest) {
    this.#store = store;
    this.#disk = disk;
    this.sizeBytes = disk.sizeBytes;
  }

  /** `backup_corrupt`, and errors of the destination. */
  async read(offset: number, into: Uint8Array): Promise<void> {
    const last = Math.ceil((offset + into.length) / CHUNK_BYTES);
    const reads: Promise<void>[] = [];
    for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk < last; chunk++) {
      const start = Math.max(offset, chunk * CHUNK_BYTES);
      const end = Math.min(offset + into.length, (chunk + 1) * CHUNK_BYTES);
      const piece = into.subarray(start - offset, end - offset);
      reads.push(
        this.#chunk(chunk).then((bytes) => {
          if (bytes === undefined) piece.fill(0);
          else piece.set(bytes.subarray(start - chunk * CHUNK_BYTES, end - chunk * CHUNK_BYTES));
        }),
      );
    }
    await Promise.all(reads);
  }

  /** Undefined: zeros. */
  async #chunk(chunk: number): Promise<Buffer | undefined> {
    const name = this.#disk.map[Math.floor(chunk / MAP_ENTRIES)];
    if (name === undefined) throw damaged(`the map of ${this.#disk.device} is too short`);
    if (name === null) return undefined;
    const hashes = await this.#map.get(name, () => this.#store.readMapBlock(name));
    const at = (chunk % MAP_ENTRIES) * HASH_BYTES;
    const hash = hashes.subarray(at, at + HASH_BYTES);
    if (isZero(hash)) return undefined;
    const length = Math.min(CHUNK_BYTES, this.sizeBytes - chunk * CHUNK_BYTES);
    return await this.#chunks.get(`${hash.toString('latin1')}${length}`, () =>
      readWhole(this.#store, hash, length),
    );
  }
}

/** What was used last, and what is being read. */
class Kept<T> {
  readonly #limit: number;
  readonly #values = new Map<string, Promise<T>>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  get(key: string, read: () => Promise<T>): Promise<T> {
    const known = this.#values.get(key);
    const value = known ?? read();
    this.#values.delete(key);
    this.#values.set(key, value);
    if (known === undefined) {
      value.catch(() => this.#values.delete(key));
      const [oldest] = this.#values.keys();
      if (this.#values.size > this.#limit && oldest !== undefined) this.#values.delete(oldest);
    }
    return value;
  }
}
