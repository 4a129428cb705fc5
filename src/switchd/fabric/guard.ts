/**
 * What the station at a port may say about itself: frames from its own MAC address, ARP and IP for its own addresses, and
 * nothing that only a network's services say. IPv6 addresses beside those it was given are its own when nobody else has
 * used them before (first come, first served, as RFC 6620 has it).
 */
import type { FrameSource } from '../ring/producer.ts';
import type { Prefix6 } from '../wire/address6.ts';
import type { DropCause } from './drop-cause.ts';
import { checkIpv6, type Ipv6Claims } from './guard-ipv6.ts';
import type { FrameRule, Passage } from './port.ts';

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_RARP = 0x8035;
const ETHERTYPE_IPV6 = 0x86dd;
/** Below that it is a length, and a header of IEEE 802.2 follows. */
const ETHERTYPE_MIN = 0x600;
/** Both access points of SNAP (RFC 1042), which can carry IP too. */
const LLC_SNAP = 0xaaaa;
const ARP_BYTES = 28;
const PROTOCOL_UDP = 17;
const DHCP_SERVER_PORT = 67;
const DHCP_CLIENT_PORT = 68;
const IPV4_HEADER_BYTES = 20;

/** Each kind of protection; all are on unless said otherwise. */
export interface Protection {
  readonly mac: boolean;
  readonly arp: boolean;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly dhcpServer: boolean;
  readonly routerAdvertisement: boolean;
}

export const PROTECTED: Protection = {
  mac: true,
  arp: true,
  ipv4: true,
  ipv6: true,
  dhcpServer: true,
  routerAdvertisement: true,
};

export interface GuardSettings {
  readonly protection: Protection;
  readonly mac: Uint8Array;
  /** Of the network, in which stations may take addresses by themselves. */
  readonly ipv6Prefix: Prefix6 | undefined;
  readonly claims: Ipv6Claims;
}

export class Guard {
  readonly #protection: Protection;
  readonly #macHigh: number;
  readonly #macLow: number;
  readonly #settings: GuardSettings;
  readonly #ipv4 = new Set<number>();
  /** The address that was seen last: nearly all packets have it. */
  #lastIpv4 = 0;

  constructor(settings: GuardSettings) {
    this.#settings = settings;
    this.#protection = settings.protection;
    const { mac } = settings;
    // As two big-endian numbers of 16 and 32 bits.
    this.#macHigh = (mac[0]! << 8) | mac[1]!;
    this.#macLow = wordAt(mac, 2);
  }

  /** Lets the station use an address, or no longer. */
  allowIpv4(ip: number): void {
    this.#ipv4.add(ip);
  }

  denyIpv4(ip: number): void {
    this.#ipv4.delete(ip);
    this.#lastIpv4 = 0;
  }

  allowIpv6(address: Uint8Array): void {
    this.#settings.claims.fix(this.#settings, address);
  }

  /** The port is unplugged: others may have its addresses. */
  release(): void {
    this.#settings.claims.release(this.#settings);
  }

  readonly rule: FrameRule = (passage) => {
    const { frame, etherType } = passage;
    if (this.#protection.mac && !this.#isOwnMac(frame.bytes, frame.offset + 6)) return 'macSpoof';
    if (etherType === ETHERTYPE_IPV4) return this.#checkIpv4(passage);
    if (etherType === ETHERTYPE_IPV6) return this.#checkIpv6(passage);
    if (etherType === ETHERTYPE_ARP) return this.#protection.arp ? this.#checkArp(passage) : undefined;
    if (etherType === ETHERTYPE_RARP) return this.#protection.arp ? 'arpSpoof' : undefined;
    return etherType < ETHERTYPE_MIN || isBridgeGroup(frame) ? this.#checkOther(passage) : undefined;
  };

  #isOwnMac(bytes: Uint8Array, at: number): boolean {
    return ((bytes[at]! << 8) | bytes[at + 1]!) === this.#macHigh && wordAt(bytes, at + 2) === this.#macLow;
  }

  #isOwnIpv4(ip: number): boolean {
    if (ip === this.#lastIpv4 && ip !== 0) return true;
    if (!this.#ipv4.has(ip)) return false;
    this.#lastIpv4 = ip;
    return true;
  }

  #checkIpv4({ frame, payloadAt }: Passage): DropCause | undefined {
    const { bytes } = frame;
    const at = frame.offset + payloadAt;
    const end = frame.offset + frame.length;
    if (at + IPV4_HEADER_BYTES > end || bytes[at]! >> 4 !== 4)
      return this.#protection.ipv4 ? 'ipv4Spoof' : undefined;
    const source = wordAt(bytes, at + 12) >>> 0;
    const isUdp = bytes[at + 9] === PROTOCOL_UDP;
    const udpAt = at + (bytes[at]! & 15) * 4;
    const isWhole = udpAt + 4 <= end;
    const isFirst = (((bytes[at + 6]! & 0x1f) << 8) | bytes[at + 7]!) === 0;
    const fromPort = isUdp && isWhole ? (bytes[udpAt]! << 8) | bytes[udpAt + 1]! : 0;
    if (isUdp && isFirst) {
      if (this.#protection.dhcpServer && (!isWhole || fromPort === DHCP_SERVER_PORT)) return 'dhcpServer';
    }
    if (!this.#protection.ipv4 || this.#isOwnIpv4(source)) return undefined;
    // A client that has no address yet asks for one.
    const isAsking = source === 0 && isFirst && fromPort === DHCP_CLIENT_PORT;
    return isAsking ? undefined : 'ipv4Spoof';
  }

  #checkArp({ frame, payloadAt }: Passage): DropCause | undefined {
    const { bytes } = frame;
    const at = frame.offset + payloadAt;
    if (at + ARP_BYTES > frame.offset + frame.length || !this.#isOwnMac(bytes, at + 8)) return 'arpSpoof';
    const sender = wordAt(bytes, at + 14) >>> 0;
    // A probe (RFC 5227) has no sender's address.
    return sender === 0 || this.#isOwnIpv4(sender) ? undefined : 'arpSpoof';
  }

  #checkIpv6(passage: Passage): DropCause | undefined {
    return checkIpv6(passage, this.#protection, this.#settings);
  }

  #checkOther({ frame, etherType, payloadAt }: Passage): DropCause | undefined {
    if (isBridgeGroup(frame)) return 'reserved';
    const at = frame.offset + payloadAt;
    const isSnap = etherType < ETHERTYPE_MIN && ((frame.bytes[at]! << 8) | frame.bytes[at + 1]!) === LLC_SNAP;
    return isSnap ? 'reserved' : undefined;
  }
}

/** 01:80:c2:00:00:00 to 0f. */
function isBridgeGroup({ words, offset }: FrameSource): boolean {
  const word = offset >> 2;
  return words[word] === 0x00c2_8001 && (words[word + 1]! & 0xf0ff) === 0;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!;
}
