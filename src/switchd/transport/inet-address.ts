/** struct sockaddr_in and sockaddr_in6, as the C library takes them. */
import { AF_INET, AF_INET6, more } from './sockets.ts';

export const INET_BYTES = 16;
const INET6_BYTES = 28;

/** @param port 0 for none */
export function inetAddress(address: string, port: number): Buffer {
  const isV6 = address.includes(':');
  const bytes = Buffer.alloc(isV6 ? INET6_BYTES : INET_BYTES);
  const family = isV6 ? AF_INET6 : AF_INET;
  bytes.writeUInt16LE(family, 0);
  bytes.writeUInt16BE(port, 2);
  // INVARIANT: addresses have been checked where they came in.
  if (more().inet_pton(family, address, bytes.subarray(isV6 ? 8 : 4)) !== 1)
    throw new Error(`no address: ${address}`);
  return bytes;
}
