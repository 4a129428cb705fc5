/** Packets of IPv6 and neighbor discovery for tests, and frames with tags, byte by byte as the standards have them. */
import { parseIp6 } from '../wire/address6.ts';
import { buildEthernet } from '../wire/ethernet.ts';
import { bytesOf } from './fake-guest.ts';

export const ETHERTYPE_IPV6 = 0x86dd;

export interface Ip6Fields {
  readonly from: string;
  readonly to: string;
  readonly next: number;
  readonly payload: readonly number[];
}

/** RFC 8200 §3. */
export function ip6({ from, to, next, payload }: Ip6Fields): Uint8Array {
  const length = [payload.length >> 8, payload.length & 255];
  return Uint8Array.from([
    0x60,
    0,
    0,
    0,
    ...length,
    next,
    255,
    ...ip6Bytes(from),
    ...ip6Bytes(to),
    ...payload,
  ]);
}

export function ip6Bytes(text: string): Uint8Array {
  const bytes = parseIp6(text);
  if (bytes === undefined) throw new Error(`${text} is no IPv6 address`);
  return bytes;
}

/** A neighbor solicitation (135) or advertisement (136) with a link-layer address option (RFC 4861 §4.3, 4.4). */
export function neighbor(type: 135 | 136, target: string, mac: string): number[] {
  return [type, 0, 0, 0, 0, 0, 0, 0, ...ip6Bytes(target), type === 135 ? 1 : 2, 1, ...bytesOf(mac)];
}

export function udpBytes(fromPort: number, toPort: number, text = 'x'): number[] {
  const length = 8 + text.length;
  return [fromPort >> 8, fromPort & 255, toPort >> 8, toPort & 255, 0, length, 0, 0, ...Buffer.from(text)];
}

export function ethernet(
  to: string,
  from: string,
  type: number,
  payload: Uint8Array | readonly number[],
): Uint8Array {
  return buildEthernet({
    destination: bytesOf(to),
    source: bytesOf(from),
    type,
    payload: Uint8Array.from(payload),
  });
}

/** With a tag of IEEE 802.1Q. */
export function tagged(frame: Uint8Array, vlan: number): Uint8Array {
  return Uint8Array.from([
    ...frame.subarray(0, 12),
    0x81,
    0x00,
    vlan >> 8,
    vlan & 255,
    ...frame.subarray(12),
  ]);
}
