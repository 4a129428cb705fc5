/** An IPv4 or IPv6 packet in a frame, as far as a firewall looks at it. Nothing is copied: it is good while the frame is there. */
import { NO_NEXT_HEADER, upperLayerOf } from '../wire/ipv6-header.ts';

const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const IPV4_HEADER_BYTES = 20;
const IPV6_HEADER_BYTES = 40;
export const PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58, SCTP: 132 } as const;
const ICMP_ERRORS: readonly number[] = [3, 4, 5, 11, 12];
const ICMPV6_ERRORS: readonly number[] = [1, 2, 3, 4];
/** An ICMP error's header, behind which is the packet that it is about. */
const ICMP_ERROR_BYTES = 8;
/** Router and neighbor discovery, and listener reports (RFC 4861, RFC 3810). */
const NEEDED_ICMPV6: readonly number[] = [130, 131, 132, 133, 134, 135, 136, 143];
const DHCP_PORTS: readonly number[] = [67, 68];
const DHCPV6_PORTS: readonly number[] = [546, 547];

export class IpPacket {
  isIpv6 = false;
  protocol = -1;
  /** Of TCP, UDP and SCTP; an echo's identifier stands for both ports of ICMP. */
  sourcePort = 0;
  destinationPort = 0;
  tcpFlags = 0;
  isFirstFragment = false;
  isLaterFragment = false;
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;
  #upper = 0;
  #end = 0;

  /** False when it is no IP packet, or cut short. */
  read(bytes: Uint8Array, at: number, end: number, etherType: number): boolean {
    this.isIpv6 = etherType === ETHERTYPE_IPV6;
    if (!this.isIpv6 && etherType !== ETHERTYPE_IPV4) return false;
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
    this.isFirstFragment = false;
    this.isLaterFragment = false;
    this.sourcePort = 0;
    this.destinationPort = 0;
    this.tcpFlags = 0;
    const isThere = this.isIpv6 ? this.#readIpv6() : this.#readIpv4();
    if (isThere && !this.isLaterFragment) this.#readUpper();
    return isThere;
  }

  /** What no firewall may keep from a network card: neighbor discovery and DHCP. */
  get isNeeded(): boolean {
    if (this.protocol === PROTOCOL.UDP) {
      const ports = this.isIpv6 ? DHCPV6_PORTS : DHCP_PORTS;
      return ports.includes(this.sourcePort) && ports.includes(this.destinationPort);
    }
    return this.protocol === PROTOCOL.ICMPV6 && NEEDED_ICMPV6.includes(this.#icmpType);
  }

  get isError(): boolean {
    if (this.protocol === PROTOCOL.ICMP) return ICMP_ERRORS.includes(this.#icmpType);
    return this.protocol === PROTOCOL.ICMPV6 && ICMPV6_ERRORS.includes(this.#icmpType);
  }

  /** Reads the packet that an error is about. False when it is not there. */
  readQuoted(into: IpPacket): boolean {
    const at = this.#upper + ICMP_ERROR_BYTES;
    return into.read(this.#bytes, at, this.#end, this.isIpv6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4);
  }

  /** The byte of an address, 4 or 16 of them. */
  addressByte(isSource: boolean, index: number): number {
    return this.#bytes[this.#addressAt(isSource) + index]!;
  }

  /** Into words 0 to 3 the local address, into 4 to 7 the remote one. */
  copyAddresses(key: Int32Array, isFromUs: boolean): void {
    const [local, remote] = [this.#addressAt(isFromUs), this.#addressAt(!isFromUs)];
    const words = this.isIpv6 ? 4 : 1;
    key.fill(0, 0, 8);
    for (let i = 0; i < words; i++) {
      key[i] = this.#wordAt(local + 4 * i);
      key[4 + i] = this.#wordAt(remote + 4 * i);
    }
  }

  /** Same for all fragments of a packet. */
  fragmentKey(): string {
    const [at, addresses] = this.isIpv6 ? [this.#at + 8, 32] : [this.#at + 12, 8];
    const identification = this.isIpv6 ? this.#wordAt(this.#upper - 4) : this.#u16(this.#at + 4);
    return `${identification} ${String.fromCharCode(...this.#bytes.subarray(at, at + addresses))}`;
  }

  get #icmpType(): number {
    return this.#upper < this.#end ? this.#bytes[this.#upper]! : -1;
  }

  #readIpv4(): boolean {
    const at = this.#at;
    if (at + IPV4_HEADER_BYTES > this.#end || this.#bytes[at]! >> 4 !== 4) return false;
    const headerBytes = (this.#bytes[at]! & 15) * 4;
    if (headerBytes < IPV4_HEADER_BYTES) return false;
    const fragment = this.#u16(at + 6) & 0x3fff;
    this.isLaterFragment = (fragment & 0x1fff) !== 0;
    this.isFirstFragment = fragment !== 0 && !this.isLaterFragment;
    this.protocol = this.#bytes[at + 9]!;
    this.#upper = at + headerBytes;
    return true;
  }

  #readIpv6(): boolean {
    const at = this.#at;
    if (at + IPV6_HEADER_BYTES > this.#end || this.#bytes[at]! >> 4 !== 6) return false;
    const upper = upperLayerOf(this.#bytes, at, this.#end);
    this.protocol = upper.protocol;
    this.#upper = upper.at;
    // A fragment header directly behind the packet's is the only usual place; fragments elsewhere are matched as they are.
    const isFragment = this.#bytes[at + 6] === 44 && at + IPV6_HEADER_BYTES + 8 <= this.#end;
    if (isFragment) {
      this.isLaterFragment = upper.protocol === NO_NEXT_HEADER;
      this.isFirstFragment = !this.isLaterFragment;
      if (this.isLaterFragment) this.#upper = at + IPV6_HEADER_BYTES + 8;
    }
    return upper.protocol >= 0;
  }

  #readUpper(): void {
    const at = this.#upper;
    const { TCP, UDP, SCTP, ICMP, ICMPV6 } = PROTOCOL;
    const { protocol } = this;
    if (protocol === TCP || protocol === UDP || protocol === SCTP) {
      if (at + 4 > this.#end) return;
      this.sourcePort = this.#u16(at);
      this.destinationPort = this.#u16(at + 2);
      if (protocol === TCP && at + 14 <= this.#end) this.tcpFlags = this.#bytes[at + 13]!;
    } else if ((protocol === ICMP || protocol === ICMPV6) && at + 6 <= this.#end) {
      const type = this.#bytes[at]!;
      const isEcho = protocol === ICMP ? type === 0 || type === 8 : type === 128 || type === 129;
      if (!isEcho) return;
      this.sourcePort = this.#u16(at + 4);
      this.destinationPort = this.sourcePort;
    }
  }

  #addressAt(isSource: boolean): number {
    if (this.isIpv6) return this.#at + (isSource ? 8 : 24);
    return this.#at + (isSource ? 12 : 16);
  }

  #u16(at: number): number {
    return (this.#bytes[at]! << 8) | this.#bytes[at + 1]!;
  }

  #wordAt(at: number): number {
    return (this.#u16(at) << 16) | this.#u16(at + 2);
  }
}
