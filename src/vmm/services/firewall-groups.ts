/**
 * Firewall rules whose other side is whoever has a firewall: the cards on the same network that have it are its members. Rules are
 * kept with firewalls' ids, and the switch is told the members' addresses.
 */
import type { FirewallRule, NetworkSettings } from '../../contracts/api/index.ts';
import type { NicRow, Store } from '../../db/index.ts';
import { type FirewallRule as SwitchRule, stationAddressOf } from '../../switchd/index.ts';
import { addressesOf } from './nic-row.ts';

/** The same rules with `members` mapped. */
export function mapMembers(
  rules: readonly FirewallRule[],
  map: (member: string, index: number) => string,
): FirewallRule[] {
  return rules.map(({ members, ...rule }, index) => ({
    ...rule,
    ...(members && { members: members.map((member) => map(member, index)) }),
  }));
}

/** Ids of the firewalls whose members are named. */
export function memberGroups(rules: readonly FirewallRule[]): string[] {
  return rules.flatMap(({ members = [] }) => members);
}

/** For the switch: networks and addresses. Nobody is a member of a firewall that no card has. */
export function withoutMembers(store: Store, nic: NicRow, rules: readonly FirewallRule[]): SwitchRule[] {
  return rules.map(({ members, cidrs, ...rule }) => {
    if (members === undefined) return { ...rule, cidrs };
    const hosts = members.flatMap((id) => memberAddresses(store, nic, id)).map(asCidr);
    return { ...rule, cidrs: [...(cidrs ?? []), ...hosts] };
  });
}

function memberAddresses(store: Store, { network_id }: NicRow, firewallId: string): string[] {
  const network = network_id === null ? undefined : store.networks.get(network_id);
  if (network === undefined) return [];
  // INVARIANT: it was checked against the schema before it was written.
  const { ipv6 } = JSON.parse(network.settings) as NetworkSettings;
  const cards = store.firewalls.nics(firewallId).filter((card) => card.network_id === network.id);
  return cards.flatMap((card) => {
    const given = addressesOf(store, card);
    if (ipv6 === undefined || given.some((address) => address.includes(':'))) return given;
    return [...given, stationAddressOf(ipv6.prefix, card.mac)];
  });
}

const asCidr = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;
