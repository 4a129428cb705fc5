/** Partition tables of disks that are imported, or that guests have written: hostile input. */
import { AppError } from '../contracts/errors.ts';
import type { ByteSource } from './disk-source.ts';

const SECTOR_BYTES = 512;
/** Master boot record: four entries of 16 bytes, then 55 aa. */
const MBR = { ENTRIES: 446, ENTRY_BYTES: 16, COUNT: 4, SIGNATURE: 510 } as const;
const TYPE_GPT = 0xee;
/** Extended partitions are a chain of records, each with one logical partition and the next of the chain. */
const TYPES_EXTENDED: readonly number[] = [0x05, 0x0f, 0x85];
const LOGICAL_FIRST = 5;
const LOGICAL_MAX = 60;
/** GUID partition table (UEFI 2.10, chapter 5.3); the header is in sector 1. */
const GPT = { ENTRIES_SECTOR: 72, COUNT: 80, ENTRY_BYTES: 84 } as const;
const GPT_ENTRIES_MAX = 1024;
const GPT_ENTRY_BYTES_MAX = 4096;

export interface Partition {
  /** As the guest's kernel counts them: 1 is vda1. */
  readonly number: number;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  readonly sizeBytes: number;
}

interface MbrEntry {
  readonly type: number;
  readonly first: number;
  readonly sectors: number;
}

/** The partitions of a disk, in the order of their numbers; none when it has no table. AppError `bad_image` for an impossible one. */
export async function readPartitions(disk: ByteSource): Promise<Partition[]> {
  const entries = await readMbr(disk, 0);
  if (entries === undefined) return [];
  if (entries.some(({ type }) => type === TYPE_GPT)) return await readGpt(disk);
  const partitions = entries.flatMap((entry, index) =>
    entry.type === 0 || isExtended(entry) ? [] : partition(index + 1, entry.first, entry.sectors, disk),
  );
  const extended = entries.find(isExtended);
  return extended === undefined ? partitions : [...partitions, ...(await readLogical(disk, extended.first))];
}

function isExtended({ type }: MbrEntry): boolean {
  return TYPES_EXTENDED.includes(type);
}

/** Undefined: there is no record in that sector. */
async function readMbr(disk: ByteSource, sector: number): Promise<MbrEntry[] | undefined> {
  if ((sector + 1) * SECTOR_BYTES > disk.sizeBytes) return undefined;
  const bytes = await read(disk, sector * SECTOR_BYTES, SECTOR_BYTES);
  if (bytes.readUInt16BE(MBR.SIGNATURE) !== 0x55aa) return undefined;
  return Array.from({ length: MBR.COUNT }, (_, index) => {
    const at = MBR.ENTRIES + index * MBR.ENTRY_BYTES;
    return {
      type: bytes.readUInt8(at + 4),
      first: bytes.readUInt32LE(at + 8),
      sectors: bytes.readUInt32LE(at + 12),
    };
  });
}

async function readLogical(disk: ByteSource, start: number): Promise<Partition[]> {
  const partitions: Partition[] = [];
  let record = start;
  for (let count = 0; count < LOGICAL_MAX; count++) {
    const entries = await readMbr(disk, record);
    const logical = entries?.find((entry) => entry.type !== 0 && !isExtended(entry));
    if (logical !== undefined) {
      partitions.push(...partition(LOGICAL_FIRST + count, record + logical.first, logical.sectors, disk));
    }
    const next = entries?.find(isExtended);
    if (next === undefined) return partitions;
    record = start + next.first;
  }
  throw badTable('its logical partitions have no end');
}

async function readGpt(disk: ByteSource): Promise<Partition[]> {
  if (disk.sizeBytes < 2 * SECTOR_BYTES) throw badTable('it has no header');
  const header = await read(disk, SECTOR_BYTES, SECTOR_BYTES);
  if (header.toString('latin1', 0, 8) !== 'EFI PART') throw badTable('it has no header');
  const count = header.readUInt32LE(GPT.COUNT);
  const entryBytes = header.readUInt32LE(GPT.ENTRY_BYTES);
  const at = Number(header.readBigUInt64LE(GPT.ENTRIES_SECTOR)) * SECTOR_BYTES;
  const possible =
    count <= GPT_ENTRIES_MAX &&
    entryBytes >= 128 &&
    entryBytes <= GPT_ENTRY_BYTES_MAX &&
    entryBytes % 8 === 0 &&
    at + count * entryBytes <= disk.sizeBytes;
  if (!possible) throw badTable('its header is not possible');
  const table = await read(disk, at, count * entryBytes);
  const partitions: Partition[] = [];
  for (let index = 0; index < count; index++) {
    const entry = table.subarray(index * entryBytes, (index + 1) * entryBytes);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const first = Number(entry.readBigUInt64LE(32));
    const last = Number(entry.readBigUInt64LE(40));
    partitions.push(...partition(index + 1, first, last - first + 1, disk));
  }
  return partitions;
}

/** Nothing for a partition that is not within the disk. */
function partition(number: number, firstSector: number, sectors: number, disk: ByteSource): Partition[] {
  const offset = firstSector * SECTOR_BYTES;
  const sizeBytes = sectors * SECTOR_BYTES;
  const inside = firstSector > 0 && sectors > 0 && offset + sizeBytes <= disk.sizeBytes;
  return inside ? [{ number, offset, sizeBytes }] : [];
}

async function read(disk: ByteSource, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  await disk.read(position, bytes);
  return bytes;
}

function badTable(what: string): AppError {
  return new AppError('bad_image', `the partition table of the disk is damaged: ${what}`, { field: 'disk' });
}
