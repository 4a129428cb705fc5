/**
 * A backup being written to a store. Chunks come in any order; what the store has is not written again. In the end every
 * pack is durable, then the manifest is written: a crash at any point leaves chunks that nobody names, and no half backup.
 */
import {
  chunkHash,
  chunksOf,
  CHUNK_BYTES,
  HASH_BYTES,
  isZero,
  MAP_BLOCK_BYTES,
  MAP_ENTRIES,
  mapBlocksOf,
  PACK_BYTES,
} from './format.ts';
import type { BackedUpDisk, BackupHead, BackupSummary } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ChunkPlace } from './chunk-index.ts';
import { damaged } from './damaged.ts';
import {
  type BackupManifest,
  type DiskManifest,
  type ManifestRest,
  manifestName,
  manifestText,
} from './manifest.ts';
import { PackBuilder } from './pack.ts';
import type { BackupStore } from './store.ts';

/** Packs on their way to the store while the next is being filled. */
const PUTS_MAX = 4;

export interface SessionDisk {
  readonly device: string;
  readonly diskId: string;
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  /** Only what has changed since the parent will be given. */
  readonly incremental: boolean;
}

export class BackupSession {
  readonly #store: BackupStore;
  readonly #head: BackupHead;
  readonly #packBytes: number;
  readonly #id: number;
  readonly #pack = new PackBuilder();
  /** Hashes of the chunks in packs that the index does not have yet. */
  readonly #fresh = new Set<string>();
  /** Packs that stay because of this session. */
  readonly #pinned = new Set<number>();
  readonly #puts = new Set<Promise<void>>();
  readonly #disks: DiskMap[] = [];
  #parent: BackupManifest | undefined;
  #failure: unknown;

  constructor(store: BackupStore, head: BackupHead, packBytes = PACK_BYTES) {
    this.#store = store;
    this.#packBytes = packBytes;
    this.#head = head;
    this.#id = store.index.beginSession('backup');
  }

  /**
   * Before anything else: the backup whose content incremental disks go on from. Null when it cannot be read; then
   * none of them is incremental.
   */
  async goOnFrom(parent: string | null): Promise<string | null> {
    if (parent === null) return null;
    try {
      this.#parent = await this.#store.readManifest(parent);
      return parent;
    } catch (error) {
      // Somebody has removed it from the store, or damaged it.
      if (error instanceof AppError && /^(not_found|backup_corrupt)$/.test(error.code)) return null;
      throw error;
    }
  }

  /** Before the first chunk. */
  begin(disks: readonly SessionDisk[]): void {
    for (const disk of disks) {
      const before = disk.incremental
        ? this.#parent?.disks.find((one) => one.device === disk.device)
        : undefined;
      if (disk.incremental && (before === undefined || before.sizeBytes !== disk.sizeBytes)) {
        throw damaged(`backup ${this.#parent?.id} has no ${disk.device} of this size`);
      }
      this.#disks.push(new DiskMap(disk, before));
    }
  }

  /** A run of whole chunks of a disk, from `offset` on; the last one of the disk may be short. `hashes`: as hashChunks gives them. */
  async add(disk: number, offset: number, bytes: Uint8Array, hashes: Uint8Array): Promise<void> {
    const map = this.#disks[disk]!;
    map.scannedBytes += bytes.length;
    const names = Array.from({ length: chunksOf(bytes.length) }, (_, chunk) =>
      Buffer.from(hashes.subarray(chunk * HASH_BYTES, (chunk + 1) * HASH_BYTES)),
    );
    const places = this.#store.index.findAll(names);
    for (const [index, hash] of names.entries()) {
      const at = index * CHUNK_BYTES;
      const raw = bytes.subarray(at, Math.min(at + CHUNK_BYTES, bytes.length));
      if (!isZero(hash)) await this.#keep(map, raw, hash, places[index]);
      await this.#enter(map, (offset + at) / CHUNK_BYTES, hash);
    }
  }

  /** Makes everything durable and writes the manifest. */
  async finish(rest: Pick<ManifestRest, 'consistency' | 'takenAt'>): Promise<BackupSummary> {
    for (const map of this.#disks) await this.#finishMap(map);
    await this.#putPack();
    await this.#settle(0);
    const incremental = this.#disks.length > 0 && this.#disks.every(({ disk }) => disk.incremental);
    const whole: ManifestRest = {
      ...rest,
      kind: incremental ? 'incremental' : 'full',
      parent: this.#parent?.id ?? null,
      disks: this.#disks.map((map) => ({ ...map.summary, map: map.names })),
    };
    await this.#commit(manifestText(this.#head, whole));
    return { ...this.#head, ...whole, disks: this.#disks.map((map) => map.summary) };
  }

  /** A manifest names what others may have taken for garbage, if the store was theirs before it got there. */
  async #commit(text: Buffer): Promise<void> {
    const name = manifestName(this.#head.id);
    await this.#store.confirmHeld(this.#id);
    await this.#store.objects.put(name, text);
    try {
      await this.#store.confirmHeld(this.#id);
    } catch (error) {
      await this.#store.objects.remove(name);
      throw error;
    }
  }

  /** Always, after `finish` or instead of it. */
  async close(): Promise<void> {
    await Promise.allSettled(this.#puts);
    this.#store.index.endSession(this.#id);
  }

  /** Stores a chunk unless the store has it; `place` is what the index said. */
  async #keep(map: DiskMap, raw: Uint8Array, hash: Buffer, place: ChunkPlace | undefined): Promise<void> {
    const key = hash.toString('latin1');
    if (this.#fresh.has(key) || this.#holds(hash, place)) return;
    this.#fresh.add(key);
    map.storedBytes += this.#pack.add(hash, raw);
    if (this.#pack.bytes >= this.#packBytes) await this.#putPack();
  }

  /** Whether the chunk is where the index said, and stays. */
  #holds(hash: Buffer, place: ChunkPlace | undefined): boolean {
    if (place === undefined || this.#pinned.has(place.pack)) return place !== undefined;
    const pinned = this.#store.index.findPinned(hash, this.#id);
    if (pinned !== undefined) this.#pinned.add(pinned.pack);
    return pinned !== undefined;
  }

  async #putPack(): Promise<void> {
    const pack = this.#pack.take();
    if (pack === undefined) return;
    await this.#settle(PUTS_MAX - 1);
    const put = this.#store.objects
      .put(`packs/${pack.name}`, pack.bytes)
      .then(() => {
        this.#store.index.addPack(pack.name, pack.bytes.length, pack.entries, this.#id);
        for (const { hash } of pack.entries) this.#fresh.delete(hash.toString('latin1'));
        this.#pack.recycle(pack);
      })
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#puts.delete(put));
    this.#puts.add(put);
  }

  /** Waits until at most `most` packs are under way. */
  async #settle(most: number): Promise<void> {
    while (this.#puts.size > most) await Promise.race(this.#puts);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #enter(map: DiskMap, chunk: number, hash: Buffer): Promise<void> {
    const block = Math.floor(chunk / MAP_ENTRIES);
    const entries = map.open.get(block) ?? (await this.#openBlock(map, block));
    hash.copy(entries.hashes, (chunk % MAP_ENTRIES) * HASH_BYTES);
    // A whole block of a full backup is done with when its last chunk has come.
    if (--entries.missing === 0) await this.#closeBlock(map, block);
  }

  async #openBlock(map: DiskMap, block: number): Promise<OpenBlock> {
    const name = map.names[block] ?? null;
    const hashes =
      name === null ? Buffer.alloc(MAP_BLOCK_BYTES) : Buffer.from(await this.#store.readMapBlock(name));
    const missing = map.disk.incremental
      ? Number.POSITIVE_INFINITY
      : Math.min(MAP_ENTRIES, chunksOf(map.disk.sizeBytes) - block * MAP_ENTRIES);
    const opened = { hashes, missing };
    map.open.set(block, opened);
    return opened;
  }

  async #closeBlock(map: DiskMap, block: number): Promise<void> {
    // INVARIANT: only open blocks are closed.
    const { hashes } = map.open.get(block)!;
    map.open.delete(block);
    if (isZero(hashes)) {
      map.names[block] = null;
      return;
    }
    const hash = chunkHash(hashes);
    await this.#keep(map, hashes, hash, this.#store.index.find(hash));
    map.names[block] = hash.toString('hex');
  }

  async #finishMap(map: DiskMap): Promise<void> {
    for (const [block, { missing }] of [...map.open]) {
      if (Number.isFinite(missing))
        throw new RangeError(`block ${block} of ${map.disk.device} is not complete`);
      await this.#closeBlock(map, block);
    }
    // Blocks that nothing came for are the parent's, or those of a full backup have all been closed.
    if (map.disk.incremental || map.scannedBytes >= map.disk.sizeBytes) return;
    throw new RangeError(`only ${map.scannedBytes} bytes of ${map.disk.device} were given`);
  }
}

interface OpenBlock {
  readonly hashes: Buffer;
  missing: number;
}

/** The map of one disk as it comes about. */
class DiskMap {
  readonly disk: SessionDisk;
  readonly open = new Map<number, OpenBlock>();
  readonly names: (string | null)[];
  scannedBytes = 0;
  storedBytes = 0;

  constructor(disk: SessionDisk, parent: DiskManifest | undefined) {
    this.disk = disk;
    this.names =
      parent === undefined
        ? Array.from({ length: mapBlocksOf(disk.sizeBytes) }, () => null)
        : [...parent.map];
  }

  get summary(): BackedUpDisk {
    const { device, diskId, sizeBytes, readOnly } = this.disk;
    const { scannedBytes, storedBytes } = this;
    return { device, diskId, sizeBytes, readOnly, scannedBytes, storedBytes };
  }
}
