/** The blocks of a file system as they are after what its journal says, read through a small cache. */
import type { ByteSource } from '../disk-source.ts';
import { damaged } from './damaged.ts';
import type { Superblock } from './superblock.ts';

/** Memory of the cache. */
const CACHE_BYTES = 8 << 20;

/** What the journal has in place of a block. */
export interface JournalCopy {
  /** The block that has it. */
  readonly block: number;
  /** Its first four bytes were the journal's magic number, and are zeros in the copy. */
  readonly isEscaped: boolean;
}

export const JOURNAL_MAGIC = 0xc03b3998;

export class Blocks {
  readonly bytes: number;
  readonly count: number;
  readonly #source: ByteSource;
  readonly #cache = new Map<number, Buffer>();
  #copies: ReadonlyMap<number, JournalCopy> = new Map();

  constructor(source: ByteSource, { blockBytes, blocks }: Superblock) {
    this.#source = source;
    this.bytes = blockBytes;
    this.count = blocks;
  }

  /** From now on blocks are read as they are when the journal has been replayed. */
  overlay(copies: ReadonlyMap<number, JournalCopy>): void {
    this.#copies = copies;
    this.#cache.clear();
  }

  /** A block of metadata; not to be changed. */
  async read(block: number): Promise<Buffer> {
    const known = this.#cache.get(block);
    if (known !== undefined) {
      this.#cache.delete(block);
      this.#cache.set(block, known);
      return known;
    }
    const bytes = Buffer.alloc(this.bytes);
    await this.readRun(block, bytes);
    this.#cache.set(block, bytes);
    if (this.#cache.size * this.bytes > CACHE_BYTES) {
      for (const oldest of this.#cache.keys()) {
        this.#cache.delete(oldest);
        break;
      }
    }
    return bytes;
  }

  /** Blocks that follow each other from `block` on; `into` need not end with a whole one. */
  async readRun(block: number, into: Buffer): Promise<void> {
    const count = Math.ceil(into.length / this.bytes);
    this.require(block, count);
    let at = 0;
    while (at < count) {
      const copy = this.#copies.get(block + at);
      let end = at + 1;
      if (copy === undefined) while (end < count && !this.#copies.has(block + end)) end++;
      const piece = into.subarray(at * this.bytes, end * this.bytes);
      await this.#source.read((copy?.block ?? block + at) * this.bytes, piece);
      if (copy?.isEscaped === true && piece.length >= 4) piece.writeUInt32BE(JOURNAL_MAGIC, 0);
      at = end;
    }
  }

  require(block: number, count: number): void {
    if (block > 0 && count > 0 && block + count <= this.count) return;
    if (block === 0 && count === 1) return;
    throw damaged(`it refers to block ${block}, and has ${this.count}`);
  }
}
