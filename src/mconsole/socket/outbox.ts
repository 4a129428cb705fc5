/** Replies that wait for room in their receivers' queues, which the kernel keeps short (net.unix.max_dgram_qlen). */
import type { SendResult } from './datagram-socket.ts';

/** Who takes nothing for so long is given up. */
export const GIVE_UP_MS = 2000;
/** All waiting replies together; who would need more is given up. */
export const WAITING_BYTES_MAX = 16 << 20;

interface Receiver {
  readonly to: Uint8Array;
  readonly datagrams: Uint8Array[];
  /** Since when it has taken nothing. */
  since: number;
}

/** Keeps the order of what goes to one receiver. */
export class Outbox {
  readonly #send: (bytes: Uint8Array, to: Uint8Array) => SendResult;
  readonly #now: () => number;
  readonly #receivers = new Map<string, Receiver>();
  #bytes = 0;

  constructor(send: (bytes: Uint8Array, to: Uint8Array) => SendResult, now: () => number) {
    this.#send = send;
    this.#now = now;
  }

  get isEmpty(): boolean {
    return this.#receivers.size === 0;
  }

  /** Sends at once what can be sent, and keeps the rest for `flush`. */
  send(datagrams: readonly Uint8Array[], to: Uint8Array): void {
    const key = Buffer.from(to).toString('latin1');
    const receiver = this.#receivers.get(key) ?? { to, datagrams: [], since: this.#now() };
    receiver.datagrams.push(...datagrams);
    for (const { length } of datagrams) this.#bytes += length;
    this.#receivers.set(key, receiver);
    if (receiver.datagrams.length === datagrams.length) this.#push(key, receiver);
    if (this.#bytes > WAITING_BYTES_MAX) this.#drop(key, receiver);
  }

  /** Tries again. */
  flush(): void {
    for (const [key, receiver] of [...this.#receivers]) this.#push(key, receiver);
  }

  #push(key: string, receiver: Receiver): void {
    for (;;) {
      const datagram = receiver.datagrams[0];
      if (datagram === undefined) break;
      const result = this.#send(datagram, receiver.to);
      if (result === 'full') {
        if (this.#now() - receiver.since >= GIVE_UP_MS) break;
        return;
      }
      if (result === 'gone') break;
      receiver.datagrams.shift();
      receiver.since = this.#now();
      this.#bytes -= datagram.length;
    }
    this.#drop(key, receiver);
  }

  #drop(key: string, receiver: Receiver): void {
    for (const { length } of receiver.datagrams) this.#bytes -= length;
    receiver.datagrams.length = 0;
    this.#receivers.delete(key);
  }
}
