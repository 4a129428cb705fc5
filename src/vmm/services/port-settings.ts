/** What the switch is told of a network card, from what is written down of it. */
import type { FirewallRule, Protection, RateLimit } from '../../contracts/api/index.ts';
import type { NicRow, Store } from '../../db/index.ts';
import type { PortSettings } from '../ports.ts';
import { metadataOf } from './cloud-init.ts';
import { memberGroups, withoutMembers } from './firewall-groups.ts';
import { addressesOf, hasServices, settingsOf } from './nic-row.ts';

type SwitchProtection = NonNullable<PortSettings['protection']>;

/** What the switch is told of a network card. */
export function portSettings(store: Store, nic: NicRow): PortSettings {
  const { vlan, protection, limits, firewalls = [], rules = [] } = settingsOf(nic);
  const sets = new Map(store.firewalls.all(firewalls).map((row) => [row.id, row]));
  // INVARIANT: rules were checked against the schema before they were written.
  const shared = firewalls.flatMap((id) => JSON.parse(sets.get(id)?.rules ?? '[]') as FirewallRule[]);
  return {
    addresses: addressesOf(store, nic),
    vlan,
    protection: { ...defaultProtection(store, nic), ...protectionOf(protection) },
    metadata: metadataOf(store, { id: nic.vm_id, name: store.vms.get(nic.vm_id)?.name ?? '' }),
    firewall: withoutMembers(store, nic, [...rules, ...shared]),
    limits: limits && { fromPort: rateOf(limits.tx), toPort: rateOf(limits.rx) },
  };
}

/** Ids of the firewalls on whose members its rules depend. */
export function groupsOf(store: Store, nic: NicRow): string[] {
  const { firewalls = [], rules = [] } = settingsOf(nic);
  // INVARIANT: rules were checked against the schema before they were written.
  const shared = store.firewalls.all(firewalls).flatMap((row) => JSON.parse(row.rules) as FirewallRule[]);
  return memberGroups([...rules, ...shared]);
}

/** Where addresses come from elsewhere, whose they are is not known here. */
function defaultProtection(store: Store, nic: NicRow): Partial<SwitchProtection> {
  return hasServices(store, nic) ? {} : { arp: false, ipv4: false, ipv6: false };
}

function protectionOf(protection: Protection | undefined): Partial<SwitchProtection> {
  if (protection === undefined) return {};
  const { dhcp_server: dhcpServer, router_advertisement: routerAdvertisement, ...rest } = protection;
  return { ...rest, dhcpServer, routerAdvertisement };
}

function rateOf(limit: RateLimit | undefined) {
  return (
    limit && {
      bitsPerSecond: limit.bits_per_second,
      burstBytes: limit.burst_bytes,
      packetsPerSecond: limit.packets_per_second,
      burstPackets: limit.burst_packets,
    }
  );
}
