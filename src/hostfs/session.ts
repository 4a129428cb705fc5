/** What a client of a share has: its fids, and what files it has open. */
import type { IdRange } from '../contracts/machine.ts';
import {
  AT,
  changeMode,
  changeOwner,
  closeFd,
  type CName,
  EMPTY_NAME,
  ERRNO,
  Errno,
  fdPath,
  O,
  openAt,
  S,
  type Stat,
  statAt,
} from './libc.ts';
import { IdMap } from './owners.ts';
import { type Entry, isFolder, type Place, Tree } from './tree.ts';
import { NO_FID, type Qid, QID_TYPE } from './wire.ts';

export const MESSAGE_BYTES_MAX = 1 << 20;
export const MESSAGE_BYTES_MIN = 4096;
/** So much of the daemon's memory and descriptors one client can take. */
const FIDS_MAX = 1 << 18;
const OPEN_MAX = 2048;
/** File systems within a share that are told apart. */
const DEVICES_MAX = 0xffff;
const SET_ID = 0o6000;

export interface SessionOptions {
  /** Absolute path. */
  readonly folder: string;
  readonly readOnly: boolean;
  readonly uidMap: readonly IdRange[];
  readonly gidMap: readonly IdRange[];
  /** Set-user-id and set-group-id bits that the guest sets are set on the host's files too. */
  readonly setId: boolean;
  /** Every write is at the end of its file. */
  readonly append: boolean;
  /** See `Tree`. */
  readonly mustAnswer: boolean;
}

/** An open file or folder. */
export interface OpenFile {
  readonly fd: number;
  /** Where the next entry of a folder is read from. */
  position: bigint;
}

/** An extended attribute that is read, or written until the fid is clunked. */
export interface OpenAttribute {
  readonly name: CName;
  readonly value: Uint8Array;
  /** Only for writing: XATTR_CREATE, XATTR_REPLACE. */
  readonly flags: number | undefined;
}

export interface Fid {
  entry: Entry;
  /** The guest's user who has attached. */
  readonly uid: number;
  file: OpenFile | undefined;
  attribute: OpenAttribute | undefined;
}

export class Session {
  readonly tree: Tree;
  readonly readOnly: boolean;
  readonly append: boolean;
  readonly uids: IdMap;
  readonly gids: IdMap;
  messageBytes = MESSAGE_BYTES_MAX;
  readonly #setId: boolean;
  readonly #fids = new Map<number, Fid>();
  /** By the host's device number: a number of its own for each file system in the share. */
  readonly #devices = new Map<number, bigint>();
  #open = 0;

  /** Throws Errno. */
  constructor({ folder, readOnly, uidMap, gidMap, setId, append, mustAnswer }: SessionOptions) {
    this.tree = new Tree(folder, mustAnswer);
    this.readOnly = readOnly;
    this.append = append;
    this.uids = new IdMap(uidMap);
    this.gids = new IdMap(gidMap);
    this.#setId = setId;
  }

  fid(number: number): Fid {
    const fid = this.#fids.get(number);
    if (fid === undefined) throw new Errno(ERRNO.EBADF, 'no such fid');
    return fid;
  }

  /** Takes a number that is free. Holds the entry. */
  add(number: number, entry: Entry, uid: number): Fid {
    this.requireFree(number);
    const fid: Fid = { entry, uid, file: undefined, attribute: undefined };
    this.tree.hold(entry);
    this.#fids.set(number, fid);
    return fid;
  }

  requireFree(number: number): void {
    if (number === NO_FID || this.#fids.has(number)) throw new Errno(ERRNO.EBADF, 'fid in use');
    if (this.#fids.size >= FIDS_MAX) throw new Errno(ERRNO.ENFILE, 'too many fids');
  }

  /** Lets a fid stand for another file. */
  move(fid: Fid, entry: Entry): void {
    this.tree.hold(entry);
    this.tree.release(fid.entry);
    fid.entry = entry;
  }

  remove(number: number): void {
    const fid = this.fid(number);
    this.#fids.delete(number);
    this.#closeFile(fid);
    this.tree.release(fid.entry);
  }

  reset(): void {
    for (const number of [...this.#fids.keys()]) this.remove(number);
  }

  close(): void {
    this.reset();
    this.tree.close();
  }

  requireWritable(): void {
    if (this.readOnly) throw new Errno(ERRNO.EROFS, 'share is read-only');
  }

  /** The open file of a fid. */
  file(fid: Fid): OpenFile {
    if (fid.file === undefined) throw new Errno(ERRNO.EBADF, 'not open');
    return fid.file;
  }

  requireRoomToOpen(fid: Fid): void {
    if (fid.file !== undefined || fid.attribute !== undefined) throw new Errno(ERRNO.EBADF, 'open already');
    if (this.#open >= OPEN_MAX) throw new Errno(ERRNO.EMFILE, 'too many open files');
  }

  opened(fid: Fid, fd: number): void {
    this.#open++;
    fid.file = { fd, position: 0n };
    fid.entry.open.add(fd);
  }

  #closeFile({ file, entry }: Fid): void {
    if (file === undefined) return;
    entry.open.delete(file.fd);
    closeFd(file.fd);
    this.#open--;
  }

  /** What a fid's file is now, also when it has no name any more. */
  stat(fid: Fid): Stat {
    const fd = openDescriptor(fid);
    if (fd !== undefined) return statAt(fd, EMPTY_NAME, AT.EMPTY_PATH);
    const { dir, name } = this.tree.place(fid.entry);
    return statAt(dir, name, AT.SYMLINK_NOFOLLOW);
  }

  /** Where calls that do not follow a symbolic link find a fid's file. */
  placeOf(fid: Fid): Place & { readonly flags: number } {
    const fd = openDescriptor(fid);
    if (fd !== undefined) return { dir: AT.FDCWD, name: fdPath(fd), flags: 0 };
    return { ...this.tree.place(fid.entry), flags: AT.SYMLINK_NOFOLLOW };
  }

  /**
   * For calls that would follow a symbolic link: `use` gets a name of exactly the file that the fid stands for, and
   * what it is. A symbolic link itself may be it.
   */
  pinned<Result>(fid: Fid, use: (name: CName, stat: Stat) => Result): Result {
    const opened = openDescriptor(fid);
    if (opened !== undefined) return use(fdPath(opened), statAt(opened, EMPTY_NAME, AT.EMPTY_PATH));
    const { dir, name } = this.tree.place(fid.entry);
    const fd = openAt(dir, name, O.PATH | O.NOFOLLOW);
    try {
      return use(fdPath(fd), statAt(fd, EMPTY_NAME, AT.EMPTY_PATH));
    } finally {
      closeFd(fd);
    }
  }

  /** Opens a regular file or a folder; nothing else of the host's is ever opened. */
  open(fid: Fid, flags: number): Stat {
    this.requireRoomToOpen(fid);
    return this.pinned(fid, (name, stat) => {
      const kind = stat.mode & S.IFMT;
      if (kind !== S.IFREG && kind !== S.IFDIR) throw new Errno(ERRNO.EOPNOTSUPP, 'not a file');
      const wanted = isFolder(stat) ? O.RDONLY | O.DIRECTORY : flags;
      this.opened(fid, openAt(AT.FDCWD, name, wanted));
      return stat;
    });
  }

  /** The mode for a file on the host. */
  modeFor(mode: number, folder = false): number {
    const kept = this.#setId || folder ? 0o7777 : 0o7777 & ~SET_ID;
    return mode & kept;
  }

  /** Gives a new file to the guest's user, if the host has that user. */
  giveTo({ dir, name }: Place, uid: number, gid: number): void {
    const owner = this.uids.toHost(uid) ?? NO_FID;
    const group = this.gids.toHost(gid) ?? NO_FID;
    if (owner === NO_FID && group === NO_FID) return;
    changeOwner(dir, name, owner, group, AT.SYMLINK_NOFOLLOW);
  }

  /** Exactly the mode that the guest wants: the daemon's umask is not the guest's. */
  setMode({ dir, name }: Place, mode: number): void {
    const fd = openAt(dir, name, O.PATH | O.NOFOLLOW);
    try {
      changeMode(fdPath(fd), mode);
    } finally {
      closeFd(fd);
    }
  }

  qid(stat: Stat): Qid {
    const kind = stat.mode & S.IFMT;
    const type = kind === S.IFDIR ? QID_TYPE.FOLDER : kind === S.IFLNK ? QID_TYPE.SYMLINK : QID_TYPE.FILE;
    const { seconds, nanoseconds } = stat.modified;
    const version = Number(
      BigInt.asUintN(32, seconds * 1_000_003n + BigInt(nanoseconds) + (stat.size << 8n)),
    );
    return { type, version, path: this.pathNumber(stat.device, stat.inode) };
  }

  /** A number for a file: its inode number, and in the upper bits which file system's. */
  pathNumber(device: number, inode: bigint): bigint {
    let number = this.#devices.get(device);
    if (number === undefined) {
      number = BigInt(this.#devices.size % DEVICES_MAX);
      this.#devices.set(device, number);
    }
    return BigInt.asUintN(64, inode ^ (number << 48n));
  }
}

/** A descriptor of a fid's file that needs no name: its own, or one of another fid when the file has no name. */
function openDescriptor({ file, entry }: Fid): number | undefined {
  if (file !== undefined) return file.fd;
  if (!entry.gone) return undefined;
  const [other] = entry.open;
  return other;
}
