/** The Internet checksum (RFC 1071): ones' complement of the ones' complement sum of 16-bit words. */
import { viewOf } from './view.ts';

/** `initial` is a sum of further 16-bit words, such as a pseudo-header's. */
export function internetChecksum(bytes: Uint8Array, initial = 0): number {
  const view = viewOf(bytes);
  let sum = initial;
  let i = 0;
  for (; i + 1 < bytes.length; i += 2) sum += view.getUint16(i);
  if (i < bytes.length) sum += bytes[i]! << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}
