/** The opener of each transport that has a descriptor: a row here is what a new one takes. */
import type { Transport } from '../../contracts/api/transport.ts';
import { tapLink } from './device-link.ts';
import type { LinkOpener } from './link.ts';
import { bessLink } from './packet-socket-link.ts';
import { packetLink } from './packet-link.ts';
import { slipLink } from './slip-link.ts';
import { daemonLink, vdeLink } from './switch-link.ts';
import { greLink, l2tpv3Link } from './tunnel-link.ts';
import { mcastLink, ucastLink } from './udp-link.ts';

export type LinkTransport = Exclude<Transport, { readonly kind: 'nat' }>;

export function linkOpener(transport: LinkTransport): LinkOpener {
  switch (transport.kind) {
    case 'daemon':
      return daemonLink(transport.socket);
    case 'vde':
      return vdeLink(transport.folder, transport.port, transport.description);
    case 'mcast':
      return mcastLink(transport.group, transport.port, transport.ttl);
    case 'ucast':
      return ucastLink(transport.remote, transport.local_port, transport.remote_port);
    case 'tuntap':
      return tapLink(transport.device);
    case 'pcap':
      return packetLink(transport);
    case 'slip':
      return slipLink();
    case 'gre':
      return greLink(transport);
    case 'l2tpv3':
      return l2tpv3Link(transport);
    case 'bess':
      return bessLink(transport.socket, transport.local);
  }
}
