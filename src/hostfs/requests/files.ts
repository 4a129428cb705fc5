/** Requests about open files and folders. */
import { fdatasync, fsync } from 'node:fs';
import {
  ERRNO,
  Errno,
  findLock,
  LOCK,
  type LockRange,
  O,
  readAt,
  readFolder,
  seekTo,
  setLock,
  statAt,
  EMPTY_NAME,
  AT,
  writeAt,
} from '../libc.ts';
import type { Fid, OpenFile, Session } from '../session.ts';
import { type MessageReader, type MessageWriter, QID_TYPE, T } from '../wire.ts';
import type { Handlers } from './request.ts';

/** Of what the guest asks for, what makes a difference on the host. */
const FLAGS_KEPT = O.ACCMODE | O.TRUNC | O.APPEND | O.DSYNC | O.SYNC;
/** Offsets are signed in the host's calls. */
const OFFSET_MAX = 2n ** 63n - 1n;
const DIRENT = { OFFSET: 8, LENGTH: 16, TYPE: 18, NAME: 19 } as const;
const DIRENT_TYPE = { FOLDER: 4, SYMLINK: 10 } as const;
/** Of an entry in a reply, without its name: qid, offset, type and the name's length. */
const ENTRY_BYTES = 24;
const FOLDER_BYTES = 64 * 1024;
/** The longest name and what is before it, rounded up. */
const DIRENT_BYTES_MAX = 280;
const LOCK_STATUS = { SUCCESS: 0, BLOCKED: 1 } as const;

export function openFlags(session: Session, flags: number): number {
  const kept = (flags & FLAGS_KEPT) | (session.append ? O.APPEND : 0);
  if ((kept & O.ACCMODE) !== O.RDONLY || (kept & O.TRUNC) !== 0) session.requireWritable();
  return kept;
}

function open(session: Session, request: MessageReader, reply: MessageWriter): void {
  const fid = session.fid(request.u32());
  reply.qid(session.qid(session.open(fid, openFlags(session, request.u32()))));
  // No limit but that of a message.
  reply.u32(0);
}

function offsetOf(request: MessageReader): bigint {
  const offset = request.u64();
  if (offset > OFFSET_MAX) throw new Errno(ERRNO.EINVAL, 'offset');
  return offset;
}

function read(session: Session, request: MessageReader, reply: MessageWriter): void {
  const fid = session.fid(request.u32());
  const offset = offsetOf(request);
  const count = request.u32();
  reply.counted(count, (into) => {
    if (fid.attribute === undefined) return readAt(session.file(fid).fd, into, offset);
    const value = fid.attribute.value.subarray(Number(offset), Number(offset) + into.length);
    into.set(value);
    return value.length;
  });
}

function write(session: Session, request: MessageReader, reply: MessageWriter): void {
  const fid = session.fid(request.u32());
  const offset = offsetOf(request);
  const data = request.bytes(request.u32());
  reply.u32(
    fid.attribute === undefined ? writeAt(session.file(fid).fd, data, offset) : collect(fid, offset, data),
  );
}

/** Takes a piece of an attribute's new value. */
function collect({ attribute }: Fid, offset: bigint, data: Uint8Array): number {
  if (attribute?.flags === undefined) throw new Errno(ERRNO.EBADF, 'open for reading');
  if (offset + BigInt(data.length) > BigInt(attribute.value.length))
    throw new Errno(ERRNO.ENOSPC, 'attribute');
  attribute.value.set(data, Number(offset));
  return data.length;
}

/** In Node's thread pool: a disk may take its time. */
function sync(session: Session, request: MessageReader): Promise<void> {
  const { fd } = session.file(session.fid(request.u32()));
  const call = request.u32() === 0 ? fsync : fdatasync;
  return new Promise((resolve, reject) =>
    call(fd, (error) => {
      if (error === null) resolve();
      else reject(new Errno(error.errno === undefined ? ERRNO.EIO : -error.errno, 'fsync'));
    }),
  );
}

const folderBytes = Buffer.alloc(FOLDER_BYTES);

function readNames(session: Session, request: MessageReader, reply: MessageWriter): void {
  const file = session.file(session.fid(request.u32()));
  const offset = offsetOf(request);
  const count = request.u32();
  const device = statAt(file.fd, EMPTY_NAME, AT.EMPTY_PATH).device;
  reply.counted(count, (into) => fillEntries(session, file, offset, device, into));
}

/** Entries from `offset` on, whole ones, in 9P's form. Returns their bytes; 0 at the end of the folder. */
function fillEntries(
  session: Session,
  file: OpenFile,
  offset: bigint,
  device: number,
  into: Uint8Array,
): number {
  const out = Buffer.from(into.buffer, into.byteOffset, into.length);
  if (file.position !== offset) seekTo(file.fd, offset);
  file.position = offset;
  const wanted = Math.max(DIRENT_BYTES_MAX, Math.min(out.length, FOLDER_BYTES));
  const pieces = folderBytes.subarray(0, wanted);
  let at = 0;
  for (;;) {
    const length = readFolder(file.fd, pieces);
    if (length === 0) return at;
    for (let from = 0; from < length; from += folderBytes.readUInt16LE(from + DIRENT.LENGTH)) {
      const nameAt = from + DIRENT.NAME;
      const nameEnd = folderBytes.indexOf(0, nameAt);
      if (at + ENTRY_BYTES + (nameEnd - nameAt) > out.length) {
        if (at === 0) throw new Errno(ERRNO.EINVAL, 'no room for a name');
        // What was read too much is read again.
        seekTo(file.fd, file.position);
        return at;
      }
      const type = folderBytes.readUInt8(from + DIRENT.TYPE);
      const qidType =
        type === DIRENT_TYPE.FOLDER
          ? QID_TYPE.FOLDER
          : type === DIRENT_TYPE.SYMLINK
            ? QID_TYPE.SYMLINK
            : QID_TYPE.FILE;
      file.position = folderBytes.readBigInt64LE(from + DIRENT.OFFSET);
      out.writeUInt8(qidType, at);
      out.writeUInt32LE(0, at + 1);
      out.writeBigUInt64LE(session.pathNumber(device, folderBytes.readBigUInt64LE(from)), at + 5);
      out.writeBigInt64LE(file.position, at + 13);
      out.writeUInt8(type, at + 21);
      out.writeUInt16LE(nameEnd - nameAt, at + 22);
      out.set(folderBytes.subarray(nameAt, nameEnd), at + ENTRY_BYTES);
      at += ENTRY_BYTES + (nameEnd - nameAt);
    }
  }
}

function lockRange(request: MessageReader, kind: number): LockRange {
  if (kind !== LOCK.READ && kind !== LOCK.WRITE && kind !== LOCK.UNLOCK)
    throw new Errno(ERRNO.EINVAL, 'lock type');
  const start = offsetOf(request);
  return { kind, start, length: offsetOf(request) };
}

/** Locks of the guest are locks on the host too, so that two guests with one share, and the host, keep to them. */
function lock(session: Session, request: MessageReader, reply: MessageWriter): void {
  const { fd } = session.file(session.fid(request.u32()));
  const kind = request.u8();
  // A guest that wants to wait asks again.
  request.u32();
  const range = lockRange(request, kind);
  reply.u8(setLock(fd, range) ? LOCK_STATUS.SUCCESS : LOCK_STATUS.BLOCKED);
}

function getLock(session: Session, request: MessageReader, reply: MessageWriter): void {
  const { fd } = session.file(session.fid(request.u32()));
  const range = lockRange(request, request.u8());
  const processId = request.u32();
  const client = request.string();
  const found = findLock(fd, range);
  reply.u8(found.kind);
  reply.u64(found.start);
  reply.u64(found.length);
  reply.u32(processId);
  reply.string(client);
}

export const fileRequests: Handlers = {
  [T.LOPEN]: open,
  [T.READ]: read,
  [T.WRITE]: write,
  [T.FSYNC]: sync,
  [T.READDIR]: readNames,
  [T.LOCK]: lock,
  [T.GETLOCK]: getLock,
};
