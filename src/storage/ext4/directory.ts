/**
 * The entries of a directory (Linux, Documentation/filesystems/ext4/directory.rst): hostile input. Hashed directories are read
 * as linear ones, which they are too: blocks of the tree look like unused entries.
 */
import type { Blocks } from './blocks.ts';
import { damaged } from './damaged.ts';
import type { Inode } from './inodes.ts';
import { mapBlock } from './mapping.ts';

export interface DirectoryEntry {
  readonly name: Buffer;
  readonly inode: number;
  /** Bytes from the directory's start: the next one is behind it. */
  readonly position: number;
}

const HEADER_BYTES = 8;
/** An inline directory begins with its parent's inode; `.` and `..` are not written. */
const INLINE_PARENT_BYTES = 4;

/** Blocks of directories that one request may look at: against directories that are huge, or within themselves. */
const BLOCKS_MAX = 2 ** 18;

export class Directories {
  readonly #blocks: Blocks;
  #looked = 0;

  constructor(blocks: Blocks) {
    this.#blocks = blocks;
  }

  /** Its entries but `.` and `..`, those at `from` or behind. `bad_file_system`. */
  async *entries(inode: Inode, from = 0): AsyncGenerator<DirectoryEntry> {
    for await (const { bytes, position } of this.#pieces(inode, from)) {
      for (const entry of entriesOf(bytes, position, inode)) {
        if (entry.position >= from && !isDots(entry.name)) yield entry;
      }
    }
  }

  async *#pieces(
    inode: Inode,
    from: number,
  ): AsyncGenerator<{ readonly bytes: Buffer; readonly position: number }> {
    if (inode.inline !== undefined) {
      const [map = Buffer.alloc(0), attribute = Buffer.alloc(0)] = inode.inline;
      yield { bytes: map.subarray(INLINE_PARENT_BYTES), position: INLINE_PARENT_BYTES };
      yield { bytes: attribute, position: map.length };
      return;
    }
    const { bytes: blockBytes } = this.#blocks;
    const end = Math.ceil(inode.sizeBytes / blockBytes);
    let logical = Math.floor(from / blockBytes);
    while (logical < end) {
      const run = await mapBlock(this.#blocks, inode, logical);
      const { block } = run;
      const count = Math.min(run.count, end - logical);
      this.#spend(block === undefined ? 1 : count, inode);
      if (block !== undefined) {
        for (let index = 0; index < count; index++) {
          const position = (logical + index) * blockBytes;
          yield { bytes: await this.#blocks.read(block + index), position };
        }
      }
      logical += count;
    }
  }

  #spend(blocks: number, inode: Inode): void {
    this.#looked += blocks;
    if (this.#looked > BLOCKS_MAX) throw damaged(`directories up to inode ${inode.number} have no end`);
  }
}

function* entriesOf(bytes: Buffer, position: number, inode: Inode): Generator<DirectoryEntry> {
  let at = 0;
  while (at + HEADER_BYTES <= bytes.length) {
    const stored = bytes.readUInt16LE(at + 4);
    // In blocks of 64 KiB, 16 bits do not tell their length.
    const isWhole = bytes.length === 65_536 && (stored === 0 || stored === 65_535);
    const length = isWhole ? bytes.length : stored;
    const nameBytes = bytes.readUInt8(at + 6);
    const number = bytes.readUInt32LE(at);
    const isPossible =
      length >= HEADER_BYTES &&
      length % 4 === 0 &&
      at + length <= bytes.length &&
      nameBytes <= length - HEADER_BYTES;
    if (!isPossible) throw damaged(`directory ${inode.number} is damaged at byte ${position + at}`);
    if (number !== 0 && nameBytes > 0) {
      const name = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + nameBytes);
      yield { name: Buffer.from(name), inode: number, position: position + at };
    }
    at += length;
  }
}

function isDots(name: Buffer): boolean {
  return name.length <= 2 && name.every((byte) => byte === 0x2e);
}
