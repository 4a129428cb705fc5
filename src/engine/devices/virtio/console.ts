/**
 * Console device (virtio 1.2, 5.3) with several ports, each over a CharPort. Port n that is a console is
 * the guest's hvc<n>; others are /dev/virtio-ports/<name>. Bytes for the guest stay in the CharPort until
 * the guest has opened the port and has buffers for them. Consoles come and go while the guest runs.
 *
 * Output is always taken: Linux's driver waits for it with the CPU spinning, so a port that is full loses it instead.
 */
import type { CharPort } from '../../backends.ts';
import type { Chain } from './chain.ts';
import { ControlMessages, EVENT } from './console-control.ts';
import { defineVirtioDevice, type VirtioHost, type VirtioModel } from './device.ts';

const FEATURE = { SIZE: 0, MULTIPORT: 1, EMERG_WRITE: 2 } as const;
const CONFIG = { COLS: 0, ROWS: 2, MAX_NR_PORTS: 4, EMERG_WR: 8, BYTES: 12 } as const;
const QUEUE = { CONTROL_RECEIVE: 2, CONTROL_TRANSMIT: 3 } as const;
/** The guest gives every port that it has so many pages to receive into. */
const QUEUE_SIZE = 32;
const CONTROL_QUEUE_SIZE = 64;
/** Bytes moved at a time. */
const CHUNK_BYTES = 4096;
export const CONSOLE_PORTS_MAX = 31;

export interface ConsolePortOptions {
  readonly port: CharPort;
  /** A terminal (hvcN), not a plain byte stream. */
  readonly console: boolean;
  /** Name under /dev/virtio-ports. */
  readonly name?: string | undefined;
}

export interface ConsoleOptions {
  readonly ports: readonly ConsolePortOptions[];
  /** The first `ports` ports come and go, and the first `count` of them are there at first. Without it all are always there. */
  readonly lines?: { readonly ports: number; readonly count: number } | undefined;
}

export interface ConsoleCounters {
  /** Bytes to the guest. */
  rxBytes: number;
  /** Bytes from the guest. */
  txBytes: number;
}

export interface ConsoleHandle {
  readonly counters: ConsoleCounters;
  /** Tells the guest the size of a terminal. */
  setSize(port: number, columns: number, rows: number): void;
  /** Of the ports that come and go, the guest has the first `count` from now on. Guests number consoles without gaps. */
  setLineCount(count: number): void;
}

interface Port extends ConsolePortOptions {
  readonly receive: number;
  readonly transmit: number;
  present: boolean;
  /** The guest's driver knows the port. */
  ready: boolean;
  /** The guest has the port open. */
  open: boolean;
  size: { readonly columns: number; readonly rows: number } | undefined;
}

class ConsoleModel implements VirtioModel, ConsoleHandle {
  readonly features = [FEATURE.SIZE, FEATURE.MULTIPORT, FEATURE.EMERG_WRITE];
  readonly queueSizes: readonly number[];
  readonly config = new Uint8Array(CONFIG.BYTES);
  readonly counters: ConsoleCounters = { rxBytes: 0, txBytes: 0 };
  readonly #host: VirtioHost;
  readonly #ports: readonly Port[];
  readonly #messages: ControlMessages;
  readonly #configView = new DataView(this.config.buffer);
  readonly #scratch = new Uint8Array(CHUNK_BYTES);
  /** The driver has asked for the ports. */
  #introduced = false;

  readonly #linePorts: number;

  constructor(host: VirtioHost, { ports, lines = { ports: 0, count: 0 } }: ConsoleOptions) {
    if (ports.length === 0 || ports.length > CONSOLE_PORTS_MAX) {
      throw new RangeError(`a console device has 1 to ${CONSOLE_PORTS_MAX} ports`);
    }
    this.#host = host;
    this.#linePorts = lines.ports;
    this.#messages = new ControlMessages(host, QUEUE.CONTROL_RECEIVE);
    this.#ports = ports.map((options, i) => {
      const receive = i === 0 ? 0 : 2 * (i + 1);
      const present = i >= lines.ports || i < lines.count;
      return {
        ...options,
        receive,
        transmit: receive + 1,
        present,
        ready: false,
        open: false,
        size: undefined,
      };
    });
    this.queueSizes = Array.from({ length: 2 * (ports.length + 1) }, (_, i) =>
      i === QUEUE.CONTROL_RECEIVE || i === QUEUE.CONTROL_TRANSMIT ? CONTROL_QUEUE_SIZE : QUEUE_SIZE,
    );
    this.#configView.setUint32(CONFIG.MAX_NR_PORTS, ports.length, true);
    for (const port of this.#ports) port.port.onReadable(() => this.#receive(port));
  }

  setSize(index: number, columns: number, rows: number): void {
    const port = this.#ports[index];
    if (port === undefined) throw new RangeError(`the console device has no port ${index}`);
    port.size = { columns, rows };
    if (index === 0) {
      this.#configView.setUint16(CONFIG.COLS, columns, true);
      this.#configView.setUint16(CONFIG.ROWS, rows, true);
      this.#host.configChanged();
    }
    if (port.ready && port.console) this.#sendSize(index, port);
  }

  setLineCount(count: number): void {
    for (const [index, port] of this.#ports.slice(0, this.#linePorts).entries()) {
      const present = index < count;
      if (port.present === present) continue;
      port.present = present;
      port.ready = false;
      port.open = false;
      if (this.#introduced) this.#messages.send(index, present ? EVENT.DEVICE_ADD : EVENT.DEVICE_REMOVE, 1);
    }
  }

  notify(queueIndex: number): void {
    if (queueIndex === QUEUE.CONTROL_RECEIVE) {
      this.#messages.flush();
      return;
    }
    if (queueIndex === QUEUE.CONTROL_TRANSMIT) {
      this.#control();
      return;
    }
    const port = this.#ports[queueIndex < 2 ? 0 : (queueIndex >> 1) - 1];
    if (queueIndex === port.receive) this.#receive(port);
    else this.#transmit(port);
  }

  /** The emergency write register: a byte for port 0 without a queue (5.3.4). */
  writeConfig(offset: number, _size: number, value: number): void {
    if (offset !== CONFIG.EMERG_WR) return;
    this.#scratch[0] = value;
    this.counters.txBytes++;
    this.#ports[0].port.output(this.#scratch.subarray(0, 1));
  }

  reset(): undefined {
    this.#messages.clear();
    this.#introduced = false;
    for (const port of this.#ports) {
      port.ready = false;
      this.#setOpen(port, false);
    }
  }

  /** Without the multiport feature there is only port 0, and it is always open. */
  #isOpen(port: Port): boolean {
    return this.#host.has(FEATURE.MULTIPORT) ? port.open : port === this.#ports[0];
  }

  #receive(port: Port): void {
    if (!this.#host.live || !this.#isOpen(port)) return;
    const queue = this.#host.queue(port.receive);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const bytes = port.port.input(Math.min(chain.writableBytes, CHUNK_BYTES));
      if (bytes.length === 0) {
        queue.unpop(chain);
        break;
      }
      const written = chain.write(0, bytes);
      this.counters.rxBytes += written;
      queue.put(chain, written);
    }
    queue.publish();
  }

  #transmit(port: Port): void {
    const queue = this.#host.queue(port.transmit);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      this.#output(port, chain);
      queue.put(chain, 0);
    }
    queue.publish();
  }

  /** Bytes go out as copies: receivers pass them on, which shared memory does not allow. */
  #output(port: Port, chain: Chain): void {
    const bytes = Math.min(chain.readableBytes, OUTPUT_BYTES_MAX);
    for (let offset = 0; offset < bytes; ) {
      const count = chain.read(offset, this.#scratch);
      port.port.output(this.#scratch.subarray(0, count));
      offset += count;
    }
    this.counters.txBytes += bytes;
  }

  #control(): void {
    const queue = this.#host.queue(QUEUE.CONTROL_TRANSMIT);
    for (let chain = queue.pop(); chain !== undefined; chain = queue.pop()) {
      const message = this.#messages.parse(chain);
      if (message !== undefined) this.#handle(message.port, message.event, message.value);
      queue.put(chain, 0);
    }
    queue.publish();
    this.#messages.flush();
  }

  #handle(index: number, event: number, value: number): void {
    if (event === EVENT.DEVICE_READY) {
      if (value !== 1) return;
      this.#introduced = true;
      for (const [i, port] of this.#ports.entries()) {
        if (port.present) this.#messages.send(i, EVENT.DEVICE_ADD, 1);
      }
      return;
    }
    const port = this.#ports[index];
    if (port === undefined || !port.present) return;
    if (event === EVENT.PORT_READY && value === 1) this.#introduce(index, port);
    if (event === EVENT.PORT_OPEN) {
      this.#setOpen(port, value === 1);
      this.#receive(port);
    }
  }

  #setOpen(port: Port, open: boolean): void {
    port.open = open;
    port.port.opened?.(open);
  }

  /** The guest has made the port: say what it is, and that this end is open. */
  #introduce(index: number, port: Port): void {
    port.ready = true;
    if (port.console) this.#messages.send(index, EVENT.CONSOLE_PORT, 1);
    if (port.console) this.#sendSize(index, port);
    if (port.name !== undefined) this.#messages.sendName(index, port.name);
    this.#messages.send(index, EVENT.PORT_OPEN, 1);
  }

  #sendSize(index: number, port: Port): void {
    if (port.size !== undefined) this.#messages.sendSize(index, port.size.columns, port.size.rows);
  }
}

/** Most that one chain outputs; a longer one is cut. */
const OUTPUT_BYTES_MAX = 0x10_0000;

export const consoles = defineVirtioDevice<ConsoleOptions, ConsoleHandle>({
  kind: 'virtio-console',
  virtioId: 3,
  classCode: 0x078000,
  create(host, options) {
    const model = new ConsoleModel(host, options);
    return { model, handle: model };
  },
});
