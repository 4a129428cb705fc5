/** Sizes and names of the backup store's format, and what a chunk is called. */
import { hash } from 'node:crypto';

/**
 * The unit of change tracking, deduplication and verification. 64 KiB is the cluster size of qcow2 and of the copier: a
 * random 4 KiB write costs 64 KiB in the next incremental backup. Larger chunks compress better (about 4 % at 256 KiB) and cost
 * that much more for each scattered write.
 */
export const CHUNK_BYTES = 64 * 1024;
export const HASH_BYTES = 32;
/** Chunks that a block of a disk's map names: 64 MiB of the disk in 32 KiB. */
export const MAP_ENTRIES = 1024;
export const MAP_BLOCK_BYTES = MAP_ENTRIES * HASH_BYTES;
/** A pack is complete with so many bytes of chunks. */
export const PACK_BYTES = 16 << 20;
/** Larger disks are refused: beyond what a file of the host can be. */
export const DISK_BYTES_MAX = 2 ** 46;

export const PACK_NAME = /^[0-9a-f]{64}$/;
export const BACKUP_ID = /^bak-[0-9a-f]{16}$/;

/** What a chunk of zeros has in a map: nothing of it is stored. */
export const ZERO_HASH = Buffer.alloc(HASH_BYTES);

/** The name of a chunk: SHA-256 of its bytes as they are on the disk. */
export function chunkHash(bytes: Uint8Array): Buffer {
  return hash('sha256', bytes, 'buffer');
}

const ZEROS = Buffer.alloc(CHUNK_BYTES);

export function isZero(bytes: Uint8Array): boolean {
  return ZEROS.compare(bytes, 0, bytes.length, 0, bytes.length) === 0;
}

/** The hashes of consecutive chunks behind each other, ZERO_HASH for those of zeros; the last chunk may be short. */
export function hashChunks(
  bytes: Uint8Array,
  into: Uint8Array = new Uint8Array(chunksOf(bytes.length) * HASH_BYTES),
): Uint8Array {
  for (let at = 0, to = 0; at < bytes.length; at += CHUNK_BYTES, to += HASH_BYTES) {
    const chunk = bytes.subarray(at, Math.min(at + CHUNK_BYTES, bytes.length));
    into.set(isZero(chunk) ? ZERO_HASH : chunkHash(chunk), to);
  }
  return into;
}

export function chunksOf(sizeBytes: number): number {
  return Math.ceil(sizeBytes / CHUNK_BYTES);
}

export function mapBlocksOf(sizeBytes: number): number {
  return Math.ceil(chunksOf(sizeBytes) / MAP_ENTRIES);
}
