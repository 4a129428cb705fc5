/** The TCP connections of a network's guests: each ends here, and goes on as one of the host's. */
import { randomInt } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { FrameWriter, Peer } from './frame-writer.ts';
import { type Packet, peerOf } from './packet.ts';
import { Budget } from './send-buffer.ts';
import { type ConnectionHost, type HostEnd, TcpConnection } from './tcp-connection.ts';
import { refuse, SegmentWriter, TCP_FLAG, TcpSegment } from './tcp-segment.ts';

/** Connections of one guest. */
const CONNECTIONS_MAX = 1024;
/** Bytes on their way, of all guests of the network. */
const BUFFERED_BYTES_MAX = 64 * 1024 * 1024;
const READ_BYTES = 64 * 1024;
const EPHEMERAL = { FIRST: 32_768, COUNT: 28_000 } as const;

/** Where a guest's connection goes on: at an address of the host's network, or in this process. */
export type TcpTarget = { readonly host: string; readonly port: number } | { readonly end: HostEnd };

export interface TcpOptions {
  readonly writer: FrameWriter;
  /** Sends what the connections have to send, soon. */
  readonly schedule: () => void;
}

export class Tcp implements ConnectionHost {
  readonly budget = new Budget(BUFFERED_BYTES_MAX);
  readonly #options: TcpOptions;
  readonly #connections = new Map<string, TcpConnection>();
  readonly #perSlot = new Map<number, number>();
  readonly #pending = new Set<TcpConnection>();
  readonly #segment = new TcpSegment();
  /** All sockets read into it: what they read is copied at once. */
  readonly #readBuffer = new Uint8Array(READ_BYTES);

  constructor(options: TcpOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#connections.size;
  }

  /**
   * Takes a guest's segment. `route` tells where a new connection goes on; undefined: it is refused.
   */
  receive(packet: Packet, slot: number, route: () => TcpTarget | undefined): void {
    const segment = this.#segment;
    if (!segment.read(packet)) return;
    const key = keyOf(packet.source, packet.sourcePort, packet.destination, packet.destinationPort);
    const isNew = segment.has(TCP_FLAG.SYN) && !segment.has(TCP_FLAG.ACK | TCP_FLAG.RST);
    const known = this.#connections.get(key);
    if (known?.isOver && isNew) known.abort();
    else if (known !== undefined) {
      known.receive(segment);
      return;
    }
    const target = isNew && this.#mayHaveMore(slot) ? route() : undefined;
    if (target === undefined) refuse(this.#writerTo(packet), segment);
    else this.#open(key, slot, this.#writerTo(packet), segment, target);
  }

  /** A connection of the host's, for a port of the guest's. False: it has too many. */
  forward(socket: Socket, from: Uint8Array, to: Peer, port: number, slot: number): boolean {
    if (!this.#mayHaveMore(slot)) return false;
    const free = this.#freePort(from, to.address, port);
    if (free === undefined) return false;
    const segments = new SegmentWriter(this.#options.writer, from, to, free, port);
    const connection = this.#add(keyOf(to.address, port, from, free), slot, segments);
    connection.ask(socket);
    socket.on('data', (bytes: Buffer) => {
      if (!connection.received(bytes)) socket.pause();
    });
    return true;
  }

  /** Lets all connections send that have something. */
  flush(): void {
    const pending = [...this.#pending];
    this.#pending.clear();
    for (const connection of pending) connection.flush();
  }

  /** The guest behind a port of the switch is gone. */
  forget(slot: number): void {
    for (const connection of [...this.#connections.values()])
      if (connection.slot === slot) connection.abort();
  }

  close(): void {
    for (const connection of [...this.#connections.values()]) connection.abort();
  }

  wantsFlush(connection: TcpConnection): void {
    this.#pending.add(connection);
    this.#options.schedule();
  }

  closed(connection: TcpConnection): void {
    this.#pending.delete(connection);
    if (!this.#connections.delete(connection.key)) return;
    const left = (this.#perSlot.get(connection.slot) ?? 1) - 1;
    if (left === 0) this.#perSlot.delete(connection.slot);
    else this.#perSlot.set(connection.slot, left);
  }

  #open(key: string, slot: number, segments: SegmentWriter, syn: TcpSegment, target: TcpTarget): void {
    const connection = this.#add(key, slot, segments);
    if ('end' in target) {
      const { end } = target;
      connection.begin(syn, end);
      end.on('data', (bytes: Buffer) => {
        if (!connection.received(bytes)) end.pause();
      });
      end.emit('connect');
      return;
    }
    const callback = (count: number, bytes: Uint8Array): boolean =>
      connection.received(bytes.subarray(0, count));
    const onread = { buffer: this.#readBuffer, callback };
    connection.begin(syn, connect({ ...target, allowHalfOpen: true, onread }));
  }

  #add(key: string, slot: number, segments: SegmentWriter): TcpConnection {
    const initial = randomInt(0x1_0000_0000) | 0;
    const connection = new TcpConnection({ key, slot, host: this, segments, initial });
    this.#connections.set(key, connection);
    this.#perSlot.set(slot, (this.#perSlot.get(slot) ?? 0) + 1);
    return connection;
  }

  #mayHaveMore(slot: number): boolean {
    return (this.#perSlot.get(slot) ?? 0) < CONNECTIONS_MAX;
  }

  #writerTo(packet: Packet): SegmentWriter {
    const { destination, destinationPort, sourcePort } = packet;
    const peer = peerOf(packet);
    return new SegmentWriter(
      this.#options.writer,
      Uint8Array.from(destination),
      peer,
      destinationPort,
      sourcePort,
    );
  }

  #freePort(from: Uint8Array, to: Uint8Array, port: number): number | undefined {
    const first = randomInt(EPHEMERAL.COUNT);
    for (let i = 0; i < EPHEMERAL.COUNT; i++) {
      const candidate = EPHEMERAL.FIRST + ((first + i) % EPHEMERAL.COUNT);
      if (!this.#connections.has(keyOf(to, port, from, candidate))) return candidate;
    }
    return undefined;
  }
}

/** Of the guest's end, then the other's. */
function keyOf(guest: Uint8Array, guestPort: number, other: Uint8Array, otherPort: number): string {
  const text = (bytes: Uint8Array): string => String.fromCharCode(...bytes);
  return `${text(guest)}${text(other)}${guestPort}:${otherPort}`;
}
