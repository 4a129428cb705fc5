/** A folder of the host as a 9P2000.L server: one request in, one reply out. The client is a guest, and hostile. */
import type { FileShare } from '../engine/backends.ts';
import { ERRNO, Errno } from './libc.ts';
import { attributeRequests } from './requests/attributes.ts';
import { fidRequests } from './requests/fids.ts';
import { fileRequests } from './requests/files.ts';
import { nameRequests } from './requests/names.ts';
import type { Handlers } from './requests/request.ts';
import { MESSAGE_BYTES_MAX, Session, type SessionOptions } from './session.ts';
import { emptyReply, errorReply, HEADER_BYTES, MessageReader, MessageWriter, NO_TAG, T } from './wire.ts';

const HANDLERS: Handlers = { ...fidRequests, ...nameRequests, ...fileRequests, ...attributeRequests };

type Respond = (reply: Uint8Array) => void;

export class Share implements FileShare {
  readonly messageBytesMax = MESSAGE_BYTES_MAX;
  readonly #session: Session;
  readonly #writer = new MessageWriter(MESSAGE_BYTES_MAX);
  /** Requests that are not answered yet, by tag. */
  readonly #pending = new Map<number, Promise<void>>();
  #closed: Promise<void> | undefined;

  /** Throws Errno when the folder cannot be opened. */
  constructor(options: SessionOptions) {
    this.#session = new Session(options);
  }

  serve(message: Uint8Array, replyBytesMax: number, respond: Respond): void {
    if (message.length < HEADER_BYTES) {
      respond(errorReply(NO_TAG, ERRNO.EPROTO));
      return;
    }
    const header = Buffer.from(message.buffer, message.byteOffset, HEADER_BYTES);
    const [size, type, tag] = [header.readUInt32LE(0), header.readUInt8(4), header.readUInt16LE(5)];
    if (size !== message.length || size > this.#session.messageBytes)
      respond(errorReply(tag, ERRNO.EMSGSIZE));
    else if (type === T.FLUSH) this.#flush(message, tag, respond);
    else this.#run(type, tag, message, replyBytesMax, respond);
    this.#session.tree.trim();
  }

  reset(): void {
    this.#session.reset();
  }

  /** After what is under way. Once is enough, and more do no harm. */
  close(): Promise<void> {
    this.#closed ??= this.#end();
    return this.#closed;
  }

  async #end(): Promise<void> {
    await Promise.all(this.#pending.values());
    this.#session.close();
  }

  #run(type: number, tag: number, message: Uint8Array, replyBytesMax: number, respond: Respond): void {
    const writer = this.#writer;
    writer.begin(Math.min(replyBytesMax, this.#session.messageBytes));
    const handler = HANDLERS[type];
    try {
      if (handler === undefined) throw new Errno(ERRNO.EOPNOTSUPP, `request type ${type}`);
      const later = handler(this.#session, new MessageReader(message), writer);
      if (later === undefined) respond(writer.finish(type + 1, tag));
      else this.#await(later, type, tag, respond);
    } catch (error) {
      respond(errorReply(tag, errnoOf(error)));
    }
  }

  #await(work: Promise<void>, type: number, tag: number, respond: Respond): void {
    const done = work.then(
      () => respond(emptyReply(type + 1, tag)),
      (error: unknown) => respond(errorReply(tag, errnoOf(error))),
    );
    this.#pending.set(tag, done);
    void done.finally(() => {
      if (this.#pending.get(tag) === done) this.#pending.delete(tag);
    });
  }

  /** Nothing is cut off: Rflush comes after the reply to the request that it names. */
  #flush(message: Uint8Array, tag: number, respond: Respond): void {
    if (message.length < HEADER_BYTES + 2) {
      respond(errorReply(tag, ERRNO.EPROTO));
      return;
    }
    const old = this.#pending.get(new MessageReader(message).u16());
    const reply = (): void => respond(emptyReply(T.FLUSH + 1, tag));
    if (old === undefined) reply();
    else void old.then(reply);
  }
}

/** Node's own errors have the number too, negative. */
function errnoOf(error: unknown): number {
  if (error instanceof Errno) return error.errno;
  if (error instanceof Error && 'errno' in error && typeof error.errno === 'number')
    return Math.abs(error.errno);
  throw error;
}
