/** The header of qcow2 files, versions 2 and 3 (QEMU, docs/interop/qcow2.txt). All numbers are big-endian. */
import { AppError } from '../../contracts/errors.ts';

/** "QFI\xfb" */
const MAGIC = 0x5146_49fb;
const V2_HEADER_BYTES = 72;
const V3_HEADER_BYTES = 104;
const CLUSTER_BITS_MIN = 9;
const CLUSTER_BITS_MAX = 21;
/** The header, its extensions and the backing path are all in the first cluster; enough of a file to parse them. */
export const QCOW2_HEADER_BYTES_MAX = 1 << CLUSTER_BITS_MAX;
/** As QEMU: a larger table is not worth its memory. */
const L1_BYTES_MAX = 32 << 20;
/** As for COW files. */
export const QCOW2_SIZE_MAX = 2 ** 43;
const BACKING_PATH_BYTES_MAX = 1023;
/** Enough for header, extensions and path: the longest path has 1023 bytes. */
const NEW_HEADER_BYTES = 4096;
const EXTENSION = { end: 0, backingFormat: 0xe279_2aca };

const INCOMPATIBLE = { dirty: 1n, corrupt: 2n, externalData: 4n, compressionType: 8n, extendedL2: 16n };
const INCOMPATIBLE_NAMES: Readonly<Record<string, string>> = {
  [String(INCOMPATIBLE.corrupt)]: 'it is marked as corrupt',
  [String(INCOMPATIBLE.externalData)]: 'its data is in another file',
  [String(INCOMPATIBLE.extendedL2)]: 'it has extended L2 entries',
};

export type Compression = 'zlib' | 'zstd';

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  /** Of the disk, as the guest sees it; perhaps no multiple of 512. */
  readonly sizeBytes: number;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly compression: Compression;
  readonly backing?: { readonly path: string; readonly format?: string | undefined } | undefined;
}

function corrupt(message: string, field: string): AppError {
  return new AppError('bad_image', `the qcow2 header is damaged: ${message}`, {
    field,
    remedy: 'check the file with `qemu-img check`, or get it again',
  });
}

function unsupported(message: string, field: string, remedy: string): AppError {
  return new AppError('unsupported', `this qcow2 file cannot be used: ${message}`, { field, remedy });
}

export function isQcow2(start: Uint8Array): boolean {
  if (start.length < 4) return false;
  return new DataView(start.buffer, start.byteOffset, start.byteLength).getUint32(0) === MAGIC;
}

/**
 * Parses the first bytes of a file (all of it, or QCOW2_HEADER_BYTES_MAX) of `fileBytes` bytes. Throws AppError
 * `bad_image` (damaged, marked as corrupt) or `unsupported`, with the header field at fault.
 */
export function parseQcow2Header(start: Uint8Array, fileBytes: number): Qcow2Header {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  if (!isQcow2(bytes)) throw corrupt('the magic number is missing', 'magic');
  if (bytes.length < V2_HEADER_BYTES) throw corrupt(`only ${bytes.length} bytes are there`, 'header');
  const version = bytes.readUInt32BE(4);
  if (version !== 2 && version !== 3) {
    throw unsupported(`its version is ${version}`, 'version', 'convert it to version 2 or 3');
  }
  if (version === 3 && bytes.length < V3_HEADER_BYTES) {
    throw corrupt(`only ${bytes.length} bytes are there`, 'header');
  }
  const clusterBits = bytes.readUInt32BE(20);
  if (clusterBits < CLUSTER_BITS_MIN || clusterBits > CLUSTER_BITS_MAX) {
    throw corrupt(`clusters of 2^${clusterBits} bytes do not exist`, 'cluster_bits');
  }
  const clusterBytes = 2 ** clusterBits;
  checkEncryption(bytes.readUInt32BE(32));
  const features = version === 3 ? bytes.readBigUInt64BE(72) : 0n;
  checkFeatures(features);
  const headerBytes = version === 3 ? readHeaderLength(bytes, clusterBytes) : V2_HEADER_BYTES;
  return {
    version,
    clusterBits,
    clusterBytes,
    compression: readCompression(bytes, headerBytes, features),
    ...readTable(bytes, clusterBytes, fileBytes),
    backing: readBacking(bytes.subarray(0, clusterBytes), headerBytes),
  };
}

function checkEncryption(method: number): void {
  if (method === 0) return;
  throw unsupported('it is encrypted', 'crypt_method', 'decrypt it with `qemu-img convert` first');
}

/** A file whose refcounts may be stale (`dirty`) is read all the same: reading needs none. */
function checkFeatures(features: bigint): void {
  const rest = features & ~(INCOMPATIBLE.dirty | INCOMPATIBLE.compressionType);
  if (rest === 0n) return;
  const bit = rest & -rest;
  if (bit === INCOMPATIBLE.corrupt) {
    throw corrupt('it is marked as corrupt', 'incompatible_features');
  }
  const what = INCOMPATIBLE_NAMES[String(bit)] ?? `it has the unknown feature 0x${bit.toString(16)}`;
  throw unsupported(what, 'incompatible_features', 'convert it with `qemu-img convert -O qcow2` first');
}

function readHeaderLength(bytes: Buffer, clusterBytes: number): number {
  const length = bytes.readUInt32BE(100);
  if (length >= V3_HEADER_BYTES && length <= Math.min(clusterBytes, bytes.length) && length % 8 === 0) {
    return length;
  }
  throw corrupt(`a header of ${length} bytes is not possible`, 'header_length');
}

function readCompression(bytes: Buffer, headerBytes: number, features: bigint): Compression {
  const type = headerBytes > V3_HEADER_BYTES ? bytes.readUInt8(104) : 0;
  const announced = (features & INCOMPATIBLE.compressionType) !== 0n;
  if ((type !== 0) !== announced) {
    throw corrupt('its compression type and its features contradict each other', 'compression_type');
  }
  if (type === 0) return 'zlib';
  if (type === 1) return 'zstd';
  throw unsupported(`compression type ${type} is unknown`, 'compression_type', 'convert it to zlib or zstd');
}

/** Size and L1 table: every entry must be there, within the file. */
function readTable(
  bytes: Buffer,
  clusterBytes: number,
  fileBytes: number,
): Pick<Qcow2Header, 'sizeBytes' | 'l1Offset' | 'l1Entries'> {
  const size = bytes.readBigUInt64BE(24);
  if (size > BigInt(QCOW2_SIZE_MAX)) {
    throw unsupported(`a disk of ${size} bytes`, 'size', 'at most 8 TiB work');
  }
  const sizeBytes = Number(size);
  const l1Entries = Math.ceil(sizeBytes / (clusterBytes * (clusterBytes / 8)));
  const stored = bytes.readUInt32BE(36);
  if (l1Entries * 8 > L1_BYTES_MAX) {
    throw unsupported(`its L1 table has ${l1Entries} entries`, 'cluster_bits', 'use larger clusters');
  }
  if (stored < l1Entries) {
    throw corrupt(`its L1 table has ${stored} entries and needs ${l1Entries}`, 'l1_size');
  }
  const l1Offset = bytes.readBigUInt64BE(40);
  const misplaced = l1Offset % BigInt(clusterBytes) !== 0n || l1Offset < BigInt(clusterBytes);
  if (l1Entries > 0 && (misplaced || l1Offset + BigInt(l1Entries * 8) > BigInt(fileBytes))) {
    throw corrupt(`its L1 table cannot be at byte ${l1Offset} of ${fileBytes}`, 'l1_table_offset');
  }
  return { sizeBytes, l1Offset: l1Entries > 0 ? Number(l1Offset) : 0, l1Entries };
}

function readBacking(cluster: Buffer, headerBytes: number): Qcow2Header['backing'] {
  const offset = cluster.readBigUInt64BE(8);
  if (offset === 0n) return undefined;
  const length = cluster.readUInt32BE(16);
  const fits = offset >= BigInt(headerBytes) && offset + BigInt(length) <= BigInt(cluster.length);
  if (!fits || length === 0 || length > BACKING_PATH_BYTES_MAX) {
    throw corrupt(`a backing path of ${length} bytes cannot be at byte ${offset}`, 'backing_file_offset');
  }
  const stored = cluster.subarray(Number(offset), Number(offset) + length);
  const path = stored.toString('utf8');
  if (stored.includes(0) || !Buffer.from(path, 'utf8').equals(stored)) {
    throw corrupt('its backing path is no valid UTF-8', 'backing_file');
  }
  return { path, format: readBackingFormat(cluster.subarray(0, Number(offset)), headerBytes) };
}

/** Extensions end with type 0 or where the backing path begins. */
function readBackingFormat(area: Buffer, headerBytes: number): string | undefined {
  for (let at = headerBytes; at + 8 <= area.length; ) {
    const type = area.readUInt32BE(at);
    const length = area.readUInt32BE(at + 4);
    if (type === EXTENSION.end) return undefined;
    if (length > area.length - at - 8) {
      throw corrupt('a header extension does not end', 'header_extensions');
    }
    if (type === EXTENSION.backingFormat) return area.toString('latin1', at + 8, at + 8 + length);
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return undefined;
}

export interface NewQcow2 {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly sizeBytes: number;
  readonly compression: Compression;
  readonly l1Offset: number;
  readonly l1Entries: number;
  readonly refcountTableOffset: number;
  readonly refcountTableClusters: number;
  /** What shows through clusters that are absent. */
  readonly backing?: { readonly path: string; readonly format: 'raw' | 'qcow2' } | undefined;
}

/** A header with refcounts of 16 bits. AppError `invalid_input` for a backing path that is too long. */
export function encodeQcow2Header(file: NewQcow2): Buffer {
  const headerBytes = file.version === 2 ? V2_HEADER_BYTES : V3_HEADER_BYTES + 8;
  const bytes = Buffer.alloc(NEW_HEADER_BYTES);
  writeBacking(bytes, headerBytes, file.backing);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(file.version, 4);
  bytes.writeUInt32BE(file.clusterBits, 20);
  bytes.writeBigUInt64BE(BigInt(file.sizeBytes), 24);
  bytes.writeUInt32BE(file.l1Entries, 36);
  bytes.writeBigUInt64BE(BigInt(file.l1Offset), 40);
  bytes.writeBigUInt64BE(BigInt(file.refcountTableOffset), 48);
  bytes.writeUInt32BE(file.refcountTableClusters, 56);
  if (file.version === 2) return bytes;
  if (file.compression === 'zstd') {
    bytes.writeBigUInt64BE(INCOMPATIBLE.compressionType, 72);
    bytes.writeUInt8(1, 104);
  }
  bytes.writeUInt32BE(4, 96);
  bytes.writeUInt32BE(headerBytes, 100);
  return bytes;
}

/** The extension with its format, the one that ends the list, and the path. */
function writeBacking(bytes: Buffer, headerBytes: number, backing: NewQcow2['backing']): void {
  if (backing === undefined) return;
  const length = Buffer.byteLength(backing.path);
  const at = headerBytes + 8 + Math.ceil(backing.format.length / 8) * 8 + 8;
  if (length > BACKING_PATH_BYTES_MAX || at + length > bytes.length) {
    throw new AppError(
      'invalid_input',
      `the path of the backing file has ${length} bytes, which is too long`,
      {
        field: 'backing',
        remedy: 'put the backing file beside the new one',
      },
    );
  }
  bytes.writeUInt32BE(EXTENSION.backingFormat, headerBytes);
  bytes.writeUInt32BE(backing.format.length, headerBytes + 4);
  bytes.write(backing.format, headerBytes + 8, 'latin1');
  bytes.writeBigUInt64BE(BigInt(at), 8);
  bytes.writeUInt32BE(length, 16);
  bytes.write(backing.path, at);
}
