/** Network cards of VMs: what is written down of them, and what the switch is told. */
import type { Nic, NicCreate, NicSettings, NicUpdate, Transport } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { NetworkRow, NicRow, Store, VmRow } from '../../db/index.ts';
import { type Principal, SYSTEM } from '../access.ts';
import type { EventLog } from '../events.ts';
import { macFor } from '../ids.ts';
import type { Firewalls } from './firewalls.ts';
import { DEFAULT_NETWORK, type Networks } from './networks.ts';
import { addressesOf, settingsOf, transportOf } from './nic-row.ts';
import type { PluggedNics } from './plugged-nics.ts';

export interface NicDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly networks: Networks;
  readonly firewalls: Firewalls;
  readonly plugged: PluggedNics;
}

/** A network card to be written down. */
export interface NewNic {
  readonly device: string;
  readonly mac: string;
  /** Undefined for a card with a transport. */
  readonly network: NetworkRow | undefined;
  readonly transport: Transport | undefined;
  readonly addresses: readonly string[];
  readonly settings: NicSettings;
}

/** Of a VM, for another one that is made after it. */
export interface SavedNics {
  readonly networks: readonly string[];
  /** Missing in what an earlier version or another daemon has written. */
  readonly cards?: readonly SavedNic[];
}

interface SavedNic {
  /** Null for a card with a transport. */
  readonly network: string | null;
  readonly transport?: Transport | undefined;
  readonly settings: NicSettings;
}

export class Nics {
  readonly #deps: NicDeps;

  constructor(deps: NicDeps) {
    this.#deps = deps;
  }

  /** Checks what is wanted. `field` is where it is in the request. */
  plan(who: Principal, vmId: string, device: string, body: NicCreate, field?: string): NewNic {
    const { network: ref, transport, mac, addresses = [], ...settings } = body;
    const at = (name: string): string => (field === undefined ? name : `${field}.${name}`);
    if (transport !== undefined) checkTransportNic(who, transport, body, at);
    const network =
      transport === undefined
        ? this.#deps.networks.find(who, ref ?? DEFAULT_NETWORK.name, at('network'))
        : undefined;
    if (mac !== undefined && (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1) {
      throw new AppError('invalid_input', `${mac} is a group address, not a station's`, {
        field: at('mac'),
        remedy: 'make the first byte even, as in 02:00:00:00:00:01',
      });
    }
    requireAllowed(who, network, settings, at);
    const checked = this.#withFirewalls(who, settings, at);
    const card = { device, mac: mac?.toLowerCase() ?? macFor(vmId, device) };
    return { ...card, network, transport, addresses, settings: checked };
  }

  /** Firewalls are named by whoever writes, and kept by their ids. */
  #withFirewalls<T extends Omit<NicUpdate, 'addresses'>>(
    who: Principal,
    settings: T,
    at: (name: string) => string,
  ): T {
    const { firewalls, rules } = settings;
    const sets = this.#deps.firewalls;
    return {
      ...settings,
      ...(firewalls && { firewalls: firewalls.map((ref) => sets.find(who, ref, at('firewalls')).id) }),
      ...(rules && { rules: sets.withMemberIds(who, rules, at('rules')) }),
    };
  }

  /**
   * For a VM made after another one. A network may have been deleted since: its card is left out, as on a machine moved
   * to another place.
   */
  planAgain(vmId: string, tenant: string, { networks, cards }: SavedNics): NewNic[] {
    const who = { ...SYSTEM, role: 'user', tenant } as const;
    const made: NewNic[] = [];
    const plain = (network: string): SavedNic => ({ network, settings: {} });
    for (const { network, transport, settings } of cards ?? networks.map(plain)) {
      const device = `eth${made.length}`;
      try {
        const kept = { transport, settings: this.#withoutDeleted(settings) };
        if (network === null) {
          made.push({ device, mac: macFor(vmId, device), network: undefined, addresses: [], ...kept });
        } else made.push({ ...this.plan(who, vmId, device, { network }), ...kept });
      } catch (error) {
        if (!(error instanceof AppError && error.code === 'not_found')) throw error;
      }
    }
    return made;
  }

  /** What another VM's cards are made of: VLANs, limits, protection and firewalls stay, addresses do not. */
  saved(vmId: string): Required<SavedNics> {
    const cards = this.#deps.store.vms.nicsOf(vmId).map((nic) => ({
      network: nic.network_name,
      transport: transportOf(nic),
      settings: settingsOf(nic),
    }));
    return { networks: cards.flatMap(({ network }) => network ?? []), cards };
  }

  #withoutDeleted({ firewalls, ...settings }: NicSettings): NicSettings {
    if (firewalls === undefined) return settings;
    const there = new Set(this.#deps.store.firewalls.all(firewalls).map(({ id }) => id));
    return { ...settings, firewalls: firewalls.filter((id) => there.has(id)) };
  }

  /** Writes a network card down, with its addresses. `already_exists` for a MAC or IP address that another has. */
  insert(vmId: string, { device, mac, network, transport, addresses, settings }: NewNic): void {
    const { store, networks } = this.#deps;
    if (store.vms.hasMac(mac)) {
      throw new AppError('already_exists', `another network interface has the MAC address ${mac}`, {
        field: 'mac',
        remedy: 'leave it out to get one of your own',
      });
    }
    const nic = { vm_id: vmId, device, mac };
    store.vms.insertNic({
      ...nic,
      network_id: network?.id ?? null,
      transport: transport === undefined ? null : JSON.stringify(transport),
      settings: JSON.stringify(settings),
    });
    if (network !== undefined) networks.addresses.give(network, nic, addresses);
  }

  /** In the running transaction. */
  update(who: Principal, vm: VmRow, nic: NicRow, body: NicUpdate): void {
    const { store, networks, events } = this.#deps;
    const { addresses, ...changes } = body;
    const network = nic.network_id === null ? undefined : store.networks.get(nic.network_id);
    if (addresses !== undefined && network === undefined) throw noAddresses('addresses');
    requireAllowed(who, network, changes, (name) => name);
    const checked = this.#withFirewalls(who, changes, (name) => name);
    const merged = Object.entries({ ...settingsOf(nic), ...checked }).filter(([, value]) => value != null);
    store.vms.setNicSettings(nic.vm_id, nic.device, JSON.stringify(Object.fromEntries(merged)));
    if (addresses !== undefined && network !== undefined) {
      networks.addresses.takeBack(nic.vm_id, nic.device);
      networks.addresses.give(network, nic, addresses);
    }
    store.vms.touch(vm.id, Date.now());
    events.append({ type: 'vm.updated', tenant: vm.tenant, resource: { type: 'vm', id: vm.id } });
  }

  /** Network cards of VMs, by VM, with a constant number of queries. */
  views(vmIds: readonly string[]): Map<string, Nic[]> {
    const { store } = this.#deps;
    const addresses = Map.groupBy(store.addresses.ofVms(vmIds), (row) => `${row.vm_id}/${row.device}`);
    const views = new Map<string, Nic[]>();
    const nics = store.vms.nicsOfAll(vmIds).map((nic) => ({ nic, settings: settingsOf(nic) }));
    const ids = nics.flatMap(({ settings }) => settings.firewalls ?? []);
    const names = new Map(store.firewalls.all(ids).map(({ id, name }) => [id, name]));
    for (const { nic, settings: all } of nics) {
      const { firewalls, rules, ...settings } = all;
      const own = addresses.get(`${nic.vm_id}/${nic.device}`) ?? [];
      const view = {
        device: nic.device,
        mac: nic.mac,
        network: nic.network_name,
        transport: transportOf(nic),
        addresses: nic.network_id === null ? addressesOf(store, nic) : own.map((row) => row.address),
        ...settings,
        ...(firewalls && { firewalls: firewalls.map((id) => names.get(id) ?? id) }),
        ...(rules && { rules: this.#deps.firewalls.withMemberNames(rules) }),
      };
      views.set(nic.vm_id, [...(views.get(nic.vm_id) ?? []), view]);
    }
    return views;
  }

  /** With what there is to see of transports, which are the host's: an administrator sees it. */
  async withStates(who: Principal, views: Map<string, Nic[]>): Promise<Map<string, Nic[]>> {
    const { plugged } = this.#deps;
    if (who.role !== 'admin') return views;
    for (const [vmId, nics] of views) {
      for (const [index, nic] of nics.entries()) {
        if (nic.transport === undefined) continue;
        const state = (await plugged.transportState(vmId, nic.device)) ?? null;
        nics[index] = { ...nic, transport_state: state };
      }
    }
    return views;
  }
}

/** A card is on one network or has one transport. All transports but NAT are a device, a socket or a network of the host's. */
function checkTransportNic(
  who: Principal,
  { kind }: Transport,
  { network, addresses }: NicCreate,
  at: (name: string) => string,
): void {
  if (network !== undefined) {
    throw new AppError('invalid_input', 'a network card with a transport is on no network', {
      field: at('transport'),
      remedy: 'give either network or transport',
    });
  }
  if (addresses !== undefined && addresses.length > 0) throw noAddresses(at('addresses'));
  if (kind === 'nat' || who.role === 'admin') return;
  throw new AppError('forbidden', `only an administrator may give a card the transport ${kind}`, {
    field: at('transport'),
    remedy: 'use a network, or the transport nat',
  });
}

function noAddresses(field: string): AppError {
  return new AppError(
    'invalid_input',
    'a network card with a transport gets its addresses from the other side',
    {
      field,
      remedy: 'leave them out',
    },
  );
}

/** A tenant may not lift its own limits, nor leave its VLAN on another's network. */
function requireAllowed(
  who: Principal,
  network: NetworkRow | undefined,
  changes: Omit<NicUpdate, 'addresses'>,
  at: (name: string) => string,
): void {
  if (who.role === 'admin') return;
  const isOpened = changes.protection != null && Object.values(changes.protection).includes(false);
  const forbidden =
    (isOpened && 'protection') ||
    (changes.limits !== undefined && 'limits') ||
    (changes.vlan !== undefined && network !== undefined && network.tenant !== who.tenant && 'vlan');
  if (forbidden === false) return;
  throw new AppError('forbidden', `only an administrator may set ${forbidden} here`, {
    field: at(forbidden),
    remedy: 'leave it out',
  });
}
