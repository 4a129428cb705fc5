/** A 9P2000.L client for tests, which sends whatever it is told to. */
import type { FileShare } from '../../engine/backends.ts';
import { HEADER_BYTES, MessageReader, NO_FID, T } from '../wire.ts';

/** A field of a request: bytes, a string, or a number with its size. */
export type Field = Uint8Array | string | readonly [bytes: 1 | 2 | 4 | 8, value: number | bigint];

export const u8 = (value: number): Field => [1, value];
export const u16 = (value: number): Field => [2, value];
export const u32 = (value: number): Field => [4, value];
export const u64 = (value: number | bigint): Field => [8, value];

/** Rlerror. */
export class RemoteError extends Error {
  readonly errno: number;
  constructor(errno: number) {
    super(`errno ${errno}`);
    this.errno = errno;
  }
}

function encode(field: Field): Uint8Array {
  if (typeof field === 'string') {
    const text = Buffer.from(field);
    return Buffer.concat([Uint8Array.of(text.length & 0xff, text.length >> 8), text]);
  }
  if (field instanceof Uint8Array) return field;
  const [length, value] = field;
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, length);
}

/** Bytes as a string field. */
export function name(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.of(bytes.length & 0xff, bytes.length >> 8), bytes]);
}

export function message(type: number, tag: number, fields: readonly Field[]): Uint8Array {
  const body = Buffer.concat(fields.map(encode));
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES + body.length, 0);
  header.writeUInt8(type, 4);
  header.writeUInt16LE(tag, 5);
  return Buffer.concat([header, body]);
}

export interface FolderEntry {
  readonly name: Buffer;
  readonly offset: bigint;
}

export class Client {
  readonly root = 0;
  readonly #share: FileShare;
  #nextFid = 1;
  #tag = 0;

  constructor(share: FileShare) {
    this.#share = share;
  }

  /** Sends raw bytes; resolves with the reply as it is. */
  raw(request: Uint8Array, replyBytesMax = 1 << 20): Promise<Buffer> {
    return new Promise((resolve) => {
      this.#share.serve(request, replyBytesMax, (reply) => resolve(Buffer.from(reply)));
    });
  }

  /** Rejects with RemoteError. */
  async call(type: number, ...fields: readonly Field[]): Promise<MessageReader> {
    const reply = await this.raw(message(type, this.#tag++ & 0x7fff, fields));
    if (reply[4] === T.LERROR + 1) throw new RemoteError(reply.readUInt32LE(HEADER_BYTES));
    if (reply[4] !== type + 1) throw new Error(`reply of type ${reply[4]} to ${type}`);
    if (reply.readUInt32LE(0) !== reply.length) throw new Error('reply of a wrong size');
    return new MessageReader(reply);
  }

  async attach(messageBytes = 1 << 20): Promise<this> {
    await this.call(T.VERSION, u32(messageBytes), '9P2000.L');
    await this.call(T.ATTACH, u32(this.root), u32(NO_FID), '', '', u32(0));
    return this;
  }

  /** A fid for a path; `from` is a fid. */
  async walk(from: number, ...names: readonly (string | Uint8Array)[]): Promise<number> {
    const fid = this.#nextFid++;
    const fields = names.map((one) => (typeof one === 'string' ? one : name(one)));
    const reply = await this.call(T.WALK, u32(from), u32(fid), u16(names.length), ...fields);
    if (reply.u16() !== names.length) throw new RemoteError(2);
    return fid;
  }

  async open(fid: number, flags = 0): Promise<number> {
    await this.call(T.LOPEN, u32(fid), u32(flags));
    return fid;
  }

  /** A fid that is open for reading and writing. */
  async create(folder: number, file: string | Uint8Array, mode = 0o644, flags = 2): Promise<number> {
    const fid = await this.walk(folder);
    const field = typeof file === 'string' ? file : name(file);
    await this.call(T.LCREATE, u32(fid), field, u32(flags), u32(mode), u32(0));
    return fid;
  }

  async read(fid: number, offset = 0, count = 65_536): Promise<Buffer> {
    const reply = await this.call(T.READ, u32(fid), u64(offset), u32(count));
    return Buffer.from(reply.bytes(reply.u32()));
  }

  async write(fid: number, text: string | Uint8Array, offset = 0): Promise<number> {
    const data = Buffer.from(text);
    return (await this.call(T.WRITE, u32(fid), u64(offset), u32(data.length), data)).u32();
  }

  async mode(fid: number): Promise<number> {
    return (await this.attributes(fid)).mode;
  }

  async attributes(fid: number) {
    const reply = await this.call(T.GETATTR, u32(fid), u64(0x7ff));
    reply.u64();
    reply.bytes(13);
    const [mode, uid, gid] = [reply.u32(), reply.u32(), reply.u32()];
    const links = reply.u64();
    reply.u64();
    return { mode, uid, gid, links, size: reply.u64() };
  }

  async entries(fid: number, offset: bigint, count: number): Promise<FolderEntry[]> {
    const reply = await this.call(T.READDIR, u32(fid), u64(offset), u32(count));
    const found: FolderEntry[] = [];
    for (let left = reply.u32(); left > 0; ) {
      reply.bytes(13);
      const at = reply.u64();
      reply.u8();
      const text = Buffer.from(reply.string());
      found.push({ name: text, offset: at });
      left -= 24 + text.length;
    }
    return found;
  }

  async clunk(fid: number): Promise<void> {
    await this.call(T.CLUNK, u32(fid));
  }
}
