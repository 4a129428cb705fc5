/** Entry of the thread that has all management consoles' sockets: it waits in poll(2) and nowhere else. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { readSync } from 'node:fs';
import { waitReadable } from './datagram-socket.ts';
import type { FromSocketThread, SocketThreadData, ToSocketThread } from './messages.ts';
import { ConsoleSocket } from './console-socket.ts';

/** How soon a reply that found no room is tried again. */
const RETRY_MS = 5;

class SocketThread {
  readonly #port: MessagePort;
  readonly #wakeFd: number;
  readonly #sockets = new Map<number, ConsoleSocket>();
  /** Requests that wait for their reply, and where they came in. */
  readonly #requests = new Map<number, ConsoleSocket>();
  #nextRequest = 1;

  constructor(port: MessagePort, { wakeFd }: SocketThreadData) {
    this.#port = port;
    this.#wakeFd = wakeFd;
  }

  /** Until the message `end`. */
  run(): void {
    const wake = new BigUint64Array(1);
    while (this.#takeMessages()) {
      const sockets = [...this.#sockets.values()];
      const wantMore = sockets.filter((socket) => socket.wantsRequests);
      const isBlocked = sockets.some((socket) => socket.hasUnsent);
      const fds = [this.#wakeFd, ...wantMore.map((socket) => socket.fd)];
      const readable = waitReadable(fds, isBlocked ? RETRY_MS : -1);
      if (readable.has(this.#wakeFd)) readSync(this.#wakeFd, wake);
      for (const socket of wantMore) if (readable.has(socket.fd)) socket.receive();
      for (const socket of sockets) socket.flush();
    }
    for (const socket of this.#sockets.values()) socket.destroy();
  }

  /** False at the end. */
  #takeMessages(): boolean {
    for (;;) {
      // INVARIANT: the main thread sends ToSocketThread alone.
      const received = receiveMessageOnPort(this.#port) as { readonly message: ToSocketThread } | undefined;
      if (received === undefined) break;
      if (received.message.type === 'end') return false;
      this.#take(received.message);
    }
    for (const [id, socket] of this.#sockets) {
      if (!socket.isDone) continue;
      socket.destroy();
      this.#sockets.delete(id);
      this.#post({ type: 'closed', socket: id });
    }
    return true;
  }

  #take(message: Exclude<ToSocketThread, { readonly type: 'end' }>): void {
    switch (message.type) {
      case 'open':
        this.#open(message.socket, message.path);
        break;
      case 'reply':
        this.#requests.get(message.request)?.reply(message.request, message.err, message.text);
        this.#requests.delete(message.request);
        break;
      case 'send':
        this.#sockets.get(message.socket)?.send(message.path, message.bytes);
        break;
      case 'close':
        this.#sockets.get(message.socket)?.close();
        break;
    }
  }

  #open(id: number, path: string): void {
    try {
      const socket: ConsoleSocket = new ConsoleSocket(path, (text) => {
        const request = this.#nextRequest++;
        this.#requests.set(request, socket);
        this.#post({ type: 'request', socket: id, request, text });
        return request;
      });
      this.#sockets.set(id, socket);
    } catch (error) {
      this.#post({
        type: 'failed',
        socket: id,
        message: error instanceof Error ? error.message : String(error),
      });
      return;
    }
    this.#post({ type: 'opened', socket: id });
  }

  #post(message: FromSocketThread): void {
    this.#port.postMessage(message);
  }
}

// INVARIANT: this file is only ever started as a worker, with SocketThreadData.
const port = parentPort as MessagePort;
new SocketThread(port, workerData as SocketThreadData).run();
port.close();
