/** One VM's socket in the thread of the sockets: reads requests, answers what is wrong with them, sends replies. */
import { chmodSync } from 'node:fs';
import { BARE_REFUSAL, encodeReply, TOO_LARGE, WRONG_VERSION } from '../wire/reply.ts';
import { decodeRequest } from '../wire/request.ts';
import { type Datagram, DatagramSocket, pathAddress } from './datagram-socket.ts';
import { Outbox } from './outbox.ts';

/** More than these are left in the kernel's queue, where their senders wait. */
const PENDING_MAX = 64;
/** Only its owner may send to it; the credentials of each datagram are checked as well. */
const SOCKET_MODE = 0o600;
const EPERM = -1;

export class ConsoleSocket {
  readonly #socket: DatagramSocket;
  readonly #outbox: Outbox;
  readonly #submit: (text: string) => number;
  /** Where the replies go; undefined for who cannot get one. */
  readonly #pending = new Map<number, Uint8Array | undefined>();
  readonly #uid = process.geteuid?.();
  #closing = false;

  /** `submit` passes a command on and gives its number, with which `reply` will be called. Throws when it cannot be bound. */
  constructor(path: string, submit: (text: string) => number) {
    this.#socket = new DatagramSocket(path);
    try {
      chmodSync(path, SOCKET_MODE);
    } catch (error) {
      this.#socket.close();
      throw error;
    }
    this.#submit = submit;
    this.#outbox = new Outbox(
      (bytes, to) => this.#socket.send(bytes, to),
      () => performance.now(),
    );
  }

  get fd(): number {
    return this.#socket.fd;
  }
  get wantsRequests(): boolean {
    return !this.#closing && this.#pending.size < PENDING_MAX;
  }
  get hasUnsent(): boolean {
    return !this.#outbox.isEmpty;
  }
  /** It is closing, and everything is answered. */
  get isDone(): boolean {
    return this.#closing && this.#pending.size === 0 && this.#outbox.isEmpty;
  }

  /** Takes what has come in, up to the limit. */
  receive(): void {
    while (this.wantsRequests) {
      const datagram = this.#socket.receive();
      if (datagram === undefined) return;
      this.#take(datagram);
    }
  }

  reply(request: number, err: number, text: string): void {
    const to = this.#pending.get(request);
    this.#pending.delete(request);
    this.#send(to, encodeReply(err, text));
  }

  /** To whoever has bound `path`; lost when nobody has. */
  send(path: string, bytes: Uint8Array): void {
    this.#outbox.send([bytes], pathAddress(path));
  }

  flush(): void {
    this.#outbox.flush();
  }

  close(): void {
    this.#closing = true;
  }

  /** Closes it at once, with whatever is unsent. */
  destroy(): void {
    this.#socket.close();
  }

  #take({ bytes, from, uid }: Datagram): void {
    if (uid === undefined || uid !== this.#uid) {
      this.#send(from, encodeReply(EPERM, 'Permission denied'));
      return;
    }
    const request = decodeRequest(bytes);
    if (request.kind === 'bare') this.#send(from, [BARE_REFUSAL]);
    else if (request.kind === 'too-large') this.#send(from, encodeReply(1, TOO_LARGE));
    else {
      if (request.wrongVersion) this.#send(from, encodeReply(1, WRONG_VERSION));
      this.#pending.set(this.#submit(request.text), from);
    }
  }

  #send(to: Uint8Array | undefined, datagrams: readonly Uint8Array[]): void {
    if (to !== undefined) this.#outbox.send(datagrams, to);
  }
}
