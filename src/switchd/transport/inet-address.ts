/** struct sockaddr_in and sockaddr_in6, as the C library takes them. */
import { AF_INET, AF_INET6 } from './sockets.ts';

export const INET_BYTES = 16;
const INET6_BYTES = 28;

/** @param port 0 for none */
export function inetAddress(address: string, port: number): Buffer {
  const isV6 = address.includes(':');
  const bytes = Buffer.alloc(isV6 ? INET6_BYTES : INET_BYTES);
  bytes.writeUInt16LE(isV6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(isV6 ? v6Bytes(address) : address.split('.').map(Number), isV6 ? 8 : 4);
  return bytes;
}

/** Of an address that is known to be one of IPv6. */
function v6Bytes(address: string): Uint8Array {
  const [head = '', tail] = address.split('::');
  const front = groupsOf(head);
  const back = groupsOf(tail ?? '');
  const groups = [...front, ...Array<number>(Math.max(0, 8 - front.length - back.length)).fill(0), ...back];
  return Uint8Array.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

/** The last two may be written as an address of IPv4. */
function groupsOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((group) => {
    if (!group.includes('.')) return [Number.parseInt(group, 16)];
    const [a = 0, b = 0, c = 0, d = 0] = group.split('.').map(Number);
    return [(a << 8) | b, (c << 8) | d];
  });
}
