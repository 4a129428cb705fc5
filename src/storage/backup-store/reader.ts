/** Reads the disks of a backup out of a store. */
import { CHUNK_BYTES, HASH_BYTES, isZero, MAP_ENTRIES } from './format.ts';
import type { ChunkPlace } from './chunk-index.ts';
import { damaged } from './damaged.ts';
import type { DiskManifest } from './manifest.ts';
import type { BackupStore } from './store.ts';

/** Chunks of so many blocks of the map (4 GiB of the disk) are read in the order in which the packs have them. */
const WINDOW_BLOCKS = 64;
/** So many chunks are read into one buffer: each write costs as much as copying some of them. */
const PIECE_CHUNKS = 8;

interface Wanted {
  readonly chunk: number;
  readonly hash: Buffer;
  readonly place: ChunkPlace | undefined;
}

/** Hashes of a disk's chunks that are not zeros, a window at a time. */
async function* windows(store: BackupStore, disk: DiskManifest): AsyncGenerator<Wanted[]> {
  for (let first = 0; first < disk.map.length; first += WINDOW_BLOCKS) {
    const wanted: Omit<Wanted, 'place'>[] = [];
    for (let block = first; block < Math.min(first + WINDOW_BLOCKS, disk.map.length); block++) {
      const name = disk.map[block];
      if (name === undefined || name === null) continue;
      const hashes = await store.readMapBlock(name);
      for (let entry = 0; entry < MAP_ENTRIES; entry++) {
        const hash = hashes.subarray(entry * HASH_BYTES, (entry + 1) * HASH_BYTES);
        if (isZero(hash)) continue;
        wanted.push({ chunk: block * MAP_ENTRIES + entry, hash });
      }
    }
    const places = store.index.findAll(wanted.map(({ hash }) => hash));
    yield wanted.map((one, index) => ({ ...one, place: places[index] })).sort(asStored);
  }
}

function asStored({ place: a }: Wanted, { place: b }: Wanted): number {
  return (a?.pack ?? -1) - (b?.pack ?? -1) || (a?.offset ?? 0) - (b?.offset ?? 0);
}

export interface DiskChunk {
  readonly offset: number;
  /** The last one of a disk may be short. */
  readonly length: number;
  readonly hash: Buffer;
  /** The content, verified, or why there is none. @param into where it is put, if that is as long */
  read(into?: Buffer): Promise<Buffer>;
}

/** Every chunk of a disk that is not zeros, in the order that is best read. `backup_corrupt` when the map cannot be read. */
export async function* diskChunks(store: BackupStore, disk: DiskManifest): AsyncGenerator<DiskChunk> {
  for await (const wanted of windows(store, disk)) {
    for (const { chunk, hash, place } of wanted) {
      const offset = chunk * CHUNK_BYTES;
      const length = Math.min(CHUNK_BYTES, disk.sizeBytes - offset);
      if (length <= 0) throw damaged(`the map of ${disk.device} goes on behind its end`);
      const read = (into?: Buffer): Promise<Buffer> => readWhole(store, hash, length, place, into);
      yield { offset, length, hash, read };
    }
  }
}

/** Whole chunks of a disk behind each other. */
export interface DiskPiece {
  readonly offset: number;
  readonly bytes: Buffer;
}

/** As `diskChunks`, with the content; neighbours come together. */
export async function* diskPieces(store: BackupStore, disk: DiskManifest): AsyncGenerator<DiskPiece> {
  let piece: DiskChunk[] = [];
  for await (const chunk of diskChunks(store, disk)) {
    const last = piece.at(-1);
    const follows = last === undefined || last.offset + last.length === chunk.offset;
    if (!follows || piece.length === PIECE_CHUNKS) {
      yield await readPiece(piece);
      piece = [];
    }
    piece.push(chunk);
  }
  if (piece.length > 0) yield await readPiece(piece);
}

async function readPiece(chunks: readonly DiskChunk[]): Promise<DiskPiece> {
  // INVARIANT: a piece has a chunk.
  const { offset } = chunks[0]!;
  const bytes = Buffer.allocUnsafeSlow(chunks.reduce((sum, { length }) => sum + length, 0));
  for (const chunk of chunks) await chunk.read(bytes.subarray(chunk.offset - offset));
  return { offset, bytes };
}

/** A chunk of a known length. `backup_corrupt`. @param place where the index had it @param into where it is put, if that is as long */
export async function readWhole(
  store: BackupStore,
  hash: Buffer,
  length: number,
  place?: ChunkPlace,
  into?: Buffer,
): Promise<Buffer> {
  const bytes = await store.readChunk(hash, place, into?.subarray(0, length));
  if (bytes.length === length) return bytes;
  throw damaged(`chunk ${hash.toString('hex')} has ${bytes.length} bytes in place of ${length}`);
}
