/** The daemon's side of the thread that has the management consoles' sockets. The thread is started by the first one. */
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { AppError } from '../../contracts/errors.ts';
import { closeEventFd, openEventFd } from './datagram-socket.ts';
import type { FromSocketThread, SocketThreadData, ToSocketThread } from './messages.ts';

// Run from source or from the built package.
const WORKER = new URL(`./socket-thread${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export interface SocketAnswer {
  /** 0, 1 or a negative errno. */
  readonly err: number;
  readonly text: string;
}
/** Must not reject. */
export type SocketHandler = (text: string) => Promise<SocketAnswer>;

export interface SocketHandle {
  /** Sends a datagram from the socket to that at `path`; lost when there is none, or its queue stays full. */
  send(path: string, bytes: Uint8Array): void;
  /** Takes no more requests. Resolves when those that came in are answered. */
  close(): Promise<void>;
}

interface Served {
  readonly handler: SocketHandler;
  readonly opened: PromiseWithResolvers<void>;
  readonly closed: PromiseWithResolvers<void>;
}

interface Thread {
  readonly worker: Worker;
  readonly wakeFd: number;
  readonly ended: Promise<void>;
  readonly atExit: () => void;
}

export class SocketServer {
  readonly #onError: (error: unknown) => void;
  readonly #served = new Map<number, Served>();
  #thread: Thread | undefined;
  #nextSocket = 1;
  #closed = false;

  /** `onError`: the thread has failed, and all its sockets with it. */
  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Binds a socket to `path`, where there must be no file; removing it is the caller's. Throws AppError `io_error`. */
  async open(path: string, handler: SocketHandler): Promise<SocketHandle> {
    const socket = this.#nextSocket++;
    const served = { handler, opened: Promise.withResolvers<void>(), closed: Promise.withResolvers<void>() };
    this.#served.set(socket, served);
    this.#post({ type: 'open', socket, path });
    await served.opened.promise;
    return {
      send: (to, bytes) => {
        if (this.#served.has(socket)) this.#post({ type: 'send', socket, path: to, bytes });
      },
      close: () => {
        if (!this.#served.has(socket)) return Promise.resolve();
        this.#post({ type: 'close', socket });
        return served.closed.promise;
      },
    };
  }

  /** Ends the thread, and sockets that are still open with it. */
  async close(): Promise<void> {
    this.#closed = true;
    const thread = this.#thread;
    if (thread === undefined) return;
    this.#post({ type: 'end' });
    await thread.ended;
  }

  #post(message: ToSocketThread): void {
    this.#thread ??= this.#start();
    send(this.#thread, message);
  }

  #start(): Thread {
    if (this.#closed) throw new AppError('shutting_down', 'the management consoles are ending');
    const wakeFd = openEventFd();
    const workerData: SocketThreadData = { wakeFd };
    const worker = new Worker(WORKER, { name: 'mconsole', workerData });
    // A thread that waits in a foreign call cannot be terminated, and would hold the end of the process up.
    const atExit = (): void => send(thread, { type: 'end' });
    const ended = new Promise<void>((resolve) => {
      worker.once('exit', () => {
        process.off('exit', atExit);
        closeEventFd(wakeFd);
        this.#thread = undefined;
        this.#dropAll();
        resolve();
      });
    });
    const thread: Thread = { worker, wakeFd, ended, atExit };
    worker.on('message', (message: FromSocketThread) => this.#receive(thread, message));
    worker.on('error', this.#onError);
    process.on('exit', atExit);
    return thread;
  }

  #receive(thread: Thread, message: FromSocketThread): void {
    const served = this.#served.get(message.socket);
    if (served === undefined) return;
    switch (message.type) {
      case 'opened':
        served.opened.resolve();
        break;
      case 'failed':
        this.#served.delete(message.socket);
        served.opened.reject(new AppError('io_error', message.message));
        break;
      case 'closed':
        this.#served.delete(message.socket);
        served.closed.resolve();
        break;
      case 'request':
        void this.#answer(thread, served, message.request, message.text);
        break;
    }
  }

  async #answer(thread: Thread, { handler }: Served, request: number, text: string): Promise<void> {
    const answer = await handler(text);
    if (this.#thread === thread) send(thread, { type: 'reply', request, ...answer });
  }

  #dropAll(): void {
    for (const { opened, closed } of this.#served.values()) {
      opened.reject(new AppError('io_error', 'the thread of the management consoles has ended'));
      closed.resolve();
    }
    this.#served.clear();
  }
}

function send({ worker, wakeFd }: Thread, message: ToSocketThread): void {
  worker.postMessage(message);
  writeSync(wakeFd, BigUint64Array.of(1n));
}
