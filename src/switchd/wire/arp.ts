/** ARP for IPv4 over Ethernet (RFC 826). */
import { viewOf } from './view.ts';

const ARP_BYTES = 28;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

export interface ArpPacket {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  readonly senderIp: number;
  readonly targetMac: Uint8Array;
  readonly targetIp: number;
}

/** Undefined unless it is Ethernet (1) and IPv4 (0x0800) with lengths 6 and 4. */
export function parseArp(bytes: Uint8Array): ArpPacket | undefined {
  if (bytes.length < ARP_BYTES) return undefined;
  const view = viewOf(bytes);
  if (view.getUint16(0) !== 1 || view.getUint16(2) !== 0x0800 || view.getUint16(4) !== 0x0604)
    return undefined;
  return {
    operation: view.getUint16(6),
    senderMac: bytes.subarray(8, 14),
    senderIp: view.getUint32(14),
    targetMac: bytes.subarray(18, 24),
    targetIp: view.getUint32(24),
  };
}

export function buildArp(packet: ArpPacket): Uint8Array {
  const bytes = new Uint8Array(ARP_BYTES);
  const view = viewOf(bytes);
  view.setUint16(0, 1);
  view.setUint16(2, 0x0800);
  view.setUint16(4, 0x0604);
  view.setUint16(6, packet.operation);
  bytes.set(packet.senderMac, 8);
  view.setUint32(14, packet.senderIp);
  bytes.set(packet.targetMac, 18);
  view.setUint32(24, packet.targetIp);
  return bytes;
}
