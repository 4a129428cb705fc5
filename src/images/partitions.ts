/** Partition tables of disks that are imported: hostile input. */
import * as fs from 'node:fs';
import { AppError } from '../contracts/errors.ts';

const SECTOR_BYTES = 512;
/** Master boot record: four entries of 16 bytes, then 55 aa. */
const MBR = { ENTRIES: 446, ENTRY_BYTES: 16, COUNT: 4, SIGNATURE: 510 } as const;
const TYPE_GPT = 0xee;
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

/**
 * The partitions of a raw disk, in the order of their numbers; none when it has no table. Logical partitions of an MBR are left
 * out. AppError `bad_image` for a table that is not possible.
 */
export function readPartitions(file: string): Partition[] {
  const fd = fs.openSync(file, 'r');
  try {
    const { size } = fs.fstatSync(fd);
    const first = read(fd, 0, SECTOR_BYTES);
    if (first.length < SECTOR_BYTES || first.readUInt16BE(MBR.SIGNATURE) !== 0x55aa) return [];
    const entries = Array.from({ length: MBR.COUNT }, (_, index) =>
      first.subarray(MBR.ENTRIES + index * MBR.ENTRY_BYTES, MBR.ENTRIES + (index + 1) * MBR.ENTRY_BYTES),
    );
    if (entries.some((entry) => entry[4] === TYPE_GPT)) return readGpt(fd, size);
    return entries.flatMap((entry, index) => {
      if (entry[4] === 0) return [];
      return partition(index + 1, entry.readUInt32LE(8), entry.readUInt32LE(12), size);
    });
  } finally {
    fs.closeSync(fd);
  }
}

function readGpt(fd: number, size: number): Partition[] {
  const header = read(fd, SECTOR_BYTES, SECTOR_BYTES);
  if (header.toString('latin1', 0, 8) !== 'EFI PART') throw badTable('it has no header');
  const count = header.readUInt32LE(GPT.COUNT);
  const entryBytes = header.readUInt32LE(GPT.ENTRY_BYTES);
  const at = Number(header.readBigUInt64LE(GPT.ENTRIES_SECTOR)) * SECTOR_BYTES;
  const possible =
    count <= GPT_ENTRIES_MAX &&
    entryBytes >= 128 &&
    entryBytes <= GPT_ENTRY_BYTES_MAX &&
    entryBytes % 8 === 0 &&
    at + count * entryBytes <= size;
  if (!possible) throw badTable('its header is not possible');
  const table = read(fd, at, count * entryBytes);
  const partitions: Partition[] = [];
  for (let index = 0; index < count; index++) {
    const entry = table.subarray(index * entryBytes, (index + 1) * entryBytes);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const first = Number(entry.readBigUInt64LE(32));
    const last = Number(entry.readBigUInt64LE(40));
    partitions.push(...partition(index + 1, first, last - first + 1, size));
  }
  return partitions;
}

/** Nothing for a partition that is not within the disk. */
function partition(number: number, firstSector: number, sectors: number, size: number): Partition[] {
  const offset = firstSector * SECTOR_BYTES;
  const sizeBytes = sectors * SECTOR_BYTES;
  const inside = firstSector > 0 && sectors > 0 && offset + sizeBytes <= size;
  return inside ? [{ number, offset, sizeBytes }] : [];
}

function read(fd: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, position));
}

function badTable(what: string): AppError {
  return new AppError('bad_image', `the partition table of the disk is damaged: ${what}`, { field: 'disk' });
}
