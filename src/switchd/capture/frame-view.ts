/** The headers of one frame, as far as filters look at them. */
import { upperLayerOf } from '../wire/ipv6-header.ts';

const ETHERTYPE = { ip: 0x0800, arp: 0x0806, ip6: 0x86dd } as const;
const VLAN_TYPES: readonly number[] = [0x8100, 0x88a8];
export const PROTOCOL = { icmp: 1, igmp: 2, tcp: 6, udp: 17, icmp6: 58, sctp: 132 } as const;
const WITH_PORTS: readonly number[] = [PROTOCOL.tcp, PROTOCOL.udp, PROTOCOL.sctp];
const NONE: Uint8Array = new Uint8Array(0);

export class FrameView {
  frame: Uint8Array = NONE;
  /** Behind the tags. */
  etherType = 0;
  /** Ids of the tags, the outer one first. */
  vlans: number[] = [];
  /** Of IPv4 and IPv6; −1 when it is none. */
  protocol = -1;
  /** Of ARP too; empty when there are none. */
  source: Uint8Array = NONE;
  destination: Uint8Array = NONE;
  /** −1 when there are none. */
  sourcePort = -1;
  destinationPort = -1;

  /** Looks at a frame, which is not copied. */
  load(frame: Uint8Array): void {
    this.frame = frame;
    this.vlans = [];
    this.protocol = -1;
    this.source = NONE;
    this.destination = NONE;
    this.sourcePort = -1;
    this.destinationPort = -1;
    let at = 14;
    this.etherType = this.#u16(12);
    while (VLAN_TYPES.includes(this.etherType) && frame.length >= at + 4) {
      this.vlans.push(this.#u16(at) & 0xfff);
      this.etherType = this.#u16(at + 2);
      at += 4;
    }
    if (this.isIp) this.#loadIp(at);
    else if (this.isIp6) this.#loadIp6(at);
    else if (this.isArp) this.#addresses(at + 14, at + 24, 4);
  }

  get isIp(): boolean {
    return this.etherType === ETHERTYPE.ip;
  }
  get isIp6(): boolean {
    return this.etherType === ETHERTYPE.ip6;
  }
  get isArp(): boolean {
    return this.etherType === ETHERTYPE.arp;
  }

  #loadIp(at: number): void {
    if (this.frame.length < at + 20) return;
    this.protocol = this.frame[at + 9]!;
    this.#addresses(at + 12, at + 16, 4);
    const isFirst = (this.#u16(at + 6) & 0x1fff) === 0;
    if (isFirst) this.#ports(at + (this.frame[at]! & 15) * 4);
  }

  #loadIp6(at: number): void {
    if (this.frame.length < at + 40) return;
    this.#addresses(at + 8, at + 24, 16);
    const upper = upperLayerOf(this.frame, at, this.frame.length);
    this.protocol = upper.protocol;
    this.#ports(upper.at);
  }

  #addresses(source: number, destination: number, length: number): void {
    if (this.frame.length < destination + length) return;
    this.source = this.frame.subarray(source, source + length);
    this.destination = this.frame.subarray(destination, destination + length);
  }

  #ports(at: number): void {
    if (!WITH_PORTS.includes(this.protocol) || this.frame.length < at + 4) return;
    this.sourcePort = this.#u16(at);
    this.destinationPort = this.#u16(at + 2);
  }

  #u16(at: number): number {
    return this.frame.length < at + 2 ? 0 : (this.frame[at]! << 8) | this.frame[at + 1]!;
  }
}
