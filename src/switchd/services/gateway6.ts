/**
 * The gateway's IPv6: router advertisements and solicitations (RFC 4861, RFC 8106), neighbor discovery for its own addresses,
 * echo, DHCPv6 and DNS.
 */
import { buildEthernet, ETHERTYPE_IPV6, type EthernetFrame } from '../wire/ethernet.ts';
import { eui64Address, linkLocalAddress, type Prefix6 } from '../wire/address6.ts';
import { DNS_PORT, encodeName } from '../wire/dns.ts';
import { buildIcmpv6, buildUdp6, type Ipv6Packet, parseIpv6, PROTOCOL_ICMPV6 } from '../wire/ipv6.ts';
import { PROTOCOL_UDP } from '../wire/ipv4.ts';
import { parseUdp, type UdpDatagram } from '../wire/udp.ts';
import { viewOf } from '../wire/view.ts';
import { DHCPV6_CLIENT_PORT, DHCPV6_SERVER_PORT, Dhcpv6Server } from './dhcpv6-server.ts';

const ICMP = {
  echoRequest: 128,
  echoReply: 129,
  routerSolicitation: 133,
  routerAdvertisement: 134,
  neighborSolicitation: 135,
  neighborAdvertisement: 136,
} as const;
const OPTION = { sourceLink: 1, targetLink: 2, prefix: 3, dns: 25, domains: 31 } as const;
const RA_FLAG = { managed: 0x80, other: 0x40 } as const;
const PREFIX_FLAG = { onLink: 0x80, autonomous: 0x40 } as const;
const NA_FLAG = { router: 0x80, solicited: 0x40, override: 0x20 } as const;
const HOPS = 255;
const ROUTER_SECONDS = 1800;
const VALID_SECONDS = 86_400;
const PREFERRED_SECONDS = 14_400;
/** Between advertisements that nobody asked for (RFC 4861 §6.2.1). */
export const ADVERTISE_MS = 200_000;
const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

export interface Ipv6Settings {
  readonly prefix: Prefix6;
  /** Stations get their addresses by DHCPv6, and make none by themselves. */
  readonly managed: boolean;
  /** There is a way out of the network. */
  readonly isRouter: boolean;
}

export interface Gateway6Options extends Ipv6Settings {
  readonly mac: Uint8Array;
  readonly domain: string;
  /** Address of the station at a port, by its slot; undefined for one that gets none. */
  readonly addressAt: (slot: number) => Uint8Array | undefined;
  /** Answers a question in DNS, later or not at all. */
  readonly resolve: (query: Uint8Array, reply: (answer: Uint8Array) => void) => void;
  /** Sends a frame to the network; it is copied. */
  readonly send: (frame: Uint8Array) => void;
}

export class Gateway6 {
  readonly linkLocal: Uint8Array;
  /** The prefix's first address. */
  readonly global: Uint8Array;
  readonly #options: Gateway6Options;
  readonly #dhcp: Dhcpv6Server;

  constructor(options: Gateway6Options) {
    this.#options = options;
    this.linkLocal = linkLocalAddress(options.mac);
    this.global = gatewayAddress(options.prefix);
    this.#dhcp = new Dhcpv6Server({ mac: options.mac, dns: this.global, domain: options.domain });
  }

  isOwn(address: Uint8Array): boolean {
    return sameBytes(address, this.global) || sameBytes(address, this.linkLocal);
  }

  isGlobal(address: Uint8Array): boolean {
    return sameBytes(address, this.global);
  }

  handle(frame: EthernetFrame, slot: number): void {
    const packet = parseIpv6(frame.payload);
    if (packet === undefined) return;
    if (packet.protocol === PROTOCOL_ICMPV6) this.#handleIcmp(frame, packet, packet.hopLimit);
    else if (packet.protocol === PROTOCOL_UDP) this.#handleUdp(frame, packet, slot);
  }

  /** To all stations. */
  advertise(): void {
    this.#sendIcmp(Uint8Array.of(0x33, 0x33, 0, 0, 0, 1), this.linkLocal, ALL_NODES, this.#advertisement());
  }

  #handleIcmp(frame: EthernetFrame, { source, destination, payload }: Ipv6Packet, hopLimit: number): void {
    const type = payload[0];
    if (type === ICMP.echoRequest && payload.length >= 8 && this.isOwn(destination)) {
      const reply = payload.slice();
      reply[0] = ICMP.echoReply;
      this.#sendIcmp(frame.source, destination, source, reply);
    }
    // What comes from afar is no neighbor.
    if (hopLimit !== HOPS) return;
    if (type === ICMP.routerSolicitation) this.advertise();
    else if (type === ICMP.neighborSolicitation) this.#handleSolicitation(frame, source, payload);
  }

  #handleSolicitation(frame: EthernetFrame, source: Uint8Array, payload: Uint8Array): void {
    const target = payload.subarray(8, 24);
    if (target.length < 16 || !this.isOwn(target)) return;
    const isProbe = source.every((byte) => byte === 0);
    const router = this.#options.isRouter ? NA_FLAG.router : 0;
    const flags = router | NA_FLAG.override | (isProbe ? 0 : NA_FLAG.solicited);
    const message = Uint8Array.of(
      ICMP.neighborAdvertisement,
      ...[0, 0, 0, flags, 0, 0, 0],
      ...target,
      ...[OPTION.targetLink, 1],
      ...this.#options.mac,
    );
    const mac = isProbe ? Uint8Array.of(0x33, 0x33, 0, 0, 0, 1) : frame.source;
    this.#sendIcmp(mac, target.slice(), isProbe ? ALL_NODES : source, message);
  }

  #handleUdp(frame: EthernetFrame, { source, destination, payload }: Ipv6Packet, slot: number): void {
    const udp = parseUdp(payload);
    if (udp?.destinationPort === DHCPV6_SERVER_PORT) {
      const { managed, addressAt } = this.#options;
      const answer = this.#dhcp.handle(udp.payload, managed ? addressAt(slot) : undefined);
      if (answer === undefined) return;
      const ports = { sourcePort: DHCPV6_SERVER_PORT, destinationPort: DHCPV6_CLIENT_PORT };
      this.#sendUdp(frame.source, this.linkLocal, source, { ...ports, payload: answer });
    } else if (udp?.destinationPort === DNS_PORT && this.isOwn(destination)) {
      const [mac, from, to] = [frame.source, destination, source].map((bytes) => Uint8Array.from(bytes));
      this.#options.resolve(udp.payload, (answer) => {
        const ports = { sourcePort: DNS_PORT, destinationPort: udp.sourcePort };
        // INVARIANT: three were mapped.
        this.#sendUdp(mac!, from!, to!, { ...ports, payload: answer });
      });
    }
  }

  #advertisement(): Uint8Array {
    const { mac, prefix, managed, isRouter, domain } = this.#options;
    const flags = RA_FLAG.other | (managed ? RA_FLAG.managed : 0);
    const seconds = isRouter ? ROUTER_SECONDS : 0;
    const head = [
      ICMP.routerAdvertisement,
      0,
      0,
      0,
      64,
      flags,
      seconds >> 8,
      seconds & 255,
      ...Array(8).fill(0),
    ];
    const autonomous = managed ? 0 : PREFIX_FLAG.autonomous;
    const prefixOption = [
      ...[OPTION.prefix, 4, prefix.length, PREFIX_FLAG.onLink | autonomous],
      ...word(VALID_SECONDS),
      ...word(PREFERRED_SECONDS),
      ...word(0),
      ...prefix.address,
    ];
    const dns = [OPTION.dns, 3, 0, 0, ...word(ROUTER_SECONDS), ...this.global];
    const name = encodeName(domain);
    const units = Math.ceil((8 + name.length) / 8);
    const domains = [OPTION.domains, units, 0, 0, ...word(ROUTER_SECONDS), ...name];
    while (domains.length < units * 8) domains.push(0);
    return Uint8Array.from([...head, OPTION.sourceLink, 1, ...mac, ...prefixOption, ...dns, ...domains]);
  }

  #sendIcmp(mac: Uint8Array, source: Uint8Array, destination: Uint8Array, message: Uint8Array): void {
    this.#send(mac, buildIcmpv6(source, destination, message));
  }

  #sendUdp(mac: Uint8Array, source: Uint8Array, destination: Uint8Array, datagram: UdpDatagram): void {
    this.#send(mac, buildUdp6({ source, destination, ...datagram }));
  }

  #send(mac: Uint8Array, payload: Uint8Array): void {
    this.#options.send(
      buildEthernet({ destination: mac, source: this.#options.mac, type: ETHERTYPE_IPV6, payload }),
    );
  }
}

/** The address of a station that is given none: of its MAC address. */
/** The prefix's first address. */
export function gatewayAddress(prefix: Prefix6): Uint8Array {
  const address = Uint8Array.from(prefix.address);
  address[15] = 1;
  return address;
}

export function stationAddress(prefix: Prefix6, mac: Uint8Array): Uint8Array {
  return eui64Address(prefix.address, mac);
}

function word(value: number): number[] {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value);
  return [...bytes];
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
