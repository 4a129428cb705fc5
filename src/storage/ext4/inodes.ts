/** Inodes (Linux, Documentation/filesystems/ext4/inodes.rst and group_descr.rst): hostile input. */
import type { Blocks } from './blocks.ts';
import { damaged } from './damaged.ts';
import { SUPERBLOCK_OFFSET, type Superblock } from './superblock.ts';

export const ROOT_INODE = 2;

export const FILE_TYPES = {
  0x1: 'fifo',
  0x2: 'character-device',
  0x4: 'directory',
  0x6: 'block-device',
  0x8: 'file',
  0xa: 'symlink',
  0xc: 'socket',
} as const;
export type FileType = (typeof FILE_TYPES)[keyof typeof FILE_TYPES];

const FLAG = { ENCRYPTED: 0x800, EXTENTS: 0x8_0000, INLINE_DATA: 0x1000_0000 } as const;
const MAP = { OFFSET: 40, BYTES: 60 } as const;
const GOOD_OLD_BYTES = 128;

/** Extended attributes within an inode (attributes.rst). */
const ATTRIBUTES = { MAGIC: 0xea02_0000, ENTRY_BYTES: 16, SYSTEM: 7 } as const;

export interface Inode {
  readonly number: number;
  readonly type: FileType;
  /** Permissions, with the bits for set-uid, set-gid and sticky. */
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Unix milliseconds. */
  readonly modifiedAt: number;
  readonly isEncrypted: boolean;
  readonly hasExtents: boolean;
  /** The 60 bytes of the inode that say where its data is. */
  readonly map: Buffer;
  /** What is in the inode itself: as much as `map` has, and what an attribute has. Undefined: it is in blocks. */
  readonly inline: readonly Buffer[] | undefined;
}

export class Inodes {
  readonly #superblock: Superblock;
  readonly #blocks: Blocks;

  constructor(superblock: Superblock, blocks: Blocks) {
    this.#superblock = superblock;
    this.#blocks = blocks;
  }

  async read(number: number): Promise<Inode> {
    const { inodes, inodesPerGroup, inodeBytes, blockBytes } = this.#superblock;
    if (number < 1 || number > inodes) throw damaged(`it refers to inode ${number}, and has ${inodes}`);
    const table = await this.#table(Math.floor((number - 1) / inodesPerGroup));
    const offset = ((number - 1) % inodesPerGroup) * inodeBytes;
    const block = await this.#blocks.read(table + Math.floor(offset / blockBytes));
    const at = offset % blockBytes;
    return parse(number, block.subarray(at, at + inodeBytes));
  }

  /** The first block of a group's table of inodes. */
  async #table(group: number): Promise<number> {
    const { descriptorBytes, blockBytes } = this.#superblock;
    const perBlock = blockBytes / descriptorBytes;
    const block = await this.#blocks.read(this.#descriptorBlock(Math.floor(group / perBlock), perBlock));
    const descriptor = block.subarray((group % perBlock) * descriptorBytes);
    const high = descriptorBytes >= 64 ? descriptor.readUInt32LE(0x28) : 0;
    return descriptor.readUInt32LE(0x08) + high * 2 ** 32;
  }

  /** Where block `index` of the descriptors is: after the superblock, or in the first of the groups that it describes. */
  #descriptorBlock(index: number, perBlock: number): number {
    const { firstMetaGroup, firstDataBlock, blocksPerGroup, blockBytes } = this.#superblock;
    const superblockAt = Math.floor(SUPERBLOCK_OFFSET / blockBytes);
    if (index < firstMetaGroup) return superblockAt + 1 + index;
    const group = index * perBlock;
    const first = firstDataBlock + group * blocksPerGroup;
    if (group === 0) return superblockAt + 1;
    return first + (this.#superblock.hasSuperblock(group) ? 1 : 0);
  }
}

function parse(number: number, bytes: Buffer): Inode {
  const mode = bytes.readUInt16LE(0);
  const type = typeOf(mode >> 12);
  if (type === undefined) throw damaged(`inode ${number} is of no type`);
  const flags = bytes.readUInt32LE(32);
  const map = Buffer.from(bytes.subarray(MAP.OFFSET, MAP.OFFSET + MAP.BYTES));
  const sizeBytes = bytes.readUInt32LE(4) + bytes.readUInt32LE(108) * 2 ** 32;
  if (!Number.isSafeInteger(sizeBytes)) throw damaged(`inode ${number} has an impossible size`);
  return {
    number,
    type,
    permissions: mode & 0o7777,
    uid: bytes.readUInt16LE(2) + bytes.readUInt16LE(120) * 65_536,
    gid: bytes.readUInt16LE(24) + bytes.readUInt16LE(122) * 65_536,
    sizeBytes,
    modifiedAt: modifiedAt(bytes),
    isEncrypted: (flags & FLAG.ENCRYPTED) !== 0,
    hasExtents: (flags & FLAG.EXTENTS) !== 0,
    map,
    inline: (flags & FLAG.INLINE_DATA) !== 0 ? [map, inlineAttribute(bytes)] : undefined,
  };
}

function typeOf(code: number): FileType | undefined {
  return Object.entries(FILE_TYPES).find(([known]) => Number(known) === code)?.[1];
}

function extraBytes(bytes: Buffer): number {
  return bytes.length > GOOD_OLD_BYTES ? bytes.readUInt16LE(GOOD_OLD_BYTES) : 0;
}

/** Seconds are signed; two bits of an extra field carry them beyond 2038, and 30 are nanoseconds. */
function modifiedAt(bytes: Buffer): number {
  const seconds = bytes.readInt32LE(16);
  if (extraBytes(bytes) < 12 || bytes.length < 140) return seconds * 1000;
  const extra = bytes.readUInt32LE(136);
  return (seconds + (extra & 3) * 2 ** 32) * 1000 + Math.floor((extra >>> 2) / 1e6);
}

/** The value of the attribute `system.data`. Empty when there is none. */
function inlineAttribute(bytes: Buffer): Buffer {
  const start = GOOD_OLD_BYTES + extraBytes(bytes);
  if (start + 4 > bytes.length || bytes.readUInt32LE(start) !== ATTRIBUTES.MAGIC) return Buffer.alloc(0);
  const entries = bytes.subarray(start + 4);
  let at = 0;
  while (at + ATTRIBUTES.ENTRY_BYTES <= entries.length && entries.readUInt32LE(at) !== 0) {
    const nameBytes = entries.readUInt8(at);
    const name = entries.toString(
      'latin1',
      at + ATTRIBUTES.ENTRY_BYTES,
      at + ATTRIBUTES.ENTRY_BYTES + nameBytes,
    );
    if (entries.readUInt8(at + 1) === ATTRIBUTES.SYSTEM && name === 'data') {
      const offset = entries.readUInt16LE(at + 2);
      return Buffer.from(entries.subarray(offset, offset + entries.readUInt32LE(at + 8)));
    }
    at += (ATTRIBUTES.ENTRY_BYTES + nameBytes + 3) & ~3;
  }
  return Buffer.alloc(0);
}
