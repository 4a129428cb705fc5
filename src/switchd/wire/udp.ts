/** UDP over IPv4 (RFC 768). */
import { internetChecksum } from './checksum.ts';
import { PROTOCOL_UDP } from './ipv4.ts';
import { viewOf } from './view.ts';

const HEADER_BYTES = 8;

export interface UdpDatagram {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload: Uint8Array;
}

/** The checksum is not looked at: frames come from shared memory, and a guest may leave it to its device. */
export function parseUdp(bytes: Uint8Array): UdpDatagram | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const view = viewOf(bytes);
  const length = view.getUint16(4);
  if (length < HEADER_BYTES || length > bytes.length) return undefined;
  return {
    sourcePort: view.getUint16(0),
    destinationPort: view.getUint16(2),
    payload: bytes.subarray(HEADER_BYTES, length),
  };
}

/** `source` and `destination` are the IPv4 addresses of the pseudo-header. */
export function buildUdp(datagram: UdpDatagram, source: number, destination: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + datagram.payload.length);
  const view = viewOf(bytes);
  view.setUint16(0, datagram.sourcePort);
  view.setUint16(2, datagram.destinationPort);
  view.setUint16(4, bytes.length);
  bytes.set(datagram.payload, HEADER_BYTES);
  const words = (ip: number) => (ip >>> 16) + (ip & 0xffff);
  const sum = internetChecksum(bytes, words(source) + words(destination) + PROTOCOL_UDP + bytes.length);
  view.setUint16(6, sum === 0 ? 0xffff : sum); // 0 means "none"
  return bytes;
}
