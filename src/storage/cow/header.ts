/**
 * The header of User Mode Linux's copy-on-write files, all versions (arch/um/drivers/cow_user.c).
 * Versions 2 and 3 are big-endian, version 1 has its writer's byte order. Only version 3 is written.
 */
import { AppError } from '../../contracts/errors.ts';

/** "OOOM" */
const MAGIC = 0x4f4f_4f4d;
export const COW_SECTOR_BYTES = 512;
/**
 * Bitmap and data of new files begin at multiples of it, as partitions do: what a guest has aligned to up to 1 MiB is aligned in
 * the file. So the host's page cache holds large writes in large pieces: they are a quarter faster than with uml_mkcow's 4096.
 */
export const COW_ALIGNMENT = 1 << 20;
/** Longest stored path in bytes, without its NUL. */
export const COW_PATH_BYTES_MAX = 4095;
const PATH_FIELD_BYTES = 4096;
const V1_PATH_FIELD_BYTES = 256;
const V1_HEADER_BYTES = 280;
const V2_HEADER_BYTES = 4120;
const V3_HEADER_BYTES = 4128;
const BROKEN_V3_HEADER_BYTES = 4136;
/** Enough of a file to parse any header. */
export const COW_HEADER_BYTES_MAX = BROKEN_V3_HEADER_BYTES;
/** Other readers hold the data offset in a signed 32-bit int. */
const DATA_OFFSET_MAX = 0x7fff_ffff;

export interface CowHeader {
  readonly version: 1 | 2 | 3;
  /** Version 3 as unpacked 64-bit builds wrote it before December 2005. */
  readonly broken64: boolean;
  /** As stored: usually absolute; a relative one is meant from its reader's working directory. */
  readonly backingPath: string;
  /** Modification time of the backing file, seconds modulo 2^32. */
  readonly backingMtime: number;
  /** Of the backing file, not rounded to sectors. */
  readonly sizeBytes: number;
  readonly alignment: number;
  readonly bitmapOffset: number;
  readonly bitmapBytes: number;
  readonly dataOffset: number;
}

interface RawFields {
  readonly version: 1 | 2 | 3;
  readonly broken64: boolean;
  readonly headerBytes: number;
  readonly path: Buffer;
  readonly mtime: number;
  readonly size: bigint;
  readonly sectorBytes: number;
  readonly alignment: number;
  readonly format: number;
}

const roundUp = (value: number, unit: number): number => Math.ceil(value / unit) * unit;

function invalid(message: string, field: string): AppError {
  return new AppError('cow_corrupt', message, {
    field,
    remedy: 'restore the COW file from a backup, or make a new one over its backing file',
  });
}

/** The bytes of a header that hold the backing file's modification time, and where in the file they go. */
export function encodeMtimeField(
  { version, broken64 }: Pick<CowHeader, 'version' | 'broken64'>,
  mtime: number,
): { readonly offset: number; readonly bytes: Uint8Array } {
  // The broken layout has 64 bits there: as its writers did, the low half stays zero.
  const bytes = Buffer.alloc(broken64 ? 8 : 4);
  if (version === 1) bytes.writeUInt32LE(mtime >>> 0);
  else bytes.writeUInt32BE(mtime >>> 0);
  return { offset: version === 1 ? 264 : version === 2 ? 4104 : 8, bytes };
}

/** Whether a file that begins with these bytes is a COW file in either byte order. */
export function isCow(start: Uint8Array): boolean {
  if (start.length < 4) return false;
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength);
  return view.getUint32(0, false) === MAGIC || view.getUint32(0, true) === MAGIC;
}

/**
 * Parses a header from the first bytes of a file (all of it, or COW_HEADER_BYTES_MAX).
 * Throws AppError `cow_corrupt` with the header field at fault.
 */
export function parseCowHeader(start: Uint8Array): CowHeader {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  if (!isCow(bytes)) {
    throw new AppError('cow_corrupt', 'not a COW file: the magic number is missing', {
      field: 'magic',
      remedy: 'give a file made by `umlaut`, uml_mkcow or linux.uml, or use it as a raw disk',
    });
  }
  if (bytes.length < 8) throw invalid('the COW file ends before its version', 'version');
  return checkFields(readFields(bytes));
}

function need(bytes: Buffer, length: number): void {
  if (bytes.length >= length) return;
  throw invalid(`the COW file ends within its header: ${bytes.length} of ${length} bytes`, 'header');
}

function readFields(bytes: Buffer): RawFields {
  const bigEndian = bytes.readUInt32BE(0) === MAGIC;
  const version = bigEndian ? bytes.readUInt32BE(4) : bytes.readUInt32LE(4);
  switch (version) {
    case 1:
      return readV1(bytes, bigEndian);
    case 2:
      return readV2(bytes);
    case 3:
      need(bytes, 36);
      return bytes.readUInt32BE(32) === 0 ? readBrokenV3(bytes) : readV3(bytes);
    default:
      throw invalid(`COW version ${version} is unknown: 1, 2 and 3 exist`, 'version');
  }
}

function readV1(bytes: Buffer, bigEndian: boolean): RawFields {
  if (bigEndian) {
    throw new AppError('cow_corrupt', 'this version 1 COW file was written on a big-endian host', {
      field: 'magic',
      remedy: 'convert it with uml_moo on the kind of machine that wrote it',
    });
  }
  need(bytes, V1_HEADER_BYTES);
  return {
    version: 1,
    broken64: false,
    headerBytes: V1_HEADER_BYTES,
    path: bytes.subarray(8, 8 + V1_PATH_FIELD_BYTES),
    mtime: bytes.readUInt32LE(264),
    size: bytes.readBigUInt64LE(268),
    sectorBytes: bytes.readUInt32LE(276),
    alignment: COW_SECTOR_BYTES,
    format: 0,
  };
}

function readV2(bytes: Buffer): RawFields {
  need(bytes, V2_HEADER_BYTES);
  return {
    version: 2,
    broken64: false,
    headerBytes: V2_HEADER_BYTES,
    path: bytes.subarray(8, 8 + PATH_FIELD_BYTES),
    mtime: bytes.readUInt32BE(4104),
    size: bytes.readBigUInt64BE(4108),
    sectorBytes: bytes.readUInt32BE(4116),
    alignment: COW_SECTOR_BYTES,
    format: 0,
  };
}

function readV3(bytes: Buffer): RawFields {
  need(bytes, V3_HEADER_BYTES);
  return {
    version: 3,
    broken64: false,
    headerBytes: V3_HEADER_BYTES,
    path: bytes.subarray(32, 32 + PATH_FIELD_BYTES),
    mtime: bytes.readUInt32BE(8),
    size: bytes.readBigUInt64BE(12),
    sectorBytes: bytes.readUInt32BE(20),
    alignment: bytes.readUInt32BE(24),
    format: bytes.readUInt32BE(28),
  };
}

/** A real path never begins with four NULs, so zeros at offset 32 tell this layout from the right one. */
function readBrokenV3(bytes: Buffer): RawFields {
  need(bytes, BROKEN_V3_HEADER_BYTES);
  return {
    version: 3,
    broken64: true,
    headerBytes: BROKEN_V3_HEADER_BYTES,
    path: bytes.subarray(36, 36 + PATH_FIELD_BYTES),
    mtime: bytes.readUInt32BE(8),
    size: bytes.readBigUInt64BE(16),
    sectorBytes: bytes.readUInt32BE(24),
    alignment: bytes.readUInt32BE(28),
    format: 0,
  };
}

function checkFields(raw: RawFields): CowHeader {
  if (raw.sectorBytes !== COW_SECTOR_BYTES) {
    throw invalid(`COW sector size ${raw.sectorBytes}: only 512 exists`, 'sectorsize');
  }
  if (raw.alignment === 0) throw invalid('the COW alignment is 0', 'alignment');
  if (raw.format !== 0) {
    throw invalid(`COW format ${raw.format} is unknown: only 0 (bitmap) exists`, 'cow_format');
  }
  // The bitmap of a larger image would end beyond what DATA_OFFSET_MAX allows.
  if (raw.size > BigInt(DATA_OFFSET_MAX) * 8n * BigInt(COW_SECTOR_BYTES)) {
    throw invalid(`the COW header gives a size of ${raw.size} bytes: at most 8 TiB work`, 'size');
  }
  const sizeBytes = Number(raw.size);
  const placement = place(raw, sizeBytes);
  return {
    version: raw.version,
    broken64: raw.broken64,
    backingPath: readPath(raw.path),
    backingMtime: raw.mtime,
    sizeBytes,
    alignment: raw.alignment,
    ...placement,
  };
}

function readPath(field: Buffer): string {
  const end = field.indexOf(0);
  const bytes = end < 0 ? field : field.subarray(0, end);
  const path = bytes.toString('utf8');
  if (end <= 0 || !Buffer.from(path, 'utf8').equals(bytes)) {
    const what = end < 0 ? 'has no end' : end === 0 ? 'is empty' : 'is not valid UTF-8';
    throw invalid(`the backing path in the COW header ${what}`, 'backing_file');
  }
  return path;
}

interface Placement {
  readonly bitmapOffset: number;
  readonly bitmapBytes: number;
  readonly dataOffset: number;
}

function place(raw: Pick<RawFields, 'version' | 'headerBytes' | 'alignment'>, sizeBytes: number): Placement {
  const bitmapOffset = raw.version === 3 ? roundUp(raw.headerBytes, raw.alignment) : raw.headerBytes;
  // Versions 1 and 2 round down, so that up to 7 trailing sectors have no bit.
  const bitmapBytes =
    raw.version === 3
      ? Math.ceil(Math.ceil(sizeBytes / COW_SECTOR_BYTES) / 8)
      : Math.floor((sizeBytes + COW_SECTOR_BYTES - 1) / (8 * COW_SECTOR_BYTES));
  const dataOffset = roundUp(bitmapOffset + bitmapBytes, raw.alignment);
  if (dataOffset > DATA_OFFSET_MAX) {
    throw invalid(`the COW data would begin at byte ${dataOffset}, beyond 2^31`, 'size');
  }
  if (bitmapOffset < raw.headerBytes || dataOffset < bitmapOffset + bitmapBytes) {
    throw invalid('header, bitmap and data of the COW file overlap', 'alignment');
  }
  return { bitmapOffset, bitmapBytes, dataOffset };
}

export interface NewCow {
  readonly backingPath: string;
  readonly backingMtime: number;
  readonly sizeBytes: number;
  readonly alignment?: number;
}

/** A version 3 header and where its bitmap and data go. AppErrors: `invalid_input`, `cow_corrupt`. */
export function encodeCowHeader(cow: NewCow): { readonly bytes: Buffer; readonly header: CowHeader } {
  const alignment = cow.alignment ?? COW_ALIGNMENT;
  const path = Buffer.from(cow.backingPath, 'utf8');
  if (path.length === 0 || path.length > COW_PATH_BYTES_MAX || path.includes(0)) {
    throw new AppError('invalid_input', `a path of ${path.length} bytes does not fit a COW header`, {
      field: 'backing',
      remedy: `use a path of 1 to ${COW_PATH_BYTES_MAX} bytes`,
    });
  }
  const backingMtime = cow.backingMtime >>> 0;
  const bytes = Buffer.alloc(V3_HEADER_BYTES);
  bytes.writeUInt32BE(MAGIC, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeUInt32BE(backingMtime, 8);
  bytes.writeBigUInt64BE(BigInt(cow.sizeBytes), 12);
  bytes.writeUInt32BE(COW_SECTOR_BYTES, 20);
  bytes.writeUInt32BE(alignment, 24);
  path.copy(bytes, 32);
  const placement = place({ version: 3, headerBytes: V3_HEADER_BYTES, alignment }, cow.sizeBytes);
  const header: CowHeader = {
    version: 3,
    broken64: false,
    backingPath: cow.backingPath,
    backingMtime,
    sizeBytes: cow.sizeBytes,
    alignment,
    ...placement,
  };
  return { bytes, header };
}

/** Where in the COW file byte `offset` of the disk is, when the file has it. */
export function dataAt({ dataOffset }: Pick<CowHeader, 'dataOffset'>, offset: number): number {
  return dataOffset + offset;
}
