/**
 * Packs: the objects that chunks are kept in, since a file per chunk would cost an fsync per chunk.
 *
 *   chunks, one behind the other, each as it is or as a zstd frame
 *   index: 16 random bytes; per chunk its hash (32 bytes), offset, stored length, raw length (u32 each, little-endian)
 *   footer: length of the index (u32), version (u32), SHA-256 of the index, magic (8 bytes)
 *
 * A chunk is compressed when it is stored shorter than it is. A pack never changes; its name is the SHA-256 of its index, which
 * has the hashes of all that is in it. The random bytes keep two packs of the same chunks apart: one may be on its way out when the
 * other comes.
 */
import { randomFillSync } from 'node:crypto';
import { damaged } from './damaged.ts';
import { CHUNK_BYTES, chunkHash, HASH_BYTES, PACK_BYTES } from './format.ts';
import { COMPRESSED_BYTES_MAX, compress, decompress } from './zstd.ts';

const NONCE_BYTES = 16;
const ENTRY_BYTES = HASH_BYTES + 12;
export const FOOTER_BYTES = 8 + HASH_BYTES + 8;
const MAGIC = Buffer.from('UMLPACK\n');
const VERSION = 1;
/** More than a pack can hold: a hostile index takes no more memory than that. */
const ENTRIES_MAX = 1 << 20;
/** Room for a pack that is complete with the last chunk, and its index of chunks that hardly shrink. */
const BUFFER_BYTES = PACK_BYTES + COMPRESSED_BYTES_MAX + (64 << 10);

export interface PackEntry {
  readonly hash: Buffer;
  readonly offset: number;
  readonly storedBytes: number;
  readonly rawBytes: number;
}

export interface Pack {
  readonly name: string;
  readonly bytes: Buffer;
  readonly entries: readonly PackEntry[];
}

/** Collects chunks in memory until they are a pack. */
export class PackBuilder {
  #buffer: Buffer = Buffer.alloc(0);
  /** Of packs that are done with: fresh memory would have to be zeroed by the kernel first. */
  readonly #spare: Buffer[] = [];
  #entries: PackEntry[] = [];
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  /** The stored length. */
  add(hash: Buffer, raw: Uint8Array): number {
    const room = this.#room(COMPRESSED_BYTES_MAX);
    const packed = compress(room, raw);
    if (packed < raw.length) return this.#added(hash, packed, raw.length);
    room.set(raw);
    return this.#added(hash, raw.length, raw.length);
  }

  #added(hash: Buffer, storedBytes: number, rawBytes: number): number {
    this.#entries.push({ hash, offset: this.#bytes, storedBytes, rawBytes });
    this.#bytes += storedBytes;
    return storedBytes;
  }

  /** The pack's bytes are no longer needed. */
  recycle({ bytes }: Pack): void {
    if (bytes.buffer.byteLength === BUFFER_BYTES) this.#spare.push(Buffer.from(bytes.buffer));
  }

  /** The next `bytes` bytes of the pack. */
  #room(bytes: number): Buffer {
    const end = this.#bytes + bytes;
    if (end > this.#buffer.length) {
      const spare = this.#bytes === 0 && end <= BUFFER_BYTES ? this.#spare.pop() : undefined;
      const larger = spare ?? Buffer.allocUnsafeSlow(Math.max(BUFFER_BYTES, end + (end >> 1)));
      this.#buffer.copy(larger, 0, 0, this.#bytes);
      this.#buffer = larger;
    }
    return this.#buffer.subarray(this.#bytes, end);
  }

  /** The pack; the builder is empty again. Undefined when it was. */
  take(): Pack | undefined {
    if (this.#entries.length === 0) return undefined;
    const entries = this.#entries;
    const indexBytes = NONCE_BYTES + entries.length * ENTRY_BYTES;
    const end = this.#room(indexBytes + FOOTER_BYTES);
    const index = end.subarray(0, indexBytes);
    randomFillSync(index, 0, NONCE_BYTES);
    for (const [at, entry] of entries.entries()) writeEntry(index, NONCE_BYTES + at * ENTRY_BYTES, entry);
    const digest = chunkHash(index);
    const footer = end.subarray(indexBytes);
    footer.writeUInt32LE(indexBytes, 0);
    footer.writeUInt32LE(VERSION, 4);
    digest.copy(footer, 8);
    MAGIC.copy(footer, 8 + HASH_BYTES);
    const bytes = this.#buffer.subarray(0, this.#bytes + end.length);
    // The next pack has a buffer of its own: this one is on its way.
    this.#buffer = Buffer.alloc(0);
    this.#entries = [];
    this.#bytes = 0;
    return { name: digest.toString('hex'), bytes, entries };
  }
}

function writeEntry(index: Buffer, at: number, entry: PackEntry): void {
  entry.hash.copy(index, at);
  index.writeUInt32LE(entry.offset, at + HASH_BYTES);
  index.writeUInt32LE(entry.storedBytes, at + HASH_BYTES + 4);
  index.writeUInt32LE(entry.rawBytes, at + HASH_BYTES + 8);
}

export type ReadRange = (offset: number, length: number) => Promise<Buffer>;

/** The index of the pack `name` of `sizeBytes`. `backup_corrupt` when it is not one. */
export async function readPackIndex(
  name: string,
  sizeBytes: number,
  read: ReadRange,
): Promise<readonly PackEntry[]> {
  if (sizeBytes < FOOTER_BYTES) throw damaged(`pack ${name} is too short`);
  const footer = await read(sizeBytes - FOOTER_BYTES, FOOTER_BYTES);
  if (!footer.subarray(-8).equals(MAGIC)) throw damaged(`pack ${name} has no end`);
  if (footer.readUInt32LE(4) !== VERSION) throw damaged(`pack ${name} is of another version`);
  const length = footer.readUInt32LE(0);
  const chunksEnd = sizeBytes - FOOTER_BYTES - length;
  if (chunksEnd < 0 || length % ENTRY_BYTES !== NONCE_BYTES || length > ENTRIES_MAX * ENTRY_BYTES) {
    throw damaged(`pack ${name} has an index of ${length} bytes`);
  }
  const index = await read(chunksEnd, length);
  const digest = chunkHash(index);
  if (!digest.equals(footer.subarray(8, 8 + HASH_BYTES)) || digest.toString('hex') !== name) {
    throw damaged(`the index of pack ${name} has another hash`);
  }
  return parseEntries(name, index, chunksEnd);
}

function parseEntries(name: string, index: Buffer, chunksEnd: number): PackEntry[] {
  const entries: PackEntry[] = [];
  for (let at = NONCE_BYTES; at < index.length; at += ENTRY_BYTES) {
    const entry: PackEntry = {
      hash: index.subarray(at, at + HASH_BYTES),
      offset: index.readUInt32LE(at + HASH_BYTES),
      storedBytes: index.readUInt32LE(at + HASH_BYTES + 4),
      rawBytes: index.readUInt32LE(at + HASH_BYTES + 8),
    };
    const { offset, storedBytes, rawBytes } = entry;
    if (offset + storedBytes > chunksEnd || storedBytes > rawBytes || rawBytes > CHUNK_BYTES) {
      throw damaged(`a chunk of pack ${name} is said to be where none can be`);
    }
    entries.push(entry);
  }
  return entries;
}

/**
 * The bytes of a chunk, verified. `backup_corrupt` when they are not what their hash says.
 * @param into where they are put, if it has room for them; otherwise they may be in `stored`
 */
export function unpackChunk(hash: Buffer, stored: Buffer, rawBytes: number, into?: Buffer): Buffer {
  const to = into !== undefined && into.length >= rawBytes ? into.subarray(0, rawBytes) : undefined;
  let raw = stored;
  if (stored.length !== rawBytes) {
    raw = to ?? Buffer.allocUnsafeSlow(rawBytes);
    try {
      raw = raw.subarray(0, decompress(raw, stored));
    } catch (error) {
      throw damaged(`chunk ${hash.toString('hex')} cannot be decompressed`, error);
    }
  } else if (to !== undefined) {
    stored.copy(to);
    raw = to;
  }
  if (raw.length !== rawBytes || !chunkHash(raw).equals(hash)) {
    throw damaged(`chunk ${hash.toString('hex')} has other content than was backed up`);
  }
  return raw;
}
