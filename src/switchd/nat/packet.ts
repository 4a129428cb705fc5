/** An IP packet of a guest, taken apart: its headers are copied first, since the guest's thread could change them meanwhile. */
import { SocketAddress } from 'node:net';
import { fold, hasOffload, sumOf } from '../offload/offload.ts';
import type { FrameSource } from '../ring/producer.ts';

export const PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;
const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
/** Ethernet, the longest IPv4 header and the longest TCP header. */
const HEADER_BYTES_MAX = 14 + 60 + 60;
const IPV6_HEADER_BYTES = 40;
const MORE_FRAGMENTS = 0x2000;
const FRAGMENT_OFFSET = 0x1fff;

export class Packet {
  /** Of the frame from the Ethernet header on, as far as `headerBytes`. */
  readonly header: Buffer = Buffer.alloc(HEADER_BYTES_MAX);
  headerBytes = 0;
  /** 4 or 16 bytes, valid until the next packet. */
  source: Uint8Array = this.header;
  destination: Uint8Array = this.header;
  protocol = 0;
  /** What follows the IP header, in `bytes`. */
  bytes: Uint8Array = this.header;
  offset = 0;
  length = 0;
  /** Where that is in `header`. */
  at = 0;
  /** The guest has left its checksum, or its segmentation, to us: there is nothing to check. */
  isUnfinished = false;
  /** IPv4 fragments: their offset in bytes and whether more follow; 0 and false for a whole packet. */
  fragmentOffset = 0;
  hasMoreFragments = false;

  get isIpv6(): boolean {
    return this.source.length === 16;
  }
  get isFragment(): boolean {
    return this.hasMoreFragments || this.fragmentOffset > 0;
  }
  get mac(): Uint8Array {
    return this.header.subarray(6, 12);
  }
  get sourcePort(): number {
    return this.header.readUInt16BE(this.at);
  }
  get destinationPort(): number {
    return this.header.readUInt16BE(this.at + 2);
  }
  get identification(): number {
    return this.header.readUInt16BE(ETHERNET_BYTES + 4);
  }

  /** False for what is not a well-formed IP packet. */
  read(frame: FrameSource): boolean {
    const { header } = this;
    this.headerBytes = Math.min(frame.length, HEADER_BYTES_MAX);
    header.set(frame.bytes.subarray(frame.offset, frame.offset + this.headerBytes));
    this.bytes = frame.bytes;
    this.isUnfinished = hasOffload(frame);
    this.fragmentOffset = 0;
    this.hasMoreFragments = false;
    const type = header.readUInt16BE(12);
    if (type === ETHERTYPE_IPV4) return this.#readIpv4(frame);
    return type === ETHERTYPE_IPV6 && this.#readIpv6(frame);
  }

  /** `bytes` of the payload that are really there as a copy. */
  copy(from: number): Buffer {
    return Buffer.from(this.bytes.subarray(this.offset + from, this.offset + this.length));
  }

  /** Is the checksum of TCP, UDP or ICMPv6 right? `bytes` has all of it. */
  hasRightChecksum(): boolean {
    if (this.isUnfinished) return true;
    const addresses =
      sumOf(this.source, 0, this.source.length) + sumOf(this.destination, 0, this.source.length);
    const sum = sumOf(this.bytes, this.offset, this.length);
    return fold(addresses + this.protocol + this.length + sum) === 0xffff;
  }

  #readIpv4(frame: FrameSource): boolean {
    const { header } = this;
    const at = ETHERNET_BYTES;
    const ipBytes = (header[at]! & 15) * 4;
    if (header[at]! >> 4 !== 4 || ipBytes < 20 || this.headerBytes < at + ipBytes) return false;
    const total = header.readUInt16BE(at + 2);
    if (total < ipBytes || at + total > frame.length) return false;
    if (fold(sumOf(header, at, ipBytes)) !== 0xffff) return false;
    const fragment = header.readUInt16BE(at + 6);
    this.fragmentOffset = (fragment & FRAGMENT_OFFSET) * 8;
    this.hasMoreFragments = (fragment & MORE_FRAGMENTS) !== 0;
    this.protocol = header[at + 9]!;
    this.source = header.subarray(at + 12, at + 16);
    this.destination = header.subarray(at + 16, at + 20);
    this.#payload(frame, at + ipBytes, total - ipBytes);
    return true;
  }

  /** Extension headers are not understood: such a packet has a protocol that nobody takes. */
  #readIpv6(frame: FrameSource): boolean {
    const { header } = this;
    const at = ETHERNET_BYTES;
    if (header[at]! >> 4 !== 6 || this.headerBytes < at + IPV6_HEADER_BYTES) return false;
    const length = header.readUInt16BE(at + 4);
    if (at + IPV6_HEADER_BYTES + length > frame.length) return false;
    this.protocol = header[at + 6]!;
    this.source = header.subarray(at + 8, at + 24);
    this.destination = header.subarray(at + 24, at + 40);
    this.#payload(frame, at + IPV6_HEADER_BYTES, length);
    return true;
  }

  #payload(frame: FrameSource, at: number, length: number): void {
    this.at = at;
    this.offset = frame.offset + at;
    this.length = length;
  }
}

/** Who sent it, to answer later: copies. */
export function peerOf(packet: Packet): { readonly mac: Uint8Array; readonly address: Uint8Array } {
  return { mac: Uint8Array.from(packet.mac), address: Uint8Array.from(packet.source) };
}

/** As text, in the form that Node's sockets take and give. */
export function formatAddress(address: Uint8Array): string {
  if (address.length === 4) return address.join('.');
  const groups = Array.from({ length: 8 }, (_, i) =>
    ((address[2 * i]! << 8) | address[2 * i + 1]!).toString(16),
  );
  return new SocketAddress({ address: groups.join(':'), family: 'ipv6' }).address;
}
