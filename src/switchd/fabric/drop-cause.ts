/** Why a port drops frames. `queueFull`, and the causes of rules for frames to a port, are counted at the receiver. */
export const DROP_CAUSES = [
  /** Shorter than an Ethernet header. */
  'runt',
  /** A group address as source. */
  'groupSource',
  /** The source is a station that belongs to another port. */
  'forged',
  /** The destination is on the same port. */
  'local',
  /** The port does not read fast enough. */
  'queueFull',
  /** Tagged on an access port, or of a VLAN that the port is not in. */
  'vlan',
  /** The source is not the port's own MAC address. */
  'macSpoof',
  /** An ARP packet that speaks for another's MAC or IPv4 address. */
  'arpSpoof',
  'ipv4Spoof',
  /** Also neighbor discovery that speaks for another. */
  'ipv6Spoof',
  /** A DHCP or DHCPv6 server's message. */
  'dhcpServer',
  /** A router advertisement or a redirect. */
  'routerAdvertisement',
  /** To an address that bridges keep to themselves (IEEE 802.1D §7.12.6), or IP in a frame of IEEE 802.2. */
  'reserved',
  /** From one station more than the port may have. */
  'stationLimit',
  /** More broadcast, multicast or unknown unicast than the port may flood. */
  'storm',
  /** Above the limits of bandwidth or packets. */
  'rate',
  'firewall',
] as const;

export type DropCause = (typeof DROP_CAUSES)[number];
export type Drops = Record<DropCause, number>;

export function zeroDrops(): Drops {
  // INVARIANT: every cause is a key.
  return Object.fromEntries(DROP_CAUSES.map((cause) => [cause, 0])) as Drops;
}
