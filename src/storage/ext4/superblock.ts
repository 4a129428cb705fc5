/**
 * The superblock of ext2, ext3 and ext4 (Linux, Documentation/filesystems/ext4/super.rst), 1 KiB from byte 1024 on: hostile
 * input. Numbers are little-endian.
 */
import type { ByteSource } from '../disk-source.ts';
import { damaged, unreadable } from './damaged.ts';

export const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_BYTES = 1024;
const MAGIC = 0xef53;
const AT = {
  INODES: 0x00,
  BLOCKS_LOW: 0x04,
  FIRST_DATA_BLOCK: 0x14,
  LOG_BLOCK_SIZE: 0x18,
  BLOCKS_PER_GROUP: 0x20,
  INODES_PER_GROUP: 0x28,
  MAGIC: 0x38,
  REVISION: 0x4c,
  INODE_SIZE: 0x58,
  COMPATIBLE: 0x5c,
  INCOMPATIBLE: 0x60,
  READ_ONLY_COMPATIBLE: 0x64,
  UUID: 0x68,
  LABEL: 0x78,
  JOURNAL_INODE: 0xe0,
  DESCRIPTOR_SIZE: 0xfe,
  FIRST_META_GROUP: 0x104,
  BLOCKS_HIGH: 0x150,
  BACKUP_GROUPS: 0x24c,
} as const;

const COMPATIBLE = { HAS_JOURNAL: 0x4, SPARSE_SUPER2: 0x200 } as const;
const READ_ONLY_COMPATIBLE = { SPARSE_SUPER: 0x1 } as const;
const INCOMPATIBLE = {
  COMPRESSION: 0x1,
  FILE_TYPE: 0x2,
  RECOVER: 0x4,
  JOURNAL_DEVICE: 0x8,
  META_GROUPS: 0x10,
  EXTENTS: 0x40,
  BITS_64: 0x80,
  MULTIPLE_MOUNT: 0x100,
  FLEXIBLE_GROUPS: 0x200,
  ATTRIBUTE_INODES: 0x400,
  CHECKSUM_SEED: 0x2000,
  LARGE_DIRECTORIES: 0x4000,
  INLINE_DATA: 0x8000,
  ENCRYPTION: 0x1_0000,
  CASE_FOLDING: 0x2_0000,
} as const;
/** Of a file system that has none of them: compression was never in Linux, and a device of a journal has no files. */
const READABLE =
  INCOMPATIBLE.FILE_TYPE |
  INCOMPATIBLE.RECOVER |
  INCOMPATIBLE.META_GROUPS |
  INCOMPATIBLE.EXTENTS |
  INCOMPATIBLE.BITS_64 |
  INCOMPATIBLE.MULTIPLE_MOUNT |
  INCOMPATIBLE.FLEXIBLE_GROUPS |
  INCOMPATIBLE.ATTRIBUTE_INODES |
  INCOMPATIBLE.CHECKSUM_SEED |
  INCOMPATIBLE.LARGE_DIRECTORIES |
  INCOMPATIBLE.INLINE_DATA |
  INCOMPATIBLE.ENCRYPTION |
  INCOMPATIBLE.CASE_FOLDING;

export interface Superblock {
  /** Told apart by what they have: extents and what came with them, a journal, or none of it. */
  readonly type: 'ext2' | 'ext3' | 'ext4';
  readonly label: string;
  readonly uuid: string;
  readonly blockBytes: number;
  readonly blocks: number;
  readonly firstDataBlock: number;
  readonly blocksPerGroup: number;
  readonly inodes: number;
  readonly inodesPerGroup: number;
  readonly inodeBytes: number;
  readonly descriptorBytes: number;
  /** Blocks of descriptors from this one on are in the groups that they describe; Infinity without that feature. */
  readonly firstMetaGroup: number;
  /** Whether a group begins with a copy of the superblock. */
  hasSuperblock(group: number): boolean;
  /** Of the journal's file; 0 when it is on another device. */
  readonly journalInode: number;
  /** The journal has what is not yet in its place. */
  readonly needsRecovery: boolean;
}

/** Undefined when there is no ext file system in `source`. `bad_file_system`, `unsupported`. */
export async function readSuperblock(source: ByteSource): Promise<Superblock | undefined> {
  if (source.sizeBytes < SUPERBLOCK_OFFSET + SUPERBLOCK_BYTES) return undefined;
  const bytes = Buffer.alloc(SUPERBLOCK_BYTES);
  await source.read(SUPERBLOCK_OFFSET, bytes);
  if (bytes.readUInt16LE(AT.MAGIC) !== MAGIC) return undefined;
  return parseSuperblock(bytes, source.sizeBytes);
}

/** @param bytes the block that has the superblock, from the superblock's start on */
export function parseSuperblock(bytes: Buffer, sizeBytes: number): Superblock {
  const incompatible = bytes.readUInt32LE(AT.INCOMPATIBLE);
  const compatible = bytes.readUInt32LE(AT.COMPATIBLE);
  const unknown = incompatible & ~READABLE;
  if (unknown !== 0) {
    throw unreadable(`the file system has features that cannot be read: 0x${(unknown >>> 0).toString(16)}`);
  }
  const has = (feature: number): boolean => (incompatible & feature) !== 0;
  const isOld = bytes.readUInt32LE(AT.REVISION) === 0;
  const hasJournal = (compatible & COMPATIBLE.HAS_JOURNAL) !== 0;
  const high = has(INCOMPATIBLE.BITS_64) ? bytes.readUInt32LE(AT.BLOCKS_HIGH) : 0;
  const superblock: Superblock = {
    type: has(INCOMPATIBLE.EXTENTS) ? 'ext4' : hasJournal ? 'ext3' : 'ext2',
    label: textOf(bytes.subarray(AT.LABEL, AT.LABEL + 16)),
    uuid: uuidOf(bytes.subarray(AT.UUID, AT.UUID + 16)),
    blockBytes: 1024 * 2 ** Math.min(bytes.readUInt32LE(AT.LOG_BLOCK_SIZE), 32),
    blocks: bytes.readUInt32LE(AT.BLOCKS_LOW) + high * 2 ** 32,
    firstDataBlock: bytes.readUInt32LE(AT.FIRST_DATA_BLOCK),
    blocksPerGroup: bytes.readUInt32LE(AT.BLOCKS_PER_GROUP),
    inodes: bytes.readUInt32LE(AT.INODES),
    inodesPerGroup: bytes.readUInt32LE(AT.INODES_PER_GROUP),
    inodeBytes: isOld ? 128 : bytes.readUInt16LE(AT.INODE_SIZE),
    descriptorBytes: has(INCOMPATIBLE.BITS_64) ? bytes.readUInt16LE(AT.DESCRIPTOR_SIZE) : 32,
    firstMetaGroup: has(INCOMPATIBLE.META_GROUPS)
      ? bytes.readUInt32LE(AT.FIRST_META_GROUP)
      : Number.POSITIVE_INFINITY,
    hasSuperblock: copiesOf(bytes, compatible),
    journalInode: bytes.readUInt32LE(AT.JOURNAL_INODE),
    needsRecovery: hasJournal && has(INCOMPATIBLE.RECOVER),
  };
  check(superblock, sizeBytes);
  return superblock;
}

function check(superblock: Superblock, sizeBytes: number): void {
  const { blockBytes, blocks, blocksPerGroup, inodes, inodesPerGroup } = superblock;
  const { inodeBytes, descriptorBytes, firstDataBlock } = superblock;
  if (blockBytes > 65_536) throw damaged('its superblock has an impossible size of blocks');
  if (blocks * blockBytes > sizeBytes) {
    throw damaged(`it has ${blocks} blocks of ${blockBytes} bytes, and its disk or partition is smaller`);
  }
  const isPossible =
    firstDataBlock < blocks &&
    blocksPerGroup > 0 &&
    blocksPerGroup <= blockBytes * 8 * 65_536 &&
    inodesPerGroup > 0 &&
    inodes > 0 &&
    inodeBytes >= 128 &&
    inodeBytes <= blockBytes &&
    isPowerOfTwo(inodeBytes) &&
    descriptorBytes >= 32 &&
    descriptorBytes <= blockBytes &&
    isPowerOfTwo(descriptorBytes);
  if (!isPossible) throw damaged('its superblock is not possible');
}

function copiesOf(bytes: Buffer, compatible: number): (group: number) => boolean {
  if ((compatible & COMPATIBLE.SPARSE_SUPER2) !== 0) {
    const groups = [0, bytes.readUInt32LE(AT.BACKUP_GROUPS), bytes.readUInt32LE(AT.BACKUP_GROUPS + 4)];
    return (group) => groups.includes(group);
  }
  const isSparse = (bytes.readUInt32LE(AT.READ_ONLY_COMPATIBLE) & READ_ONLY_COMPATIBLE.SPARSE_SUPER) !== 0;
  return (group) => !isSparse || group <= 1 || [3, 5, 7].some((base) => isPowerOf(group, base));
}

function isPowerOf(value: number, base: number): boolean {
  let power = base;
  while (power < value) power *= base;
  return power === value;
}

function isPowerOfTwo(value: number): boolean {
  return (value & (value - 1)) === 0;
}

function textOf(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

function uuidOf(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
