/**
 * What the journal of a file system has that is not yet in its place (Linux, Documentation/filesystems/ext4/journal.rst): a
 * file system that was in use at the moment of the backup is whole only together with it. Nothing is written: the result
 * says where the newest copy of a block is. The journal is big-endian, and hostile input.
 */
import { type Blocks, JOURNAL_MAGIC, type JournalCopy } from './blocks.ts';
import { damaged, unreadable } from './damaged.ts';
import type { Inode } from './inodes.ts';
import { mapBlock } from './mapping.ts';

const BLOCK_TYPE = { DESCRIPTOR: 1, COMMIT: 2, SUPERBLOCK_V1: 3, SUPERBLOCK_V2: 4, REVOKE: 5 } as const;
const FEATURE = {
  REVOKE: 1,
  BITS_64: 2,
  ASYNC_COMMIT: 4,
  CHECKSUM_V2: 8,
  CHECKSUM_V3: 16,
  FAST_COMMIT: 32,
} as const;
const READABLE = 63;
const TAG = { ESCAPED: 1, SAME_UUID: 2, DELETED: 4, LAST: 8 } as const;
const HEADER_BYTES = 12;
const REVOKE_HEADER_BYTES = 16;
const CHECKSUM_TAIL_BYTES = 4;
const UUID_BYTES = 16;
const FAST_COMMIT_BLOCKS = 256;
/** So many blocks of the log are looked at. mke2fs makes journals of up to 1 GiB by itself, which are 2^18 blocks. */
const LOG_BLOCKS_MAX = 2 ** 20;

interface Log {
  readonly features: number;
  /** Its first block, and the one behind its last. */
  readonly first: number;
  readonly end: number;
  /** Where the oldest transaction begins, and its number. 0: the log is empty. */
  readonly start: number;
  readonly sequence: number;
}

interface Transaction {
  readonly sequence: number;
  readonly copies: [block: number, copy: JournalCopy][];
  readonly revoked: number[];
}

/** The newest copies of blocks that are in the journal. `bad_file_system`, `unsupported`. */
export async function journalCopies(blocks: Blocks, inode: Inode): Promise<Map<number, JournalCopy>> {
  const log = parseLog(await readLog(blocks, inode, 0), blocks, inode);
  const committed = log.start === 0 ? [] : await new LogReader(blocks, inode, log).transactions();
  const revokes = new Map<number, number>();
  for (const { sequence, revoked } of committed) for (const block of revoked) revokes.set(block, sequence);
  const copies = new Map<number, JournalCopy>();
  for (const { sequence, copies: written } of committed) {
    for (const [block, copy] of written) {
      const revoke = revokes.get(block);
      if (revoke !== undefined && ((sequence - revoke) | 0) <= 0) copies.delete(block);
      else copies.set(block, copy);
    }
  }
  return copies;
}

function parseLog(superblock: Buffer, blocks: Blocks, inode: Inode): Log {
  const type = superblock.readUInt32BE(4);
  const isJournal =
    superblock.readUInt32BE(0) === JOURNAL_MAGIC &&
    (type === BLOCK_TYPE.SUPERBLOCK_V1 || type === BLOCK_TYPE.SUPERBLOCK_V2);
  if (!isJournal || superblock.readUInt32BE(12) !== blocks.bytes) throw damaged('its journal is none');
  const features = type === BLOCK_TYPE.SUPERBLOCK_V2 ? superblock.readUInt32BE(40) : 0;
  if ((features & ~READABLE) !== 0) throw unreadable('the journal of the file system has unknown features');
  const first = superblock.readUInt32BE(20);
  const start = superblock.readUInt32BE(28);
  const fast = (features & FEATURE.FAST_COMMIT) === 0 ? 0 : superblock.readUInt32BE(84) || FAST_COMMIT_BLOCKS;
  const end = superblock.readUInt32BE(16) - fast;
  const isPossible =
    first > 0 &&
    first < end &&
    (start === 0 || (start >= first && start < end)) &&
    end * blocks.bytes <= inode.sizeBytes;
  if (!isPossible) throw damaged('its journal is not possible');
  return { features, first, end, start, sequence: superblock.readUInt32BE(24) };
}

/** Block `logical` of the journal's file. */
async function readLog(blocks: Blocks, inode: Inode, logical: number): Promise<Buffer> {
  return await blocks.read(await placeOf(blocks, inode, logical));
}

async function placeOf(blocks: Blocks, inode: Inode, logical: number): Promise<number> {
  const { block } = await mapBlock(blocks, inode, logical);
  if (block === undefined) throw damaged('its journal has a hole');
  return block;
}

class LogReader {
  readonly #blocks: Blocks;
  readonly #inode: Inode;
  readonly #log: Log;
  #at: number;
  #looked = 0;

  constructor(blocks: Blocks, inode: Inode, log: Log) {
    this.#blocks = blocks;
    this.#inode = inode;
    this.#log = log;
    this.#at = log.start;
  }

  /** Those that were committed: the log ends where what follows is of no or of another transaction. */
  async transactions(): Promise<Transaction[]> {
    const committed: Transaction[] = [];
    let current = this.#begin(this.#log.sequence);
    for (;;) {
      const block = await readLog(this.#blocks, this.#inode, this.#at);
      const isOfThis = block.readUInt32BE(0) === JOURNAL_MAGIC && block.readUInt32BE(8) === current.sequence;
      if (!isOfThis || !this.#advance(1)) return committed;
      const type = block.readUInt32BE(4);
      if (type === BLOCK_TYPE.DESCRIPTOR) {
        if (!(await this.#describe(block, current))) return committed;
      } else if (type === BLOCK_TYPE.REVOKE) this.#revoke(block, current);
      else if (type === BLOCK_TYPE.COMMIT) {
        committed.push(current);
        current = this.#begin((current.sequence + 1) >>> 0);
      } else return committed;
    }
  }

  #begin(sequence: number): Transaction {
    return { sequence, copies: [], revoked: [] };
  }

  /** Goes on in the log, which is a ring. False when it has been gone through once. */
  #advance(count: number): boolean {
    const { first, end } = this.#log;
    this.#looked += count;
    if (this.#looked > LOG_BLOCKS_MAX) throw unreadable('the journal of the file system is too large');
    this.#at += count;
    while (this.#at >= end) this.#at -= end - first;
    return this.#looked <= end - first;
  }

  /** A list of blocks, whose copies follow it. */
  async #describe(block: Buffer, { copies }: Transaction): Promise<boolean> {
    for (const { target, flags } of this.#tags(block)) {
      if ((flags & TAG.DELETED) === 0) {
        const place = await placeOf(this.#blocks, this.#inode, this.#at);
        copies.push([target, { block: place, isEscaped: (flags & TAG.ESCAPED) !== 0 }]);
      }
      if (!this.#advance(1)) return false;
    }
    return true;
  }

  *#tags(block: Buffer): Generator<{ readonly target: number; readonly flags: number }> {
    const { features } = this.#log;
    const is64 = (features & FEATURE.BITS_64) !== 0;
    const isV3 = (features & FEATURE.CHECKSUM_V3) !== 0;
    const isV2 = (features & FEATURE.CHECKSUM_V2) !== 0;
    const tagBytes = isV3 ? 16 : (is64 ? 12 : 8) + (isV2 ? 2 : 0);
    const end = block.length - (isV2 || isV3 ? CHECKSUM_TAIL_BYTES : 0);
    let at = HEADER_BYTES;
    while (at + tagBytes <= end) {
      const flags = isV3 ? block.readUInt32BE(at + 4) : block.readUInt16BE(at + 6);
      const high = is64 ? block.readUInt32BE(at + 8) : 0;
      yield { target: block.readUInt32BE(at) + high * 2 ** 32, flags };
      if ((flags & TAG.LAST) !== 0) return;
      at += tagBytes + ((flags & TAG.SAME_UUID) === 0 ? UUID_BYTES : 0);
    }
  }

  /** Blocks whose older copies are not to be used: they have become something else since. */
  #revoke(block: Buffer, { revoked }: Transaction): void {
    const is64 = (this.#log.features & FEATURE.BITS_64) !== 0;
    const end = Math.min(block.readUInt32BE(12), block.length);
    const entryBytes = is64 ? 8 : 4;
    for (let at = REVOKE_HEADER_BYTES; at + entryBytes <= end; at += entryBytes) {
      const number = is64 ? Number(block.readBigUInt64BE(at)) : block.readUInt32BE(at);
      revoked.push(number);
    }
  }
}
