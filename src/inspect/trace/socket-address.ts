/** struct sockaddr of the families that lead somewhere. */
import type { TraceRecord } from '../../contracts/ports.ts';

const FAMILY = { UNIX: 1, INET: 2, INET6: 10 } as const;

export function socketAddress(bytes: Buffer): Pick<TraceRecord, 'address' | 'port' | 'family' | 'path'> {
  const family = bytes.readUInt16LE(0);
  if (family === FAMILY.INET && bytes.length >= 8) {
    return { address: [...bytes.subarray(4, 8)].join('.'), port: bytes.readUInt16BE(2) };
  }
  if (family === FAMILY.INET6 && bytes.length >= 24) {
    const groups = Array.from({ length: 8 }, (_, n) => bytes.readUInt16BE(8 + n * 2).toString(16));
    return { address: groups.join(':'), port: bytes.readUInt16BE(2) };
  }
  if (family !== FAMILY.UNIX) return { family };
  // An abstract name begins with a NUL, which is written as @.
  const name = bytes.subarray(2).toString('utf8');
  return { path: name.startsWith('\0') ? `@${name.slice(1).split('\0')[0]}` : name.split('\0')[0] };
}
