/**
 * The network's own station, at the subnet's gateway address: it answers ARP, pings, DHCP and DNS.
 * It is a port of the segment like any other, except that nobody can take its MAC address.
 */
import type { Outlet, Port } from '../fabric/port.ts';
import type { Segment } from '../fabric/segment.ts';
import { VLAN_DEFAULT } from '../fabric/vlan.ts';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import type { FrameSource } from '../ring/producer.ts';
import { BROADCAST_IP, inSubnet, type Subnet } from '../wire/address.ts';
import { ARP_REPLY, ARP_REQUEST, buildArp, parseArp } from '../wire/arp.ts';
import { DHCPV6_SERVER_PORT } from './dhcpv6-server.ts';
import { DHCP_CLIENT_PORT, DHCP_SERVER_PORT } from '../wire/dhcp.ts';
import { DNS_PORT } from '../wire/dns.ts';
import {
  buildEthernet,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type EthernetFrame,
  parseEthernet,
} from '../wire/ethernet.ts';
import { echoReply } from '../wire/icmp.ts';
import {
  buildIpv4,
  type Ipv4Packet,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  parseIpv4,
} from '../wire/ipv4.ts';
import { buildUdp, parseUdp, type UdpDatagram } from '../wire/udp.ts';
import { viewOf } from '../wire/view.ts';
import { DhcpServer } from './dhcp-server.ts';
import { answerDns, isForOthers, type NameBook } from './dns-server.ts';
import type { DnsForwarder } from './dns-forwarder.ts';
import { Gateway6, type Ipv6Settings } from './gateway6.ts';
import type { LeaseTable } from './lease-table.ts';

/** Where the destination is in an IPv4 packet behind Ethernet, and the protocol; ports without options. */
const IPV4_AT = { PROTOCOL: 23, SOURCE: 26, DESTINATION: 30, DESTINATION_PORT: 36 } as const;
const IPV6_AT = { PROTOCOL: 20, DESTINATION: 38, DESTINATION_PORT: 56 } as const;
/** With what the fields above are in. */
const IPV4_BYTES_MIN = 38;
const IPV6_BYTES_MIN = 58;
/** Frames of one batch that the gateway looks at; the rest is dropped and counted. */
const QUEUE_MAX = 128;
const GATEWAY_NAME = 'gateway';
/** First two bytes of the MAC addresses of IPv6 groups (RFC 2464 §7). */
const IPV6_GROUP = 0x3333;

export interface GatewaySettings {
  readonly mac: Uint8Array;
  readonly ip: number;
  readonly subnet: Subnet;
  readonly domain: string;
  readonly leaseSeconds: number;
  readonly leases: LeaseTable;
  readonly stations: Stations;
  readonly ipv6: Ipv6Settings | undefined;
  /** Whom to ask for names that are not the network's. */
  readonly forwarder: DnsForwarder | undefined;
  /** Runs what sends frames, between batches of the switch's. */
  readonly later: (send: () => void) => void;
  /** It has an address and answers nobody. */
  readonly isMute?: boolean | undefined;
  /** Monotonic, in seconds. */
  readonly now: () => number;
}

/** Takes frames to the gateway's MAC address that are not for the gateway itself. */
export interface FrameService {
  /** It must not send before `flush`. */
  receive(frame: FrameSource, slot: number): void;
  /** The end of a batch. */
  flush(): void;
}

/** The way out of the network: for destinations elsewhere. */
export interface Router extends FrameService {
  /** Asks others for a name; `reply` is called later, or never. */
  resolve(query: Uint8Array, reply: (answer: Uint8Array) => void): void;
}

/** What is plugged in. */
export interface Stations {
  /** Undefined for a port whose stations get no addresses. */
  atPort(portId: string): StationInfo | undefined;
  /** Undefined when there is no station of this name; its addresses otherwise. */
  addressesOf(name: string): readonly number[] | undefined;
  /** Its IPv6 addresses. */
  addresses6Of(name: string): readonly Uint8Array[];
  /** The IPv6 address of the station at a port, in a network that gives them out. */
  address6At(slot: number): Uint8Array | undefined;
  nameOf(ip: number): string | undefined;
}

export interface StationInfo {
  readonly id: string;
  /** Its host name; missing where there are several stations. */
  readonly name: string | undefined;
  /** The only MAC address that it may have; any when missing. */
  readonly mac: string | undefined;
}

interface Received {
  readonly frame: EthernetFrame;
  readonly slot: number;
}

/** 169.254.169.254, link-local (RFC 3927), as clouds have it. */
export const METADATA_IP = 0xa9fe_a9fe;

/** What is sent to the gateway and is none of its own services. */
function isForHost6(protocol: number, read16: (at: number) => number): boolean {
  if (protocol === PROTOCOL_TCP) return true;
  const port = read16(IPV6_AT.DESTINATION_PORT);
  return protocol === PROTOCOL_UDP && port !== DNS_PORT && port !== DHCPV6_SERVER_PORT;
}

function isForMetadata({ bytes, offset, length }: FrameSource): boolean {
  if (length < IPV4_BYTES_MIN || bytes[offset + 12] !== 0x08 || bytes[offset + 13] !== 0) return false;
  return viewOf(bytes).getUint32(offset + IPV4_AT.DESTINATION) === METADATA_IP;
}

export class Gateway implements Outlet, NameBook {
  readonly domain: string;
  /** Without one, what is for outside is dropped. */
  router: Router | undefined;
  /** Who answers at 169.254.169.254. */
  metadata: FrameService | undefined;
  readonly #settings: GatewaySettings;
  readonly #segment: Segment;
  readonly #dhcp: DhcpServer;
  readonly #port: Port;
  readonly #queue: Received[] = [];
  readonly #reply = new FrameBuffer();
  /** The MAC address as words of a frame have it. */
  readonly #macLow: number;
  readonly #macHigh: number;
  readonly #six: Gateway6 | undefined;

  /** Plugs itself into the segment, which must have room for it. */
  constructor(segment: Segment, settings: GatewaySettings) {
    this.#segment = segment;
    this.#settings = settings;
    this.domain = settings.domain;
    this.#dhcp = new DhcpServer({ ...settings, serverIp: settings.ip });
    this.#port = segment.add('gateway', this)!;
    this.#six = settings.ipv6 && this.#openIpv6(settings.ipv6);
    const view = viewOf(settings.mac);
    this.#macLow = view.getInt32(0, true);
    this.#macHigh = view.getUint16(4, true);
    segment.macTable.fix((VLAN_DEFAULT << 16) | this.#macHigh, this.#macLow, this.#port.slot);
  }

  #openIpv6(ipv6: Ipv6Settings): Gateway6 {
    return new Gateway6({
      ...ipv6,
      mac: this.#settings.mac,
      domain: this.domain,
      addressAt: (slot) => this.#settings.stations.address6At(slot),
      resolve: (query, reply) => this.#resolve(query, reply),
      send: (frame) => this.#sendFrame(frame),
    });
  }

  /** Tells all stations of the network's IPv6 prefix. */
  advertise(): void {
    const six = this.#six;
    if (six !== undefined) this.#settings.later(() => six.advertise());
  }

  get port(): Port {
    return this.#port;
  }

  push(source: FrameSource, slot: number): boolean {
    if (this.#settings.isMute === true || !this.#isForUs(source)) return true;
    if (this.metadata !== undefined && isForMetadata(source)) {
      this.metadata.receive(source, slot);
      return true;
    }
    if (this.router !== undefined && this.#isForRouter(source)) {
      this.router.receive(source, slot);
      return true;
    }
    if (this.#queue.length >= QUEUE_MAX) return false;
    // A copy of its own: a VM's thread could change the ring while the packet is being parsed.
    const bytes = source.bytes.slice(source.offset, source.offset + source.length);
    const frame = parseEthernet(new Uint8Array(bytes));
    if (frame !== undefined) this.#queue.push({ frame, slot });
    return true;
  }

  publish(): void {
    for (const { frame, slot } of this.#queue.splice(0)) {
      if (frame.type === ETHERTYPE_ARP) this.#handleArp(frame);
      else if (frame.type === ETHERTYPE_IPV4) this.#handleIpv4(frame, slot);
      else if (frame.type === ETHERTYPE_IPV6) this.#six?.handle(frame, slot);
    }
    this.metadata?.flush();
    this.router?.flush();
  }

  addressesOf(name: string): readonly number[] | undefined {
    return (
      this.#settings.stations.addressesOf(name) ?? (name === GATEWAY_NAME ? [this.#settings.ip] : undefined)
    );
  }

  addresses6Of(name: string): readonly Uint8Array[] {
    if (name === GATEWAY_NAME && this.#six !== undefined) return [this.#six.global];
    return this.#settings.stations.addresses6Of(name);
  }

  nameOf(ip: number): string | undefined {
    return ip === this.#settings.ip ? GATEWAY_NAME : this.#settings.stations.nameOf(ip);
  }

  /** Broadcast or to the gateway's MAC: floods of other stations' frames are not worth a copy. */
  #isForUs(source: FrameSource): boolean {
    const word = source.offset >> 2;
    const low = source.words[word]!;
    const high = source.words[word + 1]! & 0xffff;
    const isIpv6Group = this.#six !== undefined && (low & 0xffff) === IPV6_GROUP;
    return (low === this.#macLow && high === this.#macHigh) || (low === -1 && high === 0xffff) || isIpv6Group;
  }

  /** To our MAC address, from a station of the network, to an address elsewhere or a service that we do not have. */
  #isForRouter({ words, bytes, offset, length }: FrameSource): boolean {
    if (words[offset >> 2] !== this.#macLow || length < IPV4_BYTES_MIN) return false;
    const read16 = (at: number): number => (bytes[offset + at]! << 8) | bytes[offset + at + 1]!;
    const read32 = (at: number): number => ((read16(at) << 16) | read16(at + 2)) >>> 0;
    const type = read16(12);
    // Neither a group nor of the link: what a station sends to us to go on.
    if (type === ETHERTYPE_IPV6) {
      if (length < IPV6_BYTES_MIN) return false;
      const to = offset + IPV6_AT.DESTINATION;
      const destination = bytes.subarray(to, to + 16);
      if (this.#six?.isOwn(destination) === true) {
        return this.#six.isGlobal(destination) && isForHost6(bytes[offset + IPV6_AT.PROTOCOL]!, read16);
      }
      const prefix = read16(IPV6_AT.DESTINATION);
      return prefix >> 8 !== 0xff && (prefix & 0xffc0) !== 0xfe80;
    }
    const { subnet, ip } = this.#settings;
    if (type !== ETHERTYPE_IPV4 || !inSubnet(read32(IPV4_AT.SOURCE), subnet)) return false;
    const destination = read32(IPV4_AT.DESTINATION);
    if (destination !== ip) return !inSubnet(destination, subnet) && destination !== BROADCAST_IP;
    const protocol = bytes[offset + IPV4_AT.PROTOCOL]!;
    const port = read16(IPV4_AT.DESTINATION_PORT);
    return (
      protocol === PROTOCOL_TCP ||
      (protocol === PROTOCOL_UDP && port !== DNS_PORT && port !== DHCP_SERVER_PORT)
    );
  }

  #handleArp(frame: EthernetFrame): void {
    const { mac, ip } = this.#settings;
    const request = parseArp(frame.payload);
    if (request?.operation !== ARP_REQUEST) return;
    // A guest without a route asks for the metadata service on the link itself.
    const isMetadata = request.targetIp === METADATA_IP && this.metadata !== undefined;
    if (request.targetIp !== ip && !isMetadata) return;
    const payload = buildArp({
      operation: ARP_REPLY,
      senderMac: mac,
      senderIp: request.targetIp,
      targetMac: request.senderMac,
      targetIp: request.senderIp,
    });
    this.#send({ destination: frame.source, source: mac, type: ETHERTYPE_ARP, payload });
  }

  #handleIpv4(frame: EthernetFrame, slot: number): void {
    const packet = parseIpv4(frame.payload);
    if (packet === undefined) return;
    const isOwn = packet.destination === this.#settings.ip;
    const udp = packet.protocol === PROTOCOL_UDP ? parseUdp(packet.payload) : undefined;
    if (udp?.destinationPort === DHCP_SERVER_PORT) {
      if (isOwn || packet.destination === BROADCAST_IP) this.#handleDhcp(udp, slot);
    } else if (isOwn && inSubnet(packet.source, this.#settings.subnet)) {
      if (udp?.destinationPort === DNS_PORT) this.#handleDns(frame, packet, udp);
      else if (packet.protocol === PROTOCOL_ICMP) this.#handleEcho(frame, packet);
    }
  }

  #handleDhcp(udp: UdpDatagram, slot: number): void {
    const id = this.#segment.port(slot)?.id;
    const station = id === undefined ? undefined : this.#settings.stations.atPort(id);
    if (station === undefined) return;
    const output = this.#dhcp.handle(udp.payload, station, this.#settings.now());
    if (output === undefined) return;
    const { payload, destinationIp, destinationMac } = output;
    const reply = { sourcePort: DHCP_SERVER_PORT, destinationPort: DHCP_CLIENT_PORT, payload };
    this.#sendUdp(destinationMac, destinationIp, reply);
  }

  #handleDns(frame: EthernetFrame, packet: Ipv4Packet, udp: UdpDatagram): void {
    this.#resolve(udp.payload, (payload) => {
      const reply = { sourcePort: DNS_PORT, destinationPort: udp.sourcePort, payload };
      this.#sendUdp(frame.source, packet.source, reply);
    });
  }

  /** By the network's own knowledge, or else by its own forwarder or the way out's. */
  #resolve(query: Uint8Array, reply: (answer: Uint8Array) => void): void {
    const { forwarder, later, subnet } = this.#settings;
    const way = forwarder ?? this.router;
    if (way !== undefined && isForOthers(query, this.domain, subnet)) {
      way.resolve(query, (answer) => later(() => reply(answer)));
      return;
    }
    const answer = answerDns(query, this);
    if (answer !== undefined) reply(answer);
  }

  #handleEcho(frame: EthernetFrame, packet: Ipv4Packet): void {
    const payload = echoReply(packet.payload);
    if (payload !== undefined) this.#sendIpv4(frame.source, packet.source, PROTOCOL_ICMP, payload);
  }

  #sendUdp(destinationMac: Uint8Array, destinationIp: number, datagram: UdpDatagram): void {
    const payload = buildUdp(datagram, this.#settings.ip, destinationIp);
    this.#sendIpv4(destinationMac, destinationIp, PROTOCOL_UDP, payload);
  }

  #sendIpv4(mac: Uint8Array, destination: number, protocol: number, payload: Uint8Array): void {
    const packet = buildIpv4({ source: this.#settings.ip, destination, protocol, payload });
    this.#send({ destination: mac, source: this.#settings.mac, type: ETHERTYPE_IPV4, payload: packet });
  }

  #send(frame: EthernetFrame): void {
    this.#sendFrame(buildEthernet(frame));
  }

  #sendFrame(frame: Uint8Array): void {
    this.#reply.set(frame);
    this.#segment.forward(this.#port, this.#reply);
  }
}
