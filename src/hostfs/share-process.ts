/**
 * A share that a process of its own serves, so that a folder which does not answer holds up nobody else: not the VM, whose other devices
 * go on, and not its end. A process rather than a thread, because a thread in such a call cannot be ended.
 */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { AppError, type PlainError } from '../contracts/errors.ts';
import type { ShareConfig } from '../contracts/machine.ts';
import type { FileShare } from '../engine/backends.ts';
import { encodeFrame, FRAME, type Frame, FrameReader } from './frames.ts';
import { ERRNO } from './libc.ts';
import { MESSAGE_BYTES_MAX } from './session.ts';
import { errorReply, HEADER_BYTES, NO_TAG } from './wire.ts';

// Run from source or from the built package.
const MAIN = fileURLToPath(
  new URL(`./share-main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);
const OPEN_TIMEOUT_MS = 30_000;
/** What is under way has so long to end with the share. */
const CLOSE_GRACE_MS = 2000;
const ID_MAX = 0xffff_ffff;

interface Pending {
  readonly tag: number;
  readonly respond: (reply: Uint8Array) => void;
}

export class ShareProcess implements FileShare {
  readonly messageBytesMax = MESSAGE_BYTES_MAX;
  /** Rejects with AppErrors as `openShare`. */
  readonly opened: Promise<void>;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #ended = Promise.withResolvers<void>();
  readonly #opening = Promise.withResolvers<void>();
  readonly #pending = new Map<number, Pending>();
  #nextId: number = FRAME.FIRST_REQUEST;
  #isOver = false;

  constructor(config: ShareConfig) {
    // The flags of V8 are this process's.
    const child = spawn(process.execPath, [...process.execArgv, MAIN], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child = child;
    const reader = new FrameReader();
    child.stdout.on('data', (bytes: Buffer) => {
      for (const frame of reader.push(bytes)) this.#take(frame);
    });
    child.stdin.on('error', () => undefined);
    child.once('error', (error) => this.#over(config.tag, error.message));
    child.once('close', () => this.#over(config.tag, 'its process has ended'));
    this.#send(FRAME.OPEN, 0, Buffer.from(JSON.stringify(config)));
    this.opened = this.#inTime(config.tag);
    // Whoever does not ask is answered EIO later.
    this.opened.catch(() => undefined);
  }

  serve(request: Uint8Array, replyBytesMax: number, respond: (reply: Uint8Array) => void): void {
    const isWhole = request.length >= HEADER_BYTES;
    const tag = isWhole ? request[5]! | (request[6]! << 8) : NO_TAG;
    if (this.#isOver) {
      respond(errorReply(tag, ERRNO.EIO));
      return;
    }
    const id = this.#nextId;
    this.#nextId = id === ID_MAX ? FRAME.FIRST_REQUEST : id + 1;
    this.#pending.set(id, { tag, respond });
    this.#send(id, replyBytesMax, request);
  }

  reset(): void {
    if (!this.#isOver) this.#send(FRAME.RESET, 0, new Uint8Array());
  }

  /** Waits for what is under way, if that ends soon. A process that hangs in a call ends when that does. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    await Promise.race([this.#ended.promise, delay(CLOSE_GRACE_MS, undefined, { ref: false })]);
    this.#child.kill('SIGKILL');
    this.#child.stdin.destroy();
    this.#child.stdout.destroy();
    this.#child.unref();
  }

  #send(id: number, room: number, payload: Uint8Array): void {
    this.#child.stdin.write(encodeFrame({ id, room, payload }));
  }

  #take({ id, payload }: Frame): void {
    if (id === FRAME.OPEN) {
      this.#takeOpened(payload);
      return;
    }
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.respond(payload);
  }

  #takeOpened(answer: Uint8Array): void {
    if (answer.length === 0) {
      this.#opening.resolve();
      return;
    }
    // INVARIANT: share-main.ts writes nothing else.
    const problem = JSON.parse(Buffer.from(answer).toString('utf8')) as PlainError;
    this.#opening.reject(AppError.fromPlain(problem));
  }

  async #inTime(tag: string): Promise<void> {
    const waiting = new AbortController();
    const late = delay(OPEN_TIMEOUT_MS, undefined, { signal: waiting.signal }).then(() => {
      throw new AppError('unreachable', `the folder that is shared as ${tag} does not answer`, {
        field: `shares.${tag}.path`,
        remedy: 'look at it on the host',
      });
    });
    try {
      await Promise.race([this.#opening.promise, late]);
    } finally {
      waiting.abort();
      late.catch(() => undefined);
    }
  }

  #over(tag: string, why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#opening.reject(
      new AppError('io_error', `the share ${tag} cannot be served: ${why}`, {
        field: `shares.${tag}.path`,
        remedy: 'attach it again',
      }),
    );
    for (const { tag: asked, respond } of this.#pending.values()) respond(errorReply(asked, ERRNO.EIO));
    this.#pending.clear();
    this.#ended.resolve();
  }
}
