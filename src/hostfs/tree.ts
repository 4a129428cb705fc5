/**
 * The files of a share that its guest knows, by name. A file is only ever reached through the descriptor of the
 * folder that it is in, by its last name, and never through a symbolic link: whatever is renamed meanwhile, by the
 * guest or on the host, no name leads out of the share.
 */
import * as fs from 'node:fs';
import {
  AT,
  closeFd,
  type CName,
  cName,
  DOT,
  DOT_DOT,
  EMPTY_NAME,
  ERRNO,
  Errno,
  O,
  openAt,
  S,
  type Stat,
  statAt,
} from './libc.ts';
import { LaterMounts } from './mounts.ts';

/** Folders that are kept open. */
const FOLDERS_OPEN_MAX = 256;
/** Steps up that `..` is followed to see whether it is within the share. */
const DEPTH_MAX = 4096;
const FOLDER_FLAGS = O.PATH | O.DIRECTORY | O.NOFOLLOW;

/** A name in a folder. It follows renames that the guest asks for. */
export class Entry {
  parent: Entry | undefined;
  name: CName;
  key: string;
  readonly children = new Map<string, Entry>();
  /** Users: fids and children. */
  uses = 0;
  /** O_PATH descriptor of a folder, while it is kept open. */
  folder = -1;
  /** Which file that descriptor is of. */
  identity = '';
  /** Its name was removed; its files may be open still. */
  gone = false;
  /** Descriptors by which the file is open, for when it has no name any more. */
  readonly open = new Set<number>();

  constructor(parent: Entry | undefined, name: CName, key: string) {
    this.parent = parent;
    this.name = name;
    this.key = key;
  }
}

/** Where a call finds an entry: in a folder, by name. */
export interface Place {
  readonly dir: number;
  readonly name: CName;
}

const keyOf = (name: Uint8Array): string =>
  Buffer.from(name.buffer, name.byteOffset, name.length).toString('latin1');
const identityOf = ({ device, inode }: Stat): string => `${device}:${inode}`;

export class Tree {
  readonly root: Entry;
  readonly #rootIdentity: string;
  /** Those with an open folder descriptor, the least recently used first. */
  readonly #open = new Set<Entry>();

  readonly #laterMounts: LaterMounts | undefined;

  /**
   * Throws Errno when the folder cannot be opened, ELOOP when its path leads through a symbolic link.
   * @param mustAnswer calls must not take forever: what may do so and is mounted in it later is not gone into
   */
  constructor(folder: string, mustAnswer: boolean) {
    this.#laterMounts = mustAnswer ? new LaterMounts(folder) : undefined;
    this.root = new Entry(undefined, DOT, '');
    this.root.uses = 1;
    this.root.folder = openReal(folder);
    this.#rootIdentity = identityOf(statAt(this.root.folder, EMPTY_NAME, AT.EMPTY_PATH));
  }

  /** The folder and the name that an entry's calls go to. Throws ENOENT for one that is gone. */
  place(entry: Entry): Place {
    if (entry.gone) throw new Errno(ERRNO.ENOENT, 'removed');
    return this.within(entry.parent === undefined ? this.root.folder : this.folder(entry.parent), entry.name);
  }

  /** A name in a folder. Throws EREMOTE where calls for it may take forever. */
  within(dir: number, name: CName): Place {
    this.#laterMounts?.check(dir, name);
    return { dir, name };
  }

  /** The descriptor of a folder; good until `trim`. */
  folder(entry: Entry): number {
    if (entry.folder >= 0) return this.#used(entry);
    const closed: Entry[] = [];
    let from: Entry | undefined = entry;
    for (; from !== undefined && from.folder < 0; from = from.parent) {
      if (from.gone) throw new Errno(ERRNO.ENOENT, 'removed');
      closed.push(from);
    }
    let dir = (from ?? this.root).folder;
    for (const next of closed.reverse()) {
      this.within(dir, next.name);
      next.folder = openAt(dir, next.name, FOLDER_FLAGS);
      next.identity = identityOf(statAt(next.folder, EMPTY_NAME, AT.EMPTY_PATH));
      dir = this.#used(next);
    }
    return dir;
  }

  /** The file of that name in a folder. The caller holds it with `hold` if it keeps it. */
  lookUp(parent: Entry, bytes: Uint8Array): { readonly entry: Entry; readonly stat: Stat } {
    const { dir, name } = this.within(this.folder(parent), cName(bytes));
    const stat = statAt(dir, name, AT.SYMLINK_NOFOLLOW);
    const entry = this.child(parent, bytes);
    // On the host another folder may have taken its name.
    if (entry.folder >= 0 && entry.identity !== identityOf(stat)) this.#close(entry);
    return { entry, stat };
  }

  /** The entry for a name that is known to be there. */
  child(parent: Entry, bytes: Uint8Array): Entry {
    const key = keyOf(bytes);
    return parent.children.get(key) ?? new Entry(parent, cName(bytes), key);
  }

  /** `..` of a folder; the root's is itself. EACCES when a folder was moved out of the share on the host. */
  parentOf(entry: Entry): Entry {
    if (entry.parent === undefined) return entry;
    if (entry.gone) throw new Errno(ERRNO.ENOENT, 'removed');
    this.#requireWithin(this.folder(entry.parent));
    return entry.parent;
  }

  hold(entry: Entry): void {
    if (entry.uses++ > 0 || entry.parent === undefined) return;
    entry.parent.children.set(entry.key, entry);
    this.hold(entry.parent);
  }

  release(entry: Entry): void {
    for (let at: Entry | undefined = entry; at !== undefined && --at.uses === 0; at = at.parent) {
      if (at.folder >= 0) this.#close(at);
      if (at.parent?.children.get(at.key) === at) at.parent.children.delete(at.key);
    }
  }

  /** The guest has removed a name, or another file has taken it. */
  removed(parent: Entry, bytes: Uint8Array): void {
    const entry = parent.children.get(keyOf(bytes));
    if (entry === undefined) return;
    parent.children.delete(entry.key);
    entry.gone = true;
  }

  /** Is `entry` at or below `above`, as far as is known? */
  isWithin(entry: Entry, above: Entry): boolean {
    for (let at: Entry | undefined = entry; at !== undefined; at = at.parent) if (at === above) return true;
    return false;
  }

  /** The guest has renamed a file: what is known below it goes with it. `parent` is not within it. */
  moved(from: Entry, fromName: Uint8Array, parent: Entry, bytes: Uint8Array): void {
    const entry = from.children.get(keyOf(fromName));
    if (entry?.parent === parent && entry.key === keyOf(bytes)) return;
    this.removed(parent, bytes);
    if (entry === undefined) return;
    from.children.delete(entry.key);
    entry.parent = parent;
    entry.name = cName(bytes);
    entry.key = keyOf(bytes);
    parent.children.set(entry.key, entry);
    this.hold(parent);
    this.release(from);
  }

  /** Between requests: closes folders that have not been used for long. */
  trim(): void {
    while (this.#open.size > FOLDERS_OPEN_MAX) {
      const [oldest] = this.#open;
      this.#close(oldest!);
    }
  }

  close(): void {
    for (const entry of [...this.#open]) this.#close(entry);
    closeFd(this.root.folder);
    this.#laterMounts?.close();
  }

  #used(entry: Entry): number {
    if (entry.parent === undefined) return entry.folder;
    this.#open.delete(entry);
    this.#open.add(entry);
    return entry.folder;
  }

  #close(entry: Entry): void {
    closeFd(entry.folder);
    entry.folder = -1;
    this.#open.delete(entry);
  }

  /** Goes up from a folder until the share's own. */
  #requireWithin(folder: number): void {
    let at = openAt(folder, DOT, FOLDER_FLAGS);
    try {
      let identity = identityOf(statAt(at, EMPTY_NAME, AT.EMPTY_PATH));
      for (let depth = 0; identity !== this.#rootIdentity; depth++) {
        const up = openAt(at, DOT_DOT, FOLDER_FLAGS);
        closeFd(at);
        at = up;
        const next = identityOf(statAt(at, EMPTY_NAME, AT.EMPTY_PATH));
        if (next === identity || depth > DEPTH_MAX) throw new Errno(ERRNO.EACCES, 'not in the share');
        identity = next;
      }
    } finally {
      closeFd(at);
    }
  }
}

/** Who may rename in the folders above must not choose what is shared. */
function openReal(folder: string): number {
  const fd = openAt(AT.FDCWD, cName(folder), FOLDER_FLAGS);
  if (fs.readlinkSync(`/proc/self/fd/${fd}`) === folder) return fd;
  closeFd(fd);
  throw new Errno(ERRNO.ELOOP, folder);
}

export function isFolder({ mode }: Stat): boolean {
  return (mode & S.IFMT) === S.IFDIR;
}
