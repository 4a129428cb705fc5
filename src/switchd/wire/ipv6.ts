/** IPv6 packets (RFC 8200), ICMPv6 and UDP over them. */
import { internetChecksum } from './checksum.ts';
import { upperLayerOf } from './ipv6-header.ts';
import { viewOf } from './view.ts';

const HEADER_BYTES = 40;
export const PROTOCOL_ICMPV6 = 58;
const PROTOCOL_UDP = 17;
/** Neighbor discovery takes no other (RFC 4861 §6.1, 7.1). */
const HOP_LIMIT = 255;

export interface Ipv6Packet {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly payload: Uint8Array;
}

/** Undefined for what is malformed or a later fragment. The hop limit of neighbor discovery is looked at too. */
export function parseIpv6(bytes: Uint8Array): (Ipv6Packet & { readonly hopLimit: number }) | undefined {
  if (bytes.length < HEADER_BYTES || bytes[0]! >> 4 !== 6) return undefined;
  const end = HEADER_BYTES + viewOf(bytes).getUint16(4);
  if (end > bytes.length) return undefined;
  const { protocol, at } = upperLayerOf(bytes, 0, end);
  if (protocol < 0) return undefined;
  return {
    source: bytes.subarray(8, 24),
    destination: bytes.subarray(24, 40),
    protocol,
    hopLimit: bytes[7]!,
    payload: bytes.subarray(at, end),
  };
}

function build({ source, destination, protocol, payload }: Ipv6Packet, checksumAt: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = viewOf(bytes);
  bytes[0] = 0x60;
  view.setUint16(4, payload.length);
  bytes[6] = protocol;
  bytes[7] = HOP_LIMIT;
  bytes.set(source, 8);
  bytes.set(destination, 24);
  bytes.set(payload, HEADER_BYTES);
  view.setUint16(HEADER_BYTES + checksumAt, 0);
  const sum = internetChecksum(bytes.subarray(8), payload.length + protocol);
  view.setUint16(HEADER_BYTES + checksumAt, sum === 0 ? 0xffff : sum);
  return bytes;
}

/** `message` with room for its checksum at 2. */
export function buildIcmpv6(source: Uint8Array, destination: Uint8Array, message: Uint8Array): Uint8Array {
  return build({ source, destination, protocol: PROTOCOL_ICMPV6, payload: message }, 2);
}

export interface Udp6Fields {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

export function buildUdp6({
  source,
  destination,
  sourcePort,
  destinationPort,
  payload,
}: Udp6Fields): Uint8Array {
  const datagram = new Uint8Array(8 + payload.length);
  const view = viewOf(datagram);
  view.setUint16(0, sourcePort);
  view.setUint16(2, destinationPort);
  view.setUint16(4, datagram.length);
  datagram.set(payload, 8);
  return build({ source, destination, protocol: PROTOCOL_UDP, payload: datagram }, 6);
}
