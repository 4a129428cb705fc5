/** Terminals of the host: pseudo-terminals that are made for a console (`pts`, `pty`), and devices (`tty:DEVICE`). */
import * as fs from 'node:fs';
import { ReadStream } from 'node:tty';
import { AppError, systemErrorCode } from '../../contracts/errors.ts';
import { type ChannelContext, type OpenChannel, SteadyViewer } from './channel.ts';
import { makeRaw, openPseudoTerminal, TERMINAL_FLAGS, windowSize, writeNow } from './libc.ts';

/** How soon output that found no room is tried again, as there is no event for it: at first, and when nobody reads for long. */
const RETRY_MS = 10;
const RETRY_MS_MAX = 1000;

/** AppError `io_error`. */
export function openPts(context: ChannelContext): OpenChannel {
  const { master, path } = openPseudoTerminal();
  // Its own end stays open, so that readers may come and go; and nothing is echoed to the guest before one comes.
  const slave = fs.openSync(path, TERMINAL_FLAGS);
  makeRaw(slave);
  return join(master, path, context, () => fs.closeSync(slave));
}

/** AppErrors: `not_found`, `invalid_input` for what is no terminal, `io_error`. */
export function openTty(path: string, context: ChannelContext): OpenChannel {
  const fd = openDevice(path);
  let restore: () => void;
  try {
    restore = makeRaw(fd);
  } catch (cause) {
    fs.closeSync(fd);
    throw new AppError('invalid_input', `${path} is no terminal`, {
      field: 'channel',
      remedy: 'name a terminal device, such as /dev/ttyUSB0',
      cause,
    });
  }
  return join(fd, path, context, restore);
}

function openDevice(path: string): number {
  try {
    return fs.openSync(path, TERMINAL_FLAGS);
  } catch (cause) {
    const code = systemErrorCode(cause);
    if (code === 'ENOENT')
      throw new AppError('not_found', `there is no ${path}`, { field: 'channel', cause });
    throw new AppError('io_error', `${path} cannot be opened: ${code ?? String(cause)}`, {
      field: 'channel',
      cause,
    });
  }
}

/** Bytes on their way to a descriptor that does not wait. */
class TerminalWriter {
  readonly #fd: number;
  readonly #onError: (error: unknown) => void;
  readonly #queue: { bytes: Uint8Array; readonly done: () => void }[] = [];
  #retry: NodeJS.Timeout | undefined;
  #retryMs = RETRY_MS;
  #closed = false;

  constructor(fd: number, onError: (error: unknown) => void) {
    this.#fd = fd;
    this.#onError = onError;
  }

  write(bytes: Uint8Array, done: () => void): void {
    this.#queue.push({ bytes, done });
    if (this.#retry === undefined) this.#flush();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#queue.length = 0;
  }

  #flush(): void {
    this.#retry = undefined;
    try {
      for (let next = this.#queue[0]; next !== undefined; next = this.#queue[0]) {
        const written = writeNow(this.#fd, next.bytes);
        this.#retryMs = written > 0 ? RETRY_MS : Math.min(this.#retryMs * 2, RETRY_MS_MAX);
        if (written < next.bytes.length) {
          next.bytes = next.bytes.subarray(written);
          this.#retry = setTimeout(() => this.#flush(), this.#retryMs).unref();
          return;
        }
        this.#queue.shift();
        next.done();
      }
    } catch (error) {
      if (!this.#closed) this.#onError(error);
    }
  }
}

function join(fd: number, path: string, context: ChannelContext, release: () => void): OpenChannel {
  let closed = false;
  const input = context.reads ? new ReadStream(fd) : undefined;
  const end = (why: string): void => {
    if (closed) return;
    close();
    context.ended(why);
  };
  const writer = new TerminalWriter(fd, (error) => end(String(error)));
  const sink = context.writes ? writer : { write: (_bytes: Uint8Array, done: () => void) => done() };
  const held = (isHeld: boolean): void => void (isHeld ? input?.pause() : input?.resume());
  const viewer = new SteadyViewer(sink, held, () => end('the console has gone'));
  viewer.opened(context.join(viewer, false));
  const tellSize = (): void => {
    const size = windowSize(fd);
    if (size !== undefined) viewer.resize(size.columns, size.rows);
  };
  tellSize();
  input?.on('data', (bytes: Buffer) => {
    // Whoever has the other end says nothing when its size changes: it is looked at when something is typed.
    tellSize();
    viewer.input(new Uint8Array(bytes));
  });
  input?.on('error', (error) => end(error.message));
  input?.on('end', () => end(`${path} has been closed`));
  function close(): void {
    if (closed) return;
    closed = true;
    writer.close();
    viewer.close();
    release();
    if (input === undefined) fs.closeSync(fd);
    else input.destroy();
  }
  return { device: path, close };
}
