/**
 * Messages of 9P2000.L: size[4] type[1] tag[2], then the fields of the type, little-endian. A string is its length in
 * two bytes and its bytes. The protocol is written down in Linux's net/9p and in diod's protocol.md.
 */
import { ERRNO, Errno } from './libc.ts';

/** Types of requests; a reply's is one more. */
export const T = {
  LERROR: 6,
  STATFS: 8,
  LOPEN: 12,
  LCREATE: 14,
  SYMLINK: 16,
  MKNOD: 18,
  RENAME: 20,
  READLINK: 22,
  GETATTR: 24,
  SETATTR: 26,
  XATTRWALK: 30,
  XATTRCREATE: 32,
  READDIR: 40,
  FSYNC: 50,
  LOCK: 52,
  GETLOCK: 54,
  LINK: 70,
  MKDIR: 72,
  RENAMEAT: 74,
  UNLINKAT: 76,
  VERSION: 100,
  ATTACH: 104,
  FLUSH: 108,
  WALK: 110,
  READ: 116,
  WRITE: 118,
  CLUNK: 120,
  REMOVE: 122,
} as const;

export const HEADER_BYTES = 7;
export const QID_BYTES = 13;
export const NO_TAG = 0xffff;
export const NO_FID = 0xffff_ffff;
export const NAME_BYTES_MAX = 255;

/** What a file is to 9P: its type, a version and a number of its own. */
export interface Qid {
  readonly type: number;
  readonly version: number;
  readonly path: bigint;
}
export const QID_TYPE = { FOLDER: 0x80, SYMLINK: 0x02, FILE: 0 } as const;

/** Reads a request. Throws Errno EPROTO past its end. */
export class MessageReader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Uint8Array, at = HEADER_BYTES) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = at;
  }

  u8(): number {
    return this.#bytes.readUInt8(this.#take(1));
  }
  u16(): number {
    return this.#bytes.readUInt16LE(this.#take(2));
  }
  u32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }
  u64(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }
  /** A view on the request. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }
  string(): Uint8Array {
    return this.bytes(this.u16());
  }
  /** The name of a file in its folder. */
  name(): Uint8Array {
    const name = this.string();
    if (name.length > NAME_BYTES_MAX) throw new Errno(ERRNO.ENAMETOOLONG, 'name');
    if (name.length === 0 || name.includes(0) || name.includes(0x2f)) throw new Errno(ERRNO.EINVAL, 'name');
    return name;
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#bytes.length) throw new Errno(ERRNO.EPROTO, 'request is cut short');
    this.#at = at + length;
    return at;
  }
}

/** Writes a reply into a buffer that is used again for the next one. */
export class MessageWriter {
  readonly #bytes: Buffer;
  #at = HEADER_BYTES;
  #limit: number;

  constructor(bytesMax: number) {
    this.#bytes = Buffer.alloc(bytesMax);
    this.#limit = bytesMax;
  }

  /** Begins a reply of at most `limit` bytes. */
  begin(limit: number): void {
    this.#at = HEADER_BYTES;
    this.#limit = Math.min(limit, this.#bytes.length);
  }

  /** Bytes that still fit. */
  get room(): number {
    return Math.max(0, this.#limit - this.#at);
  }

  u8(value: number): void {
    this.#bytes.writeUInt8(value, this.#take(1));
  }
  u16(value: number): void {
    this.#bytes.writeUInt16LE(value, this.#take(2));
  }
  u32(value: number): void {
    this.#bytes.writeUInt32LE(value, this.#take(4));
  }
  u64(value: bigint): void {
    this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.#take(8));
  }
  qid({ type, version, path }: Qid): void {
    this.u8(type);
    this.u32(version);
    this.u64(path);
  }
  string(bytes: Uint8Array): void {
    this.u16(bytes.length);
    this.#bytes.set(bytes, this.#take(bytes.length));
  }
  /** A count in four bytes, and as many bytes as `fill` puts into the view that it gets. */
  counted(lengthMax: number, fill: (into: Uint8Array) => number): void {
    const countAt = this.#take(4);
    const at = this.#at;
    const length = fill(this.#bytes.subarray(at, at + Math.min(lengthMax, this.room)));
    this.#bytes.writeUInt32LE(length, countAt);
    this.#take(length);
  }

  finish(type: number, tag: number): Uint8Array {
    this.#bytes.writeUInt32LE(this.#at, 0);
    this.#bytes.writeUInt8(type, 4);
    this.#bytes.writeUInt16LE(tag, 5);
    return this.#bytes.subarray(0, this.#at);
  }

  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#limit) throw new Errno(ERRNO.EMSGSIZE, 'reply does not fit');
    this.#at = at + length;
    return at;
  }
}

/** Rlerror: why a request failed. */
export function errorReply(tag: number, errno: number): Uint8Array {
  const reply = Buffer.alloc(HEADER_BYTES + 4);
  reply.writeUInt32LE(reply.length, 0);
  reply.writeUInt8(T.LERROR + 1, 4);
  reply.writeUInt16LE(tag, 5);
  reply.writeUInt32LE(errno, HEADER_BYTES);
  return reply;
}

/** A reply without fields. */
export function emptyReply(type: number, tag: number): Uint8Array {
  const reply = Buffer.alloc(HEADER_BYTES);
  reply.writeUInt32LE(reply.length, 0);
  reply.writeUInt8(type, 4);
  reply.writeUInt16LE(tag, 5);
  return reply;
}
