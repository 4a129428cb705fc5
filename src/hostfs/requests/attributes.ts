/** Requests about what a file is, rather than what is in it. */
import { statfsSync } from 'node:fs';
import {
  changeMode,
  changeOwner,
  changeTimes,
  type CName,
  cName,
  ERRNO,
  Errno,
  getAttribute,
  listAttributes,
  type NewTime,
  readLinkAt,
  S,
  type Timestamp,
  truncateFile,
} from '../libc.ts';
import type { Fid, Session } from '../session.ts';
import { type MessageReader, type MessageWriter, NAME_BYTES_MAX, NO_FID, T } from '../wire.ts';
import type { Handlers } from './request.ts';

const GETATTR_BASIC = 0x7ffn;
/** Which fields Tsetattr sets. */
const SET = {
  MODE: 1,
  UID: 2,
  GID: 4,
  SIZE: 8,
  ATIME: 16,
  MTIME: 32,
  CTIME: 64,
  ATIME_SET: 128,
  MTIME_SET: 256,
} as const;
const TARGET_BYTES_MAX = 4096;
const ATTRIBUTE_BYTES_MAX = 64 * 1024;
const V9FS_MAGIC = 0x0102_1997;
/** What a reply with data has besides it. */
const REPLY_OVERHEAD_BYTES = 24;
/** Attributes that belong to users; others have a meaning to the host's kernel. */
const USER_PREFIX = 'user.';

function writeTime(reply: MessageWriter, { seconds, nanoseconds }: Timestamp): void {
  reply.u64(seconds);
  reply.u64(BigInt(nanoseconds));
}

function getAttributes(session: Session, request: MessageReader, reply: MessageWriter): void {
  const stat = session.stat(session.fid(request.u32()));
  reply.u64(request.u64() & GETATTR_BASIC);
  reply.qid(session.qid(stat));
  reply.u32(stat.mode);
  reply.u32(session.uids.toGuest(stat.uid));
  reply.u32(session.gids.toGuest(stat.gid));
  reply.u64(BigInt(stat.links));
  reply.u64(BigInt(stat.rdev));
  reply.u64(stat.size);
  // Programs move as much at a time: what one message holds.
  reply.u64(BigInt((session.messageBytes - REPLY_OVERHEAD_BYTES) & ~4095));
  reply.u64(stat.blocks);
  for (const time of [stat.accessed, stat.modified, stat.changed]) writeTime(reply, time);
  // Birth, generation and data version are not told.
  for (let i = 0; i < 4; i++) reply.u64(0n);
}

function setAttributes(session: Session, request: MessageReader): void {
  const fid = session.fid(request.u32());
  const [valid, mode, uid, gid] = [request.u32(), request.u32(), request.u32(), request.u32()];
  const size = request.u64();
  const times = [newTime(request), newTime(request)] as const;
  session.requireWritable();
  // A change of owner takes set-user-id away, so the mode comes after it.
  if ((valid & (SET.UID | SET.GID)) !== 0) {
    setOwner(
      session,
      fid,
      (valid & SET.UID) === 0 ? undefined : uid,
      (valid & SET.GID) === 0 ? undefined : gid,
    );
  }
  if ((valid & SET.MODE) !== 0) setMode(session, fid, mode);
  if ((valid & SET.SIZE) !== 0) setSize(session, fid, size);
  const accessed = timeFor(valid, SET.ATIME, SET.ATIME_SET, times[0]);
  const modified = timeFor(valid, SET.MTIME, SET.MTIME_SET, times[1]);
  if (accessed === 'same' && modified === 'same') return;
  const { dir, name, flags } = session.placeOf(fid);
  changeTimes(dir, name, accessed, modified, flags);
}

function newTime(request: MessageReader): Timestamp {
  const seconds = BigInt.asIntN(64, request.u64());
  return { seconds, nanoseconds: Number(request.u64() % 1_000_000_000n) };
}

function timeFor(valid: number, isSet: number, isGiven: number, given: Timestamp): NewTime {
  if ((valid & isSet) === 0) return 'same';
  return (valid & isGiven) === 0 ? 'now' : given;
}

function setOwner(session: Session, fid: Fid, uid: number | undefined, gid: number | undefined): void {
  const owner = uid === undefined ? NO_FID : session.uids.toHost(uid);
  const group = gid === undefined ? NO_FID : session.gids.toHost(gid);
  if (owner === undefined || group === undefined) throw new Errno(ERRNO.EPERM, 'no such owner on the host');
  const { dir, name, flags } = session.placeOf(fid);
  changeOwner(dir, name, owner, group, flags);
}

function setMode(session: Session, fid: Fid, mode: number): void {
  session.pinned(fid, (name, stat) => {
    const kind = stat.mode & S.IFMT;
    if (kind === S.IFLNK) throw new Errno(ERRNO.EOPNOTSUPP, 'symbolic links have no mode');
    changeMode(name, session.modeFor(mode, kind === S.IFDIR));
  });
}

function setSize(session: Session, fid: Fid, size: bigint): void {
  session.pinned(fid, (name, stat) => {
    if ((stat.mode & S.IFMT) !== S.IFREG || size >= 2n ** 63n) throw new Errno(ERRNO.EINVAL, 'not a file');
    truncateFile(name, size);
  });
}

function statFs(session: Session, request: MessageReader, reply: MessageWriter): void {
  const fid = session.fid(request.u32());
  const space = session.pinned(fid, (name) =>
    statfsSync(Buffer.from(name.subarray(0, -1)), { bigint: true }),
  );
  reply.u32(V9FS_MAGIC);
  reply.u32(Number(space.bsize));
  for (const count of [space.blocks, space.bfree, space.bavail, space.files, space.ffree]) reply.u64(count);
  reply.u64(0n);
  reply.u32(NAME_BYTES_MAX);
}

const targetBytes = Buffer.alloc(TARGET_BYTES_MAX);

function readLink(session: Session, request: MessageReader, reply: MessageWriter): void {
  const { dir, name } = session.tree.place(session.fid(request.u32()).entry);
  reply.string(targetBytes.subarray(0, readLinkAt(dir, name, targetBytes)));
}

/** The attributes of users, each name with its NUL. */
function ownAttributes(file: CName): Uint8Array {
  const list = Buffer.alloc(ATTRIBUTE_BYTES_MAX);
  const names = list.toString('latin1', 0, listAttributes(file, list)).split('\0');
  return Buffer.from(
    names
      .filter((name) => name.startsWith(USER_PREFIX))
      .map((name) => `${name}\0`)
      .join(''),
    'latin1',
  );
}

function isUsers(name: Uint8Array): boolean {
  return Buffer.from(name).toString('latin1').startsWith(USER_PREFIX);
}

/** A new fid to read an attribute's value from; without a name, the list of all. */
function walkAttribute(session: Session, request: MessageReader, reply: MessageWriter): void {
  const fid = session.fid(request.u32());
  const newNumber = request.u32();
  const attribute = request.string();
  if (attribute.length > 0 && !isUsers(attribute)) throw new Errno(ERRNO.EOPNOTSUPP, 'attribute');
  const name = cName(attribute);
  const value = session.pinned(fid, (file, stat) => {
    // Symbolic links have no attributes of users.
    if ((stat.mode & S.IFMT) === S.IFLNK && attribute.length === 0) return new Uint8Array(0);
    if (attribute.length === 0) return ownAttributes(file);
    const bytes = new Uint8Array(ATTRIBUTE_BYTES_MAX);
    return bytes.slice(0, getAttribute(file, name, bytes));
  });
  const added = session.add(newNumber, fid.entry, fid.uid);
  added.attribute = { name, value, flags: undefined };
  reply.u64(BigInt(value.length));
}

/** The fid takes the value of an attribute until it is clunked. */
function createAttribute(session: Session, request: MessageReader): void {
  const fid = session.fid(request.u32());
  const attribute = request.string();
  const size = request.u64();
  const flags = request.u32();
  session.requireWritable();
  if (!isUsers(attribute) || attribute.includes(0)) throw new Errno(ERRNO.EOPNOTSUPP, 'attribute');
  if (attribute.length > NAME_BYTES_MAX) throw new Errno(ERRNO.ERANGE, 'attribute name');
  if (size > BigInt(ATTRIBUTE_BYTES_MAX)) throw new Errno(ERRNO.ENOSPC, 'attribute');
  if (fid.file !== undefined || fid.attribute !== undefined) throw new Errno(ERRNO.EBADF, 'open already');
  fid.attribute = { name: cName(attribute), value: new Uint8Array(Number(size)), flags: flags & 3 };
}

export const attributeRequests: Handlers = {
  [T.GETATTR]: getAttributes,
  [T.SETATTR]: setAttributes,
  [T.STATFS]: statFs,
  [T.READLINK]: readLink,
  [T.XATTRWALK]: walkAttribute,
  [T.XATTRCREATE]: createAttribute,
};
