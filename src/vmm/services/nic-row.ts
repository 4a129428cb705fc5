/** What is written down of a network card. */
import type { NetworkSettings, NicSettings, Transport } from '../../contracts/api/index.ts';
import type { NicConfig } from '../../contracts/machine.ts';
import type { NicRow, Store } from '../../db/index.ts';
import { NAT_GUEST_ADDRESS, NAT_PREFIX_LENGTH } from '../../switchd/transport/nic.ts';
import { portIdOf } from '../ports.ts';

/** The network of the switch's that a card is on: one of its own when it has a transport. */
export function switchNetworkOf({ vm_id, device, network_id }: NicRow): string {
  return network_id ?? portIdOf(vm_id, device);
}

/** Undefined for a card that is on a network. */
export function transportOf({ transport }: Pick<NicRow, 'transport'>): Transport | undefined {
  // INVARIANT: it was checked against the schema before it was written.
  return transport === null ? undefined : (JSON.parse(transport) as Transport);
}

/** Those that are known here: behind most transports others give them. */
export function addressesOf(store: Store, nic: NicRow): string[] {
  if (nic.network_id !== null) return store.addresses.ofNic(nic.vm_id, nic.device).map((row) => row.address);
  return transportOf(nic)?.kind === 'nat' ? [NAT_GUEST_ADDRESS] : [];
}

/** Bits of the prefix of its IPv4 addresses. */
export function prefixLengthOf({ networks }: Store, { network_id }: NicRow): number {
  const network = network_id === null ? undefined : networks.get(network_id);
  return network === undefined ? NAT_PREFIX_LENGTH : Number(network.subnet.split('/')[1]);
}

/** Whether DHCP and DNS are ours where it is plugged in. */
export function hasServices(store: Store, nic: NicRow): boolean {
  if (nic.network_id === null) return transportOf(nic)?.kind === 'nat';
  // INVARIANT: the network of a card is there, and its settings were checked before they were written.
  const settings = JSON.parse(store.networks.get(nic.network_id)!.settings) as NetworkSettings;
  return settings.services !== false;
}

export function settingsOf(nic: NicRow): NicSettings {
  // INVARIANT: they were checked against the schema before they were written.
  return JSON.parse(nic.settings) as NicSettings;
}

/** For the machine. */
export function nicConfig(nic: NicRow): NicConfig {
  const { device, mac, network_name } = nic;
  return { device, mac, network: network_name ?? transportOf(nic)?.kind ?? '' };
}
