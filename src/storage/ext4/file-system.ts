/** Files out of an ext2, ext3 or ext4 file system, which is only read. All that is in it is hostile input. */
import { AppError } from '../../contracts/errors.ts';
import type { ByteSource } from '../disk-source.ts';
import { Blocks } from './blocks.ts';
import { damaged, unreadable } from './damaged.ts';
import { Directories, type DirectoryEntry } from './directory.ts';
import { type FileType, type Inode, Inodes, ROOT_INODE } from './inodes.ts';
import { journalCopies } from './journal.ts';
import { LOGICAL_BLOCKS_MAX, mapBlock } from './mapping.ts';
import { parseSuperblock, readSuperblock, SUPERBLOCK_OFFSET, type Superblock } from './superblock.ts';

/** As in Linux: more links in a path are a loop. */
const LINKS_MAX = 40;
const PATH_BYTES_MAX = 4096;

export interface FileEntry {
  /** What is no UTF-8 in it is U+FFFD. */
  readonly name: string;
  readonly type: FileType;
  readonly permissions: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Unix milliseconds. */
  readonly modifiedAt: number;
  /** Where a symbolic link leads. */
  readonly target: string | null;
}

export interface DirectoryPage {
  readonly entries: readonly FileEntry[];
  /** Where to go on; null at the end. */
  readonly next: number | null;
}

export interface OpenFile {
  readonly entry: FileEntry;
  /** Fills `into` from byte `offset` on; both are within the file. */
  read(offset: number, into: Buffer): Promise<void>;
}

export class Ext4 {
  readonly superblock: Superblock;
  readonly #blocks: Blocks;
  readonly #inodes: Inodes;
  readonly #directories: Directories;

  private constructor(superblock: Superblock, blocks: Blocks) {
    this.superblock = superblock;
    this.#blocks = blocks;
    this.#inodes = new Inodes(superblock, blocks);
    this.#directories = new Directories(blocks);
  }

  /** As it is after its journal. Undefined: there is none in `source`. `bad_file_system`, `unsupported`. */
  static async open(source: ByteSource): Promise<Ext4 | undefined> {
    const superblock = await readSuperblock(source);
    if (superblock === undefined) return undefined;
    const blocks = new Blocks(source, superblock);
    if (!superblock.needsRecovery) return new Ext4(superblock, blocks);
    if (superblock.journalInode === 0) throw unreadable("the file system's journal is on another device");
    const journal = await new Inodes(superblock, blocks).read(superblock.journalInode);
    blocks.overlay(await journalCopies(blocks, journal));
    const first = await blocks.read(Math.floor(SUPERBLOCK_OFFSET / superblock.blockBytes));
    const current = first.subarray(SUPERBLOCK_OFFSET % superblock.blockBytes);
    return new Ext4(parseSuperblock(current, source.sizeBytes), blocks);
  }

  /** What a path leads to. Links are followed within the file system, also the last one. `not_found`, `invalid_input`. */
  async stat(path: string): Promise<FileEntry> {
    const { inode, name } = await this.#walk(path);
    return await this.#entry(name, inode);
  }

  /** The entries of a directory; anything else is an entry by itself. @param from `next` of the page before; 0 for the first */
  async list(path: string, from: number, limit: number): Promise<DirectoryPage> {
    const { inode, name: own } = await this.#walk(path);
    if (inode.type !== 'directory') return { entries: [await this.#entry(own, inode)], next: null };
    this.#requireDirectory(inode, path);
    const entries: FileEntry[] = [];
    for await (const { name, inode: number, position } of this.#directories.entries(inode, from)) {
      if (entries.length === limit) return { entries, next: position };
      entries.push(await this.#entry(name.toString('utf8'), await this.#inodes.read(number)));
    }
    return { entries, next: null };
  }

  /** A regular file. */
  async openFile(path: string): Promise<OpenFile> {
    const { inode, name } = await this.#walk(path);
    if (inode.type !== 'file') {
      throw new AppError('invalid_input', `${JSON.stringify(path)} is no regular file but a ${inode.type}`, {
        field: 'path',
        remedy: inode.type === 'directory' ? 'list it, and name one of its files' : undefined,
      });
    }
    if (inode.isEncrypted) throw unreadable(`${JSON.stringify(path)} is encrypted by the guest`);
    if (inode.sizeBytes > LOGICAL_BLOCKS_MAX * this.#blocks.bytes) {
      throw damaged(`inode ${inode.number} is larger than any file`);
    }
    const entry = await this.#entry(name, inode);
    return { entry, read: (offset, into) => this.#read(inode, offset, into) };
  }

  async #entry(name: string, inode: Inode): Promise<FileEntry> {
    const { type, permissions, uid, gid, sizeBytes, modifiedAt } = inode;
    const isLink = type === 'symlink' && !inode.isEncrypted;
    const target = isLink ? (await this.#target(inode)).toString('utf8') : null;
    return { name, type, permissions, uid, gid, sizeBytes, modifiedAt, target };
  }

  /** Goes along a path as a process does whose root is the file system's: nothing leads out of it. */
  async #walk(path: string): Promise<{ readonly inode: Inode; readonly name: string }> {
    const root = await this.#inodes.read(ROOT_INODE);
    if (root.type !== 'directory') throw damaged('its root is no directory');
    let way: { readonly inode: Inode; readonly name: Buffer }[] = [];
    const rest = partsOf(Buffer.from(path)).reverse();
    let links = 0;
    for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
      const here = way.at(-1)?.inode ?? root;
      this.#requireDirectory(here, path);
      if (part.equals(DOTS)) {
        way.pop();
        continue;
      }
      const inode = await this.#inodes.read((await this.#find(here, part, path)).inode);
      if (inode.type !== 'symlink') {
        way.push({ inode, name: part });
        continue;
      }
      if (++links > LINKS_MAX) throw notThere(path, 'its symbolic links lead in a circle');
      const target = await this.#target(inode);
      if (target[0] === SLASH) way = [];
      rest.push(...partsOf(target).reverse());
    }
    const last = way.at(-1);
    return { inode: last?.inode ?? root, name: last?.name.toString('utf8') ?? '/' };
  }

  async #find(directory: Inode, name: Buffer, path: string): Promise<DirectoryEntry> {
    let alike: DirectoryEntry | undefined;
    const text = name.toString('utf8');
    for await (const entry of this.#directories.entries(directory)) {
      if (entry.name.equals(name)) return entry;
      // A name that is no UTF-8 can only be asked for as it is listed.
      if (text.includes('\ufffd') && entry.name.toString('utf8') === text) alike ??= entry;
    }
    if (alike !== undefined) return alike;
    throw notThere(path, `there is no ${JSON.stringify(text)}`);
  }

  async #target(inode: Inode): Promise<Buffer> {
    if (inode.isEncrypted) throw unreadable('a symbolic link is encrypted by the guest');
    if (inode.sizeBytes === 0 || inode.sizeBytes > PATH_BYTES_MAX) {
      throw damaged(`the symbolic link ${inode.number} has an impossible length`);
    }
    // Short ones are where others have the places of their blocks.
    if (inode.sizeBytes < inode.map.length && !inode.hasExtents && inode.inline === undefined) {
      return inode.map.subarray(0, inode.sizeBytes);
    }
    const target = Buffer.alloc(inode.sizeBytes);
    await this.#read(inode, 0, target);
    return target;
  }

  async #read(inode: Inode, offset: number, into: Buffer): Promise<void> {
    if (inode.inline !== undefined) {
      into.fill(0);
      into.set(Buffer.concat(inode.inline).subarray(offset, offset + into.length));
      return;
    }
    const { bytes: blockBytes } = this.#blocks;
    let at = 0;
    while (at < into.length) {
      const logical = Math.floor((offset + at) / blockBytes);
      const within = (offset + at) % blockBytes;
      const { block, count } = await mapBlock(this.#blocks, inode, logical);
      const piece = into.subarray(at, Math.min(into.length, at + count * blockBytes - within));
      if (block === undefined) piece.fill(0);
      else if (within === 0) await this.#blocks.readRun(block, piece);
      else {
        const whole = Buffer.alloc(within + piece.length);
        await this.#blocks.readRun(block, whole);
        whole.copy(piece, 0, within);
      }
      at += piece.length;
    }
  }

  #requireDirectory(inode: Inode, path: string): void {
    if (inode.type !== 'directory') throw notThere(path, `inode ${inode.number} on its way is no directory`);
    if (inode.isEncrypted)
      throw unreadable(`a directory of ${JSON.stringify(path)} is encrypted by the guest`);
  }
}

const SLASH = 0x2f;
const DOTS = Buffer.from('..');

/** Components of a path; `.` and empty ones are none. */
function partsOf(path: Buffer): Buffer[] {
  if (path.length > PATH_BYTES_MAX) {
    throw new AppError('invalid_input', `the path has more than ${PATH_BYTES_MAX} bytes`, { field: 'path' });
  }
  const parts: Buffer[] = [];
  let start = 0;
  while (start <= path.length) {
    const slash = path.indexOf(SLASH, start);
    const end = slash < 0 ? path.length : slash;
    const part = path.subarray(start, end);
    if (part.length > 0 && !(part.length === 1 && part[0] === 0x2e)) parts.push(part);
    start = end + 1;
  }
  return parts;
}

function notThere(path: string, why: string): AppError {
  return new AppError('not_found', `${JSON.stringify(path)} is not in the file system: ${why}`, {
    field: 'path',
    remedy: 'list its directory to see what there is',
  });
}
