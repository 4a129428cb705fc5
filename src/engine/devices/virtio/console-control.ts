/** Control messages of a multiport console (virtio 1.2, 5.3.6.2). */
import type { Chain } from './chain.ts';
import type { VirtioHost } from './device.ts';

export const EVENT = {
  DEVICE_READY: 0,
  DEVICE_ADD: 1,
  DEVICE_REMOVE: 2,
  PORT_READY: 3,
  CONSOLE_PORT: 4,
  RESIZE: 5,
  PORT_OPEN: 6,
  PORT_NAME: 7,
} as const;

/** struct virtio_console_control: id u32, event u16, value u16. */
const MESSAGE_BYTES = 8;
/** Messages that wait for the driver's buffers. */
const WAITING_MAX = 256;

export interface ControlMessage {
  readonly port: number;
  readonly event: number;
  readonly value: number;
}

/** Messages on their way to the driver. */
export class ControlMessages {
  readonly #host: VirtioHost;
  readonly #queueIndex: number;
  readonly #waiting: Uint8Array[] = [];
  readonly #incoming = new Uint8Array(MESSAGE_BYTES);

  constructor(host: VirtioHost, queueIndex: number) {
    this.#host = host;
    this.#queueIndex = queueIndex;
  }

  clear(): void {
    this.#waiting.length = 0;
  }

  /** Reads a message from the driver; undefined if it is too short. */
  parse(chain: Chain): ControlMessage | undefined {
    if (chain.read(0, this.#incoming) < MESSAGE_BYTES) return undefined;
    const view = new DataView(this.#incoming.buffer);
    return {
      port: view.getUint32(0, true),
      event: view.getUint16(4, true),
      value: view.getUint16(6, true),
    };
  }

  send(port: number, event: number, value: number, rest: Uint8Array = new Uint8Array(0)): void {
    if (this.#waiting.length === WAITING_MAX) {
      this.#host.fail('the driver does not collect control messages');
      return;
    }
    const message = new Uint8Array(MESSAGE_BYTES + rest.length);
    const view = new DataView(message.buffer);
    view.setUint32(0, port, true);
    view.setUint16(4, event, true);
    view.setUint16(6, value, true);
    message.set(rest, MESSAGE_BYTES);
    this.#waiting.push(message);
    this.flush();
  }

  sendName(port: number, name: string): void {
    this.send(port, EVENT.PORT_NAME, 1, new TextEncoder().encode(name));
  }

  /** Columns come first, as in the specification; Linux has read rows first until 2025, and shows such sizes swapped. */
  sendSize(port: number, columns: number, rows: number): void {
    const rest = new Uint8Array(4);
    new DataView(rest.buffer).setUint16(0, columns, true);
    new DataView(rest.buffer).setUint16(2, rows, true);
    this.send(port, EVENT.RESIZE, 0, rest);
  }

  /** Hands waiting messages over as far as the driver has buffers. */
  flush(): void {
    if (!this.#host.live) return;
    const queue = this.#host.queue(this.#queueIndex);
    while (this.#waiting.length > 0) {
      const chain = queue.pop();
      if (chain === undefined) break;
      queue.put(chain, chain.write(0, this.#waiting.shift()!));
    }
    queue.publish();
  }
}
