/** IPv4 packets (RFC 791). */
import { internetChecksum } from './checksum.ts';
import { viewOf } from './view.ts';

const HEADER_BYTES = 20;
const TTL = 64;
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;

export interface Ipv4Packet {
  readonly source: number;
  readonly destination: number;
  readonly protocol: number;
  readonly payload: Uint8Array;
}

/** Undefined for what is malformed, has a wrong header checksum, or is a fragment. */
export function parseIpv4(bytes: Uint8Array): Ipv4Packet | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = viewOf(bytes);
  const headerBytes = (bytes[0]! & 15) * 4;
  const totalBytes = view.getUint16(2);
  if (bytes[0]! >> 4 !== 4 || headerBytes < HEADER_BYTES) return undefined;
  if (totalBytes < headerBytes || totalBytes > bytes.length) return undefined;
  // More Fragments or an offset. Nothing that a service here takes needs fragments.
  if ((view.getUint16(6) & 0x3fff) !== 0) return undefined;
  if (internetChecksum(bytes.subarray(0, headerBytes)) !== 0) return undefined;
  return {
    source: view.getUint32(12),
    destination: view.getUint32(16),
    protocol: bytes[9]!,
    payload: bytes.subarray(headerBytes, totalBytes),
  };
}

/** Builds a packet with Don't Fragment set and identification 0 (RFC 6864 §4.1). */
export function buildIpv4(packet: Ipv4Packet): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + packet.payload.length);
  const view = viewOf(bytes);
  bytes[0] = 0x45;
  view.setUint16(2, bytes.length);
  view.setUint16(6, 0x4000);
  bytes[8] = TTL;
  bytes[9] = packet.protocol;
  view.setUint32(12, packet.source);
  view.setUint32(16, packet.destination);
  view.setUint16(10, internetChecksum(bytes.subarray(0, HEADER_BYTES)));
  bytes.set(packet.payload, HEADER_BYTES);
  return bytes;
}
