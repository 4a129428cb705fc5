/** Sockets that send ICMP echo requests without privileges (Linux: net.ipv4.ping_group_range, icmp(7)). */
import { createSocket, type Socket } from 'node:dgram';
import { noteReleased } from '../uml/descriptors.ts';
import { libc } from '../uml/libc.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const FLAGS = 0o2004000;
const PROTOCOL_ICMP = 1;
const PROTOCOL_ICMPV6 = 58;

/** Undefined where the host's administrator has not permitted it. It sends and gives ICMP messages in place of payloads. */
export function openPing(isIpv6: boolean): Socket | undefined {
  const family = isIpv6 ? AF_INET6 : AF_INET;
  const fd = libc().socket(family, SOCK_DGRAM | FLAGS, isIpv6 ? PROTOCOL_ICMPV6 : PROTOCOL_ICMP);
  if (fd < 0) return undefined;
  // To the kernel's interface it is a datagram socket like any other; ports mean nothing.
  const socket = createSocket(isIpv6 ? 'udp6' : 'udp4');
  socket.bind({ fd });
  // It is Node's now.
  noteReleased(fd);
  return socket;
}
