/** Ethernet II frames (IEEE 802.3 §3.2.6), without VLAN tags and FCS. */
import { viewOf } from './view.ts';

export const ETHERNET_HEADER_BYTES = 14;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;
export const ETHERTYPE_ARP = 0x0806;

export interface EthernetFrame {
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
  readonly type: number;
  readonly payload: Uint8Array;
}

export function parseEthernet(frame: Uint8Array): EthernetFrame | undefined {
  if (frame.length < ETHERNET_HEADER_BYTES) return undefined;
  return {
    destination: frame.subarray(0, 6),
    source: frame.subarray(6, 12),
    type: viewOf(frame).getUint16(12),
    payload: frame.subarray(ETHERNET_HEADER_BYTES),
  };
}

export function buildEthernet(fields: EthernetFrame): Uint8Array {
  const frame = new Uint8Array(ETHERNET_HEADER_BYTES + fields.payload.length);
  frame.set(fields.destination, 0);
  frame.set(fields.source, 6);
  viewOf(frame).setUint16(12, fields.type);
  frame.set(fields.payload, ETHERNET_HEADER_BYTES);
  return frame;
}
