/** Requests that make, rename and remove names. */
import {
  AT,
  changeModeOf,
  cName,
  EMPTY_NAME,
  ERRNO,
  Errno,
  makeFolder,
  makeLink,
  makeNode,
  makeSymlink,
  O,
  openAt,
  renameAt,
  S,
  statAt,
  unlinkAt,
} from '../libc.ts';
import type { Fid, Session } from '../session.ts';
import type { Entry, Place } from '../tree.ts';
import { type MessageReader, type MessageWriter, T } from '../wire.ts';
import { openFlags } from './files.ts';
import type { Handlers } from './request.ts';

/** The name for something new, or something that is to go: not one of those that every folder has. */
function ownName(request: MessageReader): Uint8Array {
  const name = request.name();
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e))) {
    throw new Errno(ERRNO.EINVAL, 'name');
  }
  return name;
}

function placeFor(session: Session, folder: Fid, name: Uint8Array): Place {
  session.requireWritable();
  return session.tree.within(session.tree.folder(folder.entry), cName(name));
}

/** Owner and mode of what was made just now, and its qid. */
function made(
  session: Session,
  place: Place,
  uid: number,
  gid: number,
  mode: number | undefined,
  reply: MessageWriter,
): void {
  session.giveTo(place, uid, gid);
  if (mode !== undefined) session.setMode(place, mode);
  reply.qid(session.qid(statAt(place.dir, place.name, AT.SYMLINK_NOFOLLOW)));
}

function create(session: Session, request: MessageReader, reply: MessageWriter): void {
  const fid = session.fid(request.u32());
  const name = ownName(request);
  const [flags, mode, gid] = [request.u32(), request.u32(), request.u32()];
  const place = placeFor(session, fid, name);
  session.requireRoomToOpen(fid);
  const fd = createFile(place, flags | (session.append ? O.APPEND : 0));
  if (fd === undefined) {
    session.move(fid, session.tree.lookUp(fid.entry, name).entry);
    reply.qid(session.qid(session.open(fid, openFlags(session, flags))));
  } else {
    session.move(fid, session.tree.child(fid.entry, name));
    session.opened(fid, fd);
    session.giveTo(place, fid.uid, gid);
    changeModeOf(fd, session.modeFor(mode));
    reply.qid(session.qid(statAt(fd, EMPTY_NAME, AT.EMPTY_PATH)));
  }
  reply.u32(0);
}

/** Undefined when there is such a file already, which may be taken. */
function createFile({ dir, name }: Place, flags: number): number | undefined {
  const kept = flags & (O.ACCMODE | O.APPEND | O.DSYNC | O.SYNC);
  try {
    return openAt(dir, name, kept | O.CREAT | O.EXCL | O.NOFOLLOW, 0o600);
  } catch (error) {
    if (error instanceof Errno && error.errno === ERRNO.EEXIST && (flags & O.EXCL) === 0) return undefined;
    throw error;
  }
}

function folder(session: Session, request: MessageReader, reply: MessageWriter): void {
  const parent = session.fid(request.u32());
  const name = ownName(request);
  const [mode, gid] = [request.u32(), request.u32()];
  const place = placeFor(session, parent, name);
  makeFolder(place.dir, place.name, 0o700);
  made(session, place, parent.uid, gid, session.modeFor(mode, true), reply);
}

/** Pipes and sockets. Device nodes would give the host's users what the guest wants them to have. */
function node(session: Session, request: MessageReader, reply: MessageWriter): void {
  const parent = session.fid(request.u32());
  const name = ownName(request);
  const [mode, , , gid] = [request.u32(), request.u32(), request.u32(), request.u32()];
  const place = placeFor(session, parent, name);
  const kind = mode & S.IFMT;
  if (kind !== S.IFIFO && kind !== S.IFSOCK && kind !== S.IFREG) throw new Errno(ERRNO.EPERM, 'device node');
  makeNode(place.dir, place.name, kind | 0o600);
  made(session, place, parent.uid, gid, session.modeFor(mode), reply);
}

function symlink(session: Session, request: MessageReader, reply: MessageWriter): void {
  const parent = session.fid(request.u32());
  const name = ownName(request);
  const target = request.string();
  const gid = request.u32();
  if (target.length === 0 || target.includes(0)) throw new Errno(ERRNO.EINVAL, 'target');
  const place = placeFor(session, parent, name);
  makeSymlink(cName(target), place.dir, place.name);
  made(session, place, parent.uid, gid, undefined, reply);
}

function link(session: Session, request: MessageReader): void {
  const parent = session.fid(request.u32());
  const file = session.fid(request.u32());
  const to = placeFor(session, parent, ownName(request));
  const from = session.tree.place(file.entry);
  makeLink(from.dir, from.name, to.dir, to.name);
}

function move(session: Session, from: Entry, fromName: Uint8Array, to: Entry, toName: Uint8Array): void {
  const { tree } = session;
  session.requireWritable();
  const known = tree.child(from, fromName);
  if (tree.isWithin(to, known)) throw new Errno(ERRNO.EINVAL, 'a folder cannot be moved into itself');
  renameAt(tree.folder(from), cName(fromName), tree.folder(to), cName(toName));
  tree.moved(from, fromName, to, toName);
}

function renameIn(session: Session, request: MessageReader): void {
  const from = session.fid(request.u32());
  const fromName = ownName(request);
  const to = session.fid(request.u32());
  move(session, from.entry, fromName, to.entry, ownName(request));
}

function rename(session: Session, request: MessageReader): void {
  const { entry } = session.fid(request.u32());
  const to = session.fid(request.u32());
  const name = ownName(request);
  move(session, parentOf(entry), nameOf(entry), to.entry, name);
}

function unlinkIn(session: Session, request: MessageReader): void {
  const parent = session.fid(request.u32());
  const name = ownName(request);
  const flags = request.u32();
  const place = placeFor(session, parent, name);
  unlinkAt(place.dir, place.name, flags & AT.REMOVEDIR);
  session.tree.removed(parent.entry, name);
}

/** Removes the fid also when the file cannot be removed. */
function remove(session: Session, request: MessageReader): void {
  const number = request.u32();
  const fid = session.fid(number);
  try {
    session.requireWritable();
    const stat = session.stat(fid);
    const { dir, name } = session.tree.place(fid.entry);
    const parent = parentOf(fid.entry);
    unlinkAt(dir, name, (stat.mode & S.IFMT) === S.IFDIR ? AT.REMOVEDIR : 0);
    session.tree.removed(parent, nameOf(fid.entry));
  } finally {
    session.remove(number);
  }
}

function parentOf(entry: Entry): Entry {
  if (entry.parent === undefined) throw new Errno(ERRNO.EINVAL, "the share's own folder");
  if (entry.gone) throw new Errno(ERRNO.ENOENT, 'removed');
  return entry.parent;
}

function nameOf({ name }: Entry): Uint8Array {
  return name.subarray(0, -1);
}

export const nameRequests: Handlers = {
  [T.LCREATE]: create,
  [T.MKDIR]: folder,
  [T.MKNOD]: node,
  [T.SYMLINK]: symlink,
  [T.LINK]: link,
  [T.RENAME]: rename,
  [T.RENAMEAT]: renameIn,
  [T.UNLINKAT]: unlinkIn,
  [T.REMOVE]: remove,
};
