/** Tversion, Tattach, Twalk, Tclunk. */
import { AT, ERRNO, Errno, removeAttribute, setAttribute, statAt } from '../libc.ts';
import { MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN, type Fid, type Session } from '../session.ts';

import { type MessageReader, type MessageWriter, type Qid, T } from '../wire.ts';
import type { Handlers } from './request.ts';

const VERSION = '9P2000.L';
const WALK_MAX = 16;

function version(session: Session, request: MessageReader, reply: MessageWriter): void {
  const messageBytes = request.u32();
  const wanted = Buffer.from(request.string()).toString('latin1');
  if (messageBytes < MESSAGE_BYTES_MIN) throw new Errno(ERRNO.EMSGSIZE, 'msize is too small');
  // A new session: all fids of the one before are gone.
  session.reset();
  session.messageBytes = Math.min(messageBytes, MESSAGE_BYTES_MAX);
  reply.u32(session.messageBytes);
  reply.string(Buffer.from(wanted === VERSION ? VERSION : 'unknown'));
}

function attach(session: Session, request: MessageReader, reply: MessageWriter): void {
  const number = request.u32();
  // There is no authentication: the device is the guest's.
  request.u32();
  request.string();
  request.string();
  const fid = session.add(number, session.tree.root, request.u32());
  reply.qid(session.qid(session.stat(fid)));
}

function walk(session: Session, request: MessageReader, reply: MessageWriter): void {
  const { tree } = session;
  const [number, newNumber, count] = [request.u32(), request.u32(), request.u16()];
  const fid = session.fid(number);
  if (fid.file !== undefined) throw new Errno(ERRNO.EBADF, 'an open file cannot be walked from');
  if (newNumber !== number) session.requireFree(newNumber);
  if (count > WALK_MAX) throw new Errno(ERRNO.EINVAL, 'too many names');
  const qids: Qid[] = [];
  let at = fid.entry;
  tree.hold(at);
  try {
    for (let i = 0; i < count; i++) {
      const step = stepTo(session, at, request.name(), i === 0);
      if (step === undefined) break;
      tree.hold(step.entry);
      tree.release(at);
      at = step.entry;
      qids.push(step.qid);
    }
    // A walk that ends early tells how far it came, and makes no fid.
    if (qids.length === count && number === newNumber) session.move(fid, at);
    else if (qids.length === count) session.add(newNumber, at, fid.uid);
  } finally {
    tree.release(at);
  }
  reply.u16(qids.length);
  for (const qid of qids) reply.qid(qid);
}

/** Undefined when there is no such file, but for the first name, whose error is the walk's. */
function stepTo(session: Session, from: Fid['entry'], name: Uint8Array, isFirst: boolean) {
  try {
    const text = Buffer.from(name).toString('latin1');
    if (text === '.') throw new Errno(ERRNO.EINVAL, 'name');
    if (text === '..') {
      const entry = session.tree.parentOf(from);
      const { dir, name: inDir } = session.tree.place(entry);
      return { entry, qid: session.qid(statAt(dir, inDir, AT.SYMLINK_NOFOLLOW)) };
    }
    const { entry, stat } = session.tree.lookUp(from, name);
    return { entry, qid: session.qid(stat) };
  } catch (error) {
    if (isFirst || !(error instanceof Errno)) throw error;
    return undefined;
  }
}

function clunk(session: Session, request: MessageReader): void {
  const number = request.u32();
  const fid = session.fid(number);
  try {
    writeAttribute(session, fid);
  } finally {
    session.remove(number);
  }
}

/** An attribute is set when the fid that its value was written to is clunked; an empty value removes it. */
function writeAttribute(session: Session, fid: Fid): void {
  const { attribute } = fid;
  if (attribute?.flags === undefined) return;
  const { name, value, flags } = attribute;
  session.pinned(fid, (file) => {
    if (value.length === 0 && flags === 0) removeAttribute(file, name);
    else setAttribute(file, name, value, flags);
  });
}

export const fidRequests: Handlers = {
  [T.VERSION]: version,
  [T.ATTACH]: attach,
  [T.WALK]: walk,
  [T.CLUNK]: clunk,
};
