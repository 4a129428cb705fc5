/**
 * User-mode NAT: what guests send to addresses outside their network goes on in sockets of this process, so that the host
 * needs no privileges, no devices and no routes. TCP ends here on both sides; UDP and ICMP echo are passed on by datagram.
 */
import { checksumOf, checksumWord, fold, segmentationOf, sumOf } from '../offload/offload.ts';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import type { FrameSource } from '../ring/producer.ts';
import { DnsForwarder } from '../services/dns-forwarder.ts';
import type { Router } from '../services/gateway.ts';
import { DNS_PORT } from '../wire/dns.ts';
import { Datagrams, type Flow, openUdp, type Remote } from './datagrams.ts';
import { Forwards, type Located } from './forwards.ts';
import { ICMP_HEADER_BYTES, sendIcmp, sendUnreachable } from './icmp.ts';
import { Reassembler } from './fragments.ts';
import { FrameWriter, ipHeaderBytes, MTU, type Peer, pseudoHeaderSum } from './frame-writer.ts';
import { Packet, peerOf, PROTOCOL } from './packet.ts';
import { openPing } from './ping-socket.ts';
import type { NatPolicy } from './policy.ts';
import { Tcp } from './tcp.ts';

const LOOPBACK = { ipv4: '127.0.0.1', ipv6: '::1' } as const;
const ECHO = { REQUEST: 8, REPLY: 0, REQUEST6: 128, REPLY6: 129 } as const;
const UDP_HEADER_BYTES = 8;
/** Of the packet that an ICMP error is about. */
const QUOTED_BYTES = 8;

export interface NatOptions {
  /** The gateway's: guests send what is for outside to it. */
  readonly mac: Uint8Array;
  /** The gateway's IPv4 address, 4 bytes. */
  readonly address: Uint8Array;
  /** And its IPv6 address, in a network that has a prefix; read at each use. */
  readonly address6: () => Uint8Array | undefined;
  readonly policy: NatPolicy;
  /** Name servers; the host's own when missing. */
  readonly resolvers?: readonly string[] | undefined;
  /** The station of the network that has an address. */
  readonly locate: (address: Uint8Array) => Located | undefined;
  /** Sends a frame to the network; it is copied. */
  readonly emit: (frame: FrameBuffer) => void;
  /** Before and after frames that belong to no batch of the switch's. */
  readonly begin: () => void;
  readonly publish: () => void;
}

interface DeferredFrame {
  readonly bytes: Uint8Array;
  readonly checksum: number;
  readonly segmentation: number;
}

export class Nat implements Router {
  readonly tcp: Tcp;
  readonly forwards: Forwards;
  readonly udp: Datagrams;
  readonly #options: NatOptions;
  readonly #writer: FrameWriter;
  readonly #ping: Datagrams;
  readonly #resolver: DnsForwarder;
  readonly #fragments = new Reassembler();
  readonly #packet = new Packet();
  /** Frames made outside of `flush`, when nothing may be sent: few and small, but for what was lost. */
  readonly #deferred: DeferredFrame[] = [];
  readonly #late = new FrameBuffer();
  #isFlushing = false;
  #isScheduled = false;

  constructor(options: NatOptions) {
    this.#options = options;
    this.#writer = new FrameWriter(options.mac, (frame) => this.#emit(frame));
    this.tcp = new Tcp({ writer: this.#writer, schedule: () => this.#schedule() });
    this.#resolver = new DnsForwarder(options.resolvers);
    this.forwards = new Forwards({
      tcp: this.tcp,
      gateway: (address) => (address.length === 4 ? options.address : options.address6()),
      locate: options.locate,
      sendUdp: (...what) => this.#sendUdp(...what),
    });
    this.udp = new Datagrams({ open: openUdp, deliver: (...what) => this.#deliverUdp(...what) });
    this.#ping = new Datagrams({ open: openPing, deliver: (...what) => this.#deliverPing(...what) });
  }

  /** A frame to the gateway's MAC address that is not for the gateway itself. What it leads to is sent in `flush`. */
  receive(frame: FrameSource, slot: number): void {
    const packet = this.#packet;
    if (!packet.read(frame)) return;
    if (packet.isFragment) this.#receiveFragment(packet, slot);
    else if (packet.protocol === PROTOCOL.TCP) this.#receiveTcp(packet, slot);
    else if (packet.protocol === PROTOCOL.UDP)
      this.#receiveUdp(packet, slot, packet.bytes, packet.offset, packet.length);
    else if (packet.protocol === (packet.isIpv6 ? PROTOCOL.ICMPV6 : PROTOCOL.ICMP))
      this.#receivePing(packet, slot);
  }

  /** Sends what connections have to send. For the switch: at the end of a batch, which publishes it. */
  flush(): void {
    this.#isFlushing = true;
    for (const { bytes, checksum, segmentation } of this.#deferred.splice(0)) {
      this.#late.set(bytes);
      this.#late.setOffload(checksum, segmentation);
      this.#options.emit(this.#late);
    }
    this.tcp.flush();
    this.#isFlushing = false;
  }

  resolve(query: Uint8Array, reply: (answer: Uint8Array) => void): void {
    this.#resolver.resolve(query, reply);
  }

  /** The guest behind a port of the switch is gone. */
  forget(slot: number): void {
    this.tcp.forget(slot);
    this.udp.forget(slot);
    this.#ping.forget(slot);
  }

  close(): void {
    this.forwards.close();
    this.#resolver.close();
    this.tcp.close();
    this.udp.close();
    this.#ping.close();
  }

  #emit(frame: FrameBuffer): void {
    if (this.#isFlushing) {
      this.#options.emit(frame);
      return;
    }
    const { bytes, offset, length } = frame;
    const copy = bytes.slice(offset, offset + length);
    this.#deferred.push({ bytes: copy, checksum: checksumOf(frame), segmentation: segmentationOf(frame) });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // After all events of this turn: what came meanwhile goes out together.
    setImmediate(() => {
      this.#isScheduled = false;
      this.#options.begin();
      this.flush();
      this.#options.publish();
    });
  }

  #receiveTcp(packet: Packet, slot: number): void {
    if (!packet.hasRightChecksum()) return;
    this.tcp.receive(packet, slot, () => {
      // Answers that do not fit into a datagram are asked for again.
      if (packet.destinationPort === DNS_PORT && this.#isGateway(packet)) return this.#resolver.server;
      const host = this.#route(packet);
      return host === undefined ? undefined : { host, port: packet.destinationPort };
    });
  }

  #receiveUdp(packet: Packet, slot: number, bytes: Uint8Array, offset: number, length: number): void {
    if (length < UDP_HEADER_BYTES) return;
    const header = Buffer.from(bytes.subarray(offset, offset + UDP_HEADER_BYTES));
    const udpBytes = header.readUInt16BE(4);
    const port = header.readUInt16BE(2);
    if (udpBytes < UDP_HEADER_BYTES || udpBytes > length || port === 0) return;
    const payload = Buffer.from(bytes.subarray(offset + UDP_HEADER_BYTES, offset + udpBytes));
    const fromPort = header.readUInt16BE(0);
    if (this.#isGateway(packet)) {
      if (this.forwards.answer(packet.source, fromPort, port, payload)) return;
    }
    const host = this.#route(packet);
    if (host === undefined) {
      this.#prohibited(packet);
      return;
    }
    const remote: Remote = { host, address: Uint8Array.from(packet.destination), port };
    this.udp.send(packet, slot, fromPort, remote, payload);
  }

  #receiveFragment(packet: Packet, slot: number): void {
    if (packet.protocol !== PROTOCOL.UDP) return;
    const whole = this.#fragments.add(packet, performance.now());
    if (whole !== undefined) this.#receiveUdp(packet, slot, whole, 0, whole.length);
  }

  #receivePing(packet: Packet, slot: number): void {
    if (packet.length < ICMP_HEADER_BYTES) return;
    const message = packet.copy(0);
    if (message[0] !== (packet.isIpv6 ? ECHO.REQUEST6 : ECHO.REQUEST) || message[1] !== 0) return;
    const host = this.#route(packet);
    const remote =
      host === undefined ? undefined : { host, address: Uint8Array.from(packet.destination), port: 1 };
    const isSent =
      remote !== undefined && this.#ping.send(packet, slot, message.readUInt16BE(4), remote, message);
    if (!isSent) this.#prohibited(packet);
  }

  /** The gateway's own address stands for the host, where that is permitted. */
  #route(packet: Packet): string | undefined {
    const { policy } = this.#options;
    if (this.#isGateway(packet)) {
      if (!policy.hostLoopback) return undefined;
      return packet.isIpv6 ? LOOPBACK.ipv6 : LOOPBACK.ipv4;
    }
    return policy.route(packet.destination);
  }

  #isGateway({ destination }: Packet): boolean {
    const { address, address6 } = this.#options;
    const own = destination.length === 4 ? address : address6();
    return own?.every((byte, i) => byte === destination[i]) === true;
  }

  #deliverUdp({ guest, id }: Flow, from: Uint8Array, port: number, payload: Buffer): void {
    this.#sendUdp(from, port, guest, id, payload);
  }

  /** In the event of a socket: no batch is under way, so it goes into the guest's ring as it is. */
  #sendUdp(from: Uint8Array, fromPort: number, to: Peer, toPort: number, payload: Uint8Array): void {
    const isFlushing = this.#isFlushing;
    this.#isFlushing = true;
    this.#options.begin();
    this.#writeUdp(from, fromPort, to, toPort, payload);
    this.#isFlushing = isFlushing;
    this.#schedule();
  }

  /** The guest fills the checksum in, where it is told that it can be. */
  #writeUdp(from: Uint8Array, fromPort: number, to: Peer, toPort: number, payload: Uint8Array): void {
    const writer = this.#writer;
    const length = UDP_HEADER_BYTES + payload.length;
    if (length > MTU - ipHeaderBytes(from)) {
      this.#sendLargeUdp(from, fromPort, to, toPort, payload);
      return;
    }
    const at = writer.begin(from, to, PROTOCOL.UDP, length);
    const { view, frame } = writer;
    view.setUint16(at, fromPort);
    view.setUint16(at + 2, toPort);
    view.setUint16(at + 4, length);
    view.setUint16(at + 6, fold(pseudoHeaderSum(from, to.address, PROTOCOL.UDP) + length));
    frame.bytes.set(payload, at + UDP_HEADER_BYTES);
    writer.end(checksumWord(at - frame.offset, 6));
  }

  /** In fragments. */
  #sendLargeUdp(from: Uint8Array, fromPort: number, to: Peer, toPort: number, payload: Uint8Array): void {
    const datagram = Buffer.allocUnsafe(UDP_HEADER_BYTES + payload.length);
    datagram.writeUInt16BE(fromPort, 0);
    datagram.writeUInt16BE(toPort, 2);
    datagram.writeUInt16BE(datagram.length, 4);
    datagram.writeUInt16BE(0, 6);
    datagram.set(payload, UDP_HEADER_BYTES);
    const pseudo = pseudoHeaderSum(from, to.address, PROTOCOL.UDP) + datagram.length;
    // 0 stands for "no checksum".
    datagram.writeUInt16BE(~fold(pseudo + sumOf(datagram, 0, datagram.length)) & 0xffff || 0xffff, 6);
    this.#send(from, to, PROTOCOL.UDP, datagram);
  }

  /** The host's kernel has put an identifier of its own into the message. */
  #deliverPing({ guest, id }: Flow, from: Uint8Array, _port: number, message: Buffer): void {
    const isIpv6 = guest.address.length === 16;
    if (message.length < ICMP_HEADER_BYTES || message[0] !== (isIpv6 ? ECHO.REPLY6 : ECHO.REPLY)) return;
    message.writeUInt16BE(id, 4);
    sendIcmp(this.#writer, from, guest, message);
  }

  #prohibited(packet: Packet): void {
    const { header, at } = packet;
    const quoted = header.subarray(14, Math.min(at + QUOTED_BYTES, packet.headerBytes));
    sendUnreachable(this.#writer, Uint8Array.from(packet.destination), peerOf(packet), 'prohibited', quoted);
  }

  #send(from: Uint8Array, guest: Peer, protocol: number, payload: Uint8Array): void {
    this.#writer.send(from, guest, protocol, payload);
  }
}
