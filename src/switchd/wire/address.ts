/** MAC and IPv4 addresses and subnets in text, bytes and numbers. IPv4 addresses are unsigned 32-bit numbers. */

export const BROADCAST_MAC = Uint8Array.of(255, 255, 255, 255, 255, 255);
export const BROADCAST_IP = 0xffff_ffff;

/** `aa:bb:cc:dd:ee:ff`, or undefined. */
export function parseMac(text: string): Uint8Array | undefined {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return undefined;
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** Dotted decimal without leading zeros, or undefined. */
export function parseIp(text: string): number | undefined {
  const parts = text.split('.');
  if (parts.length !== 4) return undefined;
  let ip = 0;
  for (const part of parts) {
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined;
    ip = ip * 256 + Number(part);
  }
  return ip;
}

export function formatIp(ip: number): string {
  return `${ip >>> 24}.${(ip >>> 16) & 255}.${(ip >>> 8) & 255}.${ip & 255}`;
}

export interface Subnet {
  readonly network: number;
  readonly prefixLength: number;
  readonly mask: number;
  readonly broadcast: number;
}

/** `10.77.0.0/24`; undefined when malformed, with host bits set, or outside /8 to /30. */
export function parseSubnet(text: string): Subnet | undefined {
  const [address, prefix, ...rest] = text.split('/');
  if (address === undefined || prefix === undefined || rest.length > 0) return undefined;
  const network = parseIp(address);
  if (network === undefined || !/^[0-9]{1,2}$/.test(prefix)) return undefined;
  const prefixLength = Number(prefix);
  if (prefixLength < 8 || prefixLength > 30) return undefined;
  const mask = (0xffff_ffff << (32 - prefixLength)) >>> 0;
  if ((network & mask) >>> 0 !== network) return undefined;
  return { network, prefixLength, mask, broadcast: (network | ~mask) >>> 0 };
}

export function inSubnet(ip: number, subnet: Subnet): boolean {
  return (ip & subnet.mask) >>> 0 === subnet.network;
}

/** A station of a MAC table, as text. */
export function formatStation(high: number, low: number): string {
  const bytes = new Uint8Array(6);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, low, true);
  view.setUint16(4, high, true);
  return formatMac(bytes);
}
