/** What a guest might say in the name of others, frame by frame, and the cause by which a protected port drops it. */
import type { DropCause } from '../index.ts';
import { parseIp } from '../wire/address.ts';
import { buildArp } from '../wire/arp.ts';
import { buildIpv4, PROTOCOL_UDP } from '../wire/ipv4.ts';
import { BROADCAST, bytesOf, macOf, TEST_ETHERTYPE } from './fake-guest.ts';
import { ETHERTYPE_IPV6, ethernet, ip6, neighbor, tagged, udpBytes } from './packets.ts';

/** The guest's addresses, and its victim's. */
export const OWN = '10.77.0.50';
export const OTHER = '10.77.0.60';
export const OWN_6 = 'fd00:77::50';
export const LINK_LOCAL = 'fe80::ff:fe00:1';
export const ALL_NODES = 'ff02::1';
export const VICTIM_6 = 'fd00:77::60';
export const [IPV4, ARP, ICMP6, UDP] = [0x0800, 0x0806, 58, 17];

export const mac = macOf(1);

export function arp(senderMac: string, senderIp: string, operation = 2): Uint8Array {
  const fields = { operation, senderMac: bytesOf(senderMac), targetMac: bytesOf(BROADCAST) };
  return buildArp({ ...fields, senderIp: parseIp(senderIp)!, targetIp: parseIp(OTHER)! });
}

export function udp4(from: string, fromPort: number, toPort: number): Uint8Array {
  const payload = Uint8Array.from(udpBytes(fromPort, toPort));
  return buildIpv4({ source: parseIp(from)!, destination: 0xffff_ffff, protocol: PROTOCOL_UDP, payload });
}

export const icmp6 = (from: string, payload: readonly number[], to = ALL_NODES): Uint8Array =>
  ip6({ from, to, next: ICMP6, payload });

/** Routing header (43) and a fragment header (44) of a packet whose ICMP message is only in the second fragment. */
export const HIDDEN = ip6({
  from: OWN_6,
  to: ALL_NODES,
  next: 44,
  payload: [60, 0, 0, 1, 1, 2, 3, 4, 58, 0, 1, 4, 0, 0, 0, 0],
});

export const SPOOFS: readonly [what: string, cause: DropCause, frame: Uint8Array][] = [
  ['another source MAC', 'macSpoof', ethernet(BROADCAST, macOf(9), TEST_ETHERTYPE, [1])],
  ['the victim’s MAC', 'macSpoof', ethernet(BROADCAST, macOf(2), TEST_ETHERTYPE, [1])],
  ['ARP for another’s address', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, OTHER))],
  ['ARP for the gateway', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, '10.77.0.1'))],
  ['ARP with another’s MAC within', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(macOf(2), OWN))],
  ['ARP request in another’s name', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, OTHER, 1))],
  ['ARP cut short', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, OWN).subarray(0, 20))],
  ['reverse ARP', 'arpSpoof', ethernet(BROADCAST, mac, 0x8035, arp(mac, OWN))],
  ['another’s IPv4 address', 'ipv4Spoof', ethernet(BROADCAST, mac, IPV4, udp4(OTHER, 1000, 2000))],
  ['no IPv4 address', 'ipv4Spoof', ethernet(BROADCAST, mac, IPV4, udp4('0.0.0.0', 1000, 2000))],
  ['IPv4 cut short', 'ipv4Spoof', ethernet(BROADCAST, mac, IPV4, udp4(OWN, 1000, 2000).subarray(0, 15))],
  ['a DHCP server', 'dhcpServer', ethernet(BROADCAST, mac, IPV4, udp4(OWN, 67, 68))],
  [
    'a router advertisement',
    'routerAdvertisement',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(LINK_LOCAL, [134, 0, 0, 0])),
  ],
  [
    'a redirect',
    'routerAdvertisement',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(LINK_LOCAL, [137, 0, 0, 0])),
  ],
  [
    'a header chain that hides its end',
    'routerAdvertisement',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, HIDDEN),
  ],
  [
    'a router advertisement behind options',
    'routerAdvertisement',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: LINK_LOCAL, to: ALL_NODES, next: 60, payload: [58, 0, 1, 4, 0, 0, 0, 0, 134, 0] }),
    ),
  ],
  [
    'a DHCPv6 server',
    'dhcpServer',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: OWN_6, to: ALL_NODES, next: UDP, payload: udpBytes(547, 546) }),
    ),
  ],
  [
    'another’s IPv6 address',
    'ipv6Spoof',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: VICTIM_6, to: ALL_NODES, next: UDP, payload: udpBytes(1, 2) }),
    ),
  ],
  [
    'an IPv6 address of nowhere',
    'ipv6Spoof',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: '2001:db8::1', to: ALL_NODES, next: UDP, payload: udpBytes(1, 2) }),
    ),
  ],
  [
    'an advertisement for a neighbor',
    'ipv6Spoof',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(OWN_6, neighbor(136, VICTIM_6, mac))),
  ],
  [
    'an advertisement of another’s MAC',
    'ipv6Spoof',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(OWN_6, neighbor(136, OWN_6, macOf(2)))),
  ],
  [
    'a solicitation with another’s MAC',
    'ipv6Spoof',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(OWN_6, neighbor(135, VICTIM_6, macOf(2)))),
  ],
  ['a tag', 'vlan', tagged(ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1]), 2)],
  ['a tag of its own VLAN', 'vlan', tagged(ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1]), 1)],
  ['two tags', 'vlan', tagged(tagged(ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1]), 2), 1)],
  ['a provider’s tag', 'vlan', ethernet(BROADCAST, mac, 0x88a8, [0, 2, 8, 0])],
  ['a bridge’s message', 'reserved', ethernet('01:80:c2:00:00:00', mac, 0x27, [0x42, 0x42, 3])],
  ['IP in 802.2', 'reserved', ethernet(BROADCAST, mac, 0x30, [0xaa, 0xaa, 3, 0, 0, 0, 8, 0])],
  ['a group as source', 'groupSource', ethernet(BROADCAST, '03:00:00:00:00:01', TEST_ETHERTYPE, [1])],
];
