/** Reads the disks of a backup out of a store. */
import { CHUNK_BYTES, HASH_BYTES, isZero, MAP_ENTRIES } from './format.ts';
import { damaged } from './damaged.ts';
import type { DiskManifest } from './manifest.ts';
import type { BackupStore } from './store.ts';

/** Chunks of so many blocks of the map (4 GiB of the disk) are read in the order in which the packs have them. */
const WINDOW_BLOCKS = 64;

interface Wanted {
  readonly chunk: number;
  readonly hash: Buffer;
  readonly pack: number;
  readonly offset: number;
}

/** Hashes of a disk's chunks that are not zeros, a window at a time. */
async function* windows(store: BackupStore, disk: DiskManifest): AsyncGenerator<Wanted[]> {
  for (let first = 0; first < disk.map.length; first += WINDOW_BLOCKS) {
    const wanted: Wanted[] = [];
    for (let block = first; block < Math.min(first + WINDOW_BLOCKS, disk.map.length); block++) {
      const name = disk.map[block];
      if (name === undefined || name === null) continue;
      const hashes = await store.readMapBlock(name);
      for (let entry = 0; entry < MAP_ENTRIES; entry++) {
        const hash = hashes.subarray(entry * HASH_BYTES, (entry + 1) * HASH_BYTES);
        if (isZero(hash)) continue;
        const place = store.index.find(hash);
        const chunk = block * MAP_ENTRIES + entry;
        wanted.push({ chunk, hash, pack: place?.pack ?? -1, offset: place?.offset ?? 0 });
      }
    }
    yield wanted.sort((a, b) => a.pack - b.pack || a.offset - b.offset);
  }
}

export interface DiskChunk {
  readonly offset: number;
  readonly hash: Buffer;
  /** The content, verified, or why there is none. */
  read(): Promise<Buffer>;
}

/** Every chunk of a disk that is not zeros, in the order that is best read. `backup_corrupt` when the map cannot be read. */
export async function* diskChunks(store: BackupStore, disk: DiskManifest): AsyncGenerator<DiskChunk> {
  for await (const wanted of windows(store, disk)) {
    for (const { chunk, hash } of wanted) {
      const offset = chunk * CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES, disk.sizeBytes - offset);
      if (length <= 0) throw damaged(`the map of ${disk.device} goes on behind its end`);
      yield { offset, hash, read: () => readWhole(store, hash, length) };
    }
  }
}

/** A chunk of a known length. `backup_corrupt`. */
export async function readWhole(store: BackupStore, hash: Buffer, length: number): Promise<Buffer> {
  const bytes = await store.readChunk(hash);
  if (bytes.length === length) return bytes;
  throw damaged(`chunk ${hash.toString('hex')} has ${bytes.length} bytes in place of ${length}`);
}
