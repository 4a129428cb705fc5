/**
 * The UDP and ICMP echo of a network's guests. Each port of a guest's, or each of its pings, has a socket of the host's:
 * whom it has sent to may answer (address-dependent filtering, RFC 4787 §5).
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import type { Peer } from './frame-writer.ts';
import type { Packet } from './packet.ts';
import { peerOf } from './packet.ts';

/** Of one guest; the one that was used longest ago makes way. */
const FLOWS_MAX = 512;
const IDLE_MS = 120_000;
const SWEEP_MS = 30_000;
const PEERS_MAX = 1024;
/** Of a socket of the host's: what comes while the switch has other things to do. */
export const BUFFER_BYTES = 1 << 20;
/** Bytes that wait in the host's socket: more is lost, as on a wire. */
const QUEUED_BYTES_MAX = 512 * 1024;

export interface Remote {
  /** The host's address for it, and the guest's. */
  readonly host: string;
  readonly address: Uint8Array;
  readonly port: number;
}

export interface Flow {
  readonly guest: Peer;
  /** The guest's port, or the identifier of its pings. */
  readonly id: number;
  readonly slot: number;
}

interface OpenFlow extends Flow {
  readonly key: string;
  readonly socket: Socket;
  /** By the host's address for it: the guest's. */
  readonly peers: Map<string, Uint8Array>;
  lastMs: number;
}

export interface DatagramsOptions {
  /** A socket of the host's; undefined where that is not permitted. */
  open(isIpv6: boolean): Socket | undefined;
  /** What has come for a flow. */
  deliver(flow: Flow, from: Uint8Array, port: number, payload: Buffer): void;
}

export class Datagrams {
  readonly #options: DatagramsOptions;
  /** In order of their last use. */
  readonly #flows = new Map<string, OpenFlow>();
  readonly #perSlot = new Map<number, number>();
  #sweep: NodeJS.Timeout | undefined;

  constructor(options: DatagramsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#flows.size;
  }

  /** Sends a guest's datagram on. False: the host does not permit such sockets. */
  send(packet: Packet, slot: number, id: number, remote: Remote, payload: Uint8Array): boolean {
    const key = `${String.fromCharCode(...packet.source)}${id}`;
    const flow = this.#flows.get(key) ?? this.#open(key, { guest: peerOf(packet), id, slot });
    if (flow === undefined) return false;
    flow.lastMs = performance.now();
    this.#flows.delete(key);
    this.#flows.set(key, flow);
    if (flow.peers.size >= PEERS_MAX) flow.peers.clear();
    flow.peers.set(remote.host, remote.address);
    if (flow.socket.getSendQueueSize() < QUEUED_BYTES_MAX) {
      // An error of sending is a datagram that is lost.
      flow.socket.send(payload, remote.port, remote.host, () => undefined);
    }
    return true;
  }

  forget(slot: number): void {
    for (const flow of [...this.#flows.values()]) if (flow.slot === slot) this.#close(flow);
  }

  close(): void {
    for (const flow of [...this.#flows.values()]) this.#close(flow);
  }

  #open(key: string, options: Flow): OpenFlow | undefined {
    const socket = this.#options.open(options.guest.address.length === 16);
    if (socket === undefined) return undefined;
    if ((this.#perSlot.get(options.slot) ?? 0) >= FLOWS_MAX) this.#evict(options.slot);
    const flow: OpenFlow = { ...options, key, socket, peers: new Map(), lastMs: performance.now() };
    this.#flows.set(key, flow);
    this.#perSlot.set(options.slot, (this.#perSlot.get(options.slot) ?? 0) + 1);
    socket.on('message', (payload, info) => this.#received(flow, payload, info));
    socket.on('error', () => this.#close(flow));
    this.#sweep ??= setInterval(() => this.#expire(), SWEEP_MS).unref();
    return flow;
  }

  #received(flow: OpenFlow, payload: Buffer, { address, port }: RemoteInfo): void {
    const from = flow.peers.get(address.split('%', 1)[0]!);
    if (from === undefined || !this.#flows.has(flow.key)) return;
    flow.lastMs = performance.now();
    this.#options.deliver(flow, from, port, payload);
  }

  #evict(slot: number): void {
    for (const flow of this.#flows.values()) {
      if (flow.slot !== slot) continue;
      this.#close(flow);
      return;
    }
  }

  #expire(): void {
    const oldest = performance.now() - IDLE_MS;
    for (const flow of [...this.#flows.values()]) if (flow.lastMs < oldest) this.#close(flow);
  }

  #close(flow: OpenFlow): void {
    if (this.#flows.get(flow.key) !== flow) return;
    this.#flows.delete(flow.key);
    flow.socket.close();
    const left = (this.#perSlot.get(flow.slot) ?? 1) - 1;
    if (left === 0) this.#perSlot.delete(flow.slot);
    else this.#perSlot.set(flow.slot, left);
    if (this.#flows.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}

/** A UDP socket of the host's, with a port of its choice. */
export function openUdp(isIpv6: boolean): Socket {
  const socket = createSocket({ type: isIpv6 ? 'udp6' : 'udp4', recvBufferSize: BUFFER_BYTES });
  socket.bind();
  return socket;
}
