/** Where the data of a file is: extents (Linux, Documentation/filesystems/ext4/ifork.rst), or the older map of blocks. */
import type { Blocks } from './blocks.ts';
import { damaged } from './damaged.ts';
import type { Inode } from './inodes.ts';

/** `count` blocks of the file from the one that was asked for on: in blocks from `block` on, or zeros. */
export interface Run {
  readonly block: number | undefined;
  /** At least 1. */
  readonly count: number;
}

const EXTENTS = { MAGIC: 0xf30a, HEADER_BYTES: 12, ENTRY_BYTES: 12, DEPTH_MAX: 5 } as const;
/** Longer ones are reserved and not written: they read as zeros. */
const WRITTEN_MAX = 32_768;
/** No file has more: logical blocks have 32 bits. */
export const LOGICAL_BLOCKS_MAX = 2 ** 32;

const DIRECT = 12;
const POINTER_BYTES = 4;

/** Block `logical` of a file and those after it that are of one piece with it. */
export async function mapBlock(blocks: Blocks, inode: Inode, logical: number): Promise<Run> {
  if (logical >= LOGICAL_BLOCKS_MAX) throw damaged(`inode ${inode.number} is larger than any file`);
  const run = inode.hasExtents
    ? await mapExtent(blocks, inode, logical)
    : await mapPointers(blocks, inode, logical);
  if (run.block !== undefined) blocks.require(run.block, run.count);
  return run;
}

async function mapExtent(blocks: Blocks, inode: Inode, logical: number): Promise<Run> {
  let node: Buffer = inode.map;
  let depth = EXTENTS.DEPTH_MAX + 1;
  let limit = LOGICAL_BLOCKS_MAX;
  for (;;) {
    const count = entriesOf(node, inode);
    const found = node.readUInt16LE(6);
    // Below the root, each level is one less deep.
    const isPossible = node === inode.map ? found < depth : found === depth - 1;
    if (!isPossible) throw damaged(`the extents of inode ${inode.number} are too deep`);
    depth = found;
    // The last that does not begin behind `logical`; entries are sorted.
    let index = 0;
    while (index < count && firstOf(node, index) <= logical) index++;
    if (index < count) limit = Math.min(limit, firstOf(node, index));
    if (index === 0) return { block: undefined, count: limit - logical };
    const at = placeOf(index - 1);
    if (depth === 0) return ofLeaf(node, at, logical, limit);
    node = await blocks.read(node.readUInt32LE(at + 4) + node.readUInt16LE(at + 8) * 2 ** 32);
  }
}

function ofLeaf(node: Buffer, at: number, logical: number, limit: number): Run {
  const first = node.readUInt32LE(at);
  const length = node.readUInt16LE(at + 4);
  const isWritten = length <= WRITTEN_MAX;
  const end = first + (isWritten ? length : length - WRITTEN_MAX);
  if (logical >= end) return { block: undefined, count: limit - logical };
  const count = Math.min(end, limit) - logical;
  const block = node.readUInt32LE(at + 8) + node.readUInt16LE(at + 6) * 2 ** 32 + (logical - first);
  return { block: isWritten ? block : undefined, count };
}

function entriesOf(node: Buffer, inode: Inode): number {
  const count = node.readUInt16LE(2);
  const capacity = Math.floor((node.length - EXTENTS.HEADER_BYTES) / EXTENTS.ENTRY_BYTES);
  if (node.readUInt16LE(0) === EXTENTS.MAGIC && count <= capacity) return count;
  throw damaged(`the extents of inode ${inode.number} are none`);
}

function placeOf(index: number): number {
  return EXTENTS.HEADER_BYTES + index * EXTENTS.ENTRY_BYTES;
}

/** The first logical block of an entry. */
function firstOf(node: Buffer, index: number): number {
  return node.readUInt32LE(placeOf(index));
}

async function mapPointers(blocks: Blocks, inode: Inode, logical: number): Promise<Run> {
  const perBlock = blocks.bytes / POINTER_BYTES;
  if (logical < DIRECT) return runIn(inode.map, logical, DIRECT);
  let rest = logical - DIRECT;
  for (let level = 1; level <= 3; level++) {
    const span = perBlock ** level;
    if (rest < span) {
      const top = inode.map.readUInt32LE((DIRECT - 1 + level) * POINTER_BYTES);
      return await descend(blocks, top, level, rest, perBlock);
    }
    rest -= span;
  }
  throw damaged(`inode ${inode.number} is larger than any file`);
}

async function descend(
  blocks: Blocks,
  top: number,
  levels: number,
  logical: number,
  perBlock: number,
): Promise<Run> {
  let pointer = top;
  let rest = logical;
  for (let level = levels; level > 0; level--) {
    const below = perBlock ** (level - 1);
    if (pointer === 0) return { block: undefined, count: perBlock ** level - rest };
    const node = await blocks.read(pointer);
    const index = Math.floor(rest / below);
    if (level === 1) return runIn(node, index, perBlock);
    pointer = node.readUInt32LE(index * POINTER_BYTES);
    rest %= below;
  }
  throw new Error('not reached: level 1 returns');
}

/** Pointers from `index` on that follow each other, or are all holes. */
function runIn(pointers: Buffer, index: number, end: number): Run {
  const first = pointers.readUInt32LE(index * POINTER_BYTES);
  let count = 1;
  while (index + count < end) {
    const next = pointers.readUInt32LE((index + count) * POINTER_BYTES);
    if (next !== (first === 0 ? 0 : first + count)) break;
    count++;
  }
  return { block: first === 0 ? undefined : first, count };
}
