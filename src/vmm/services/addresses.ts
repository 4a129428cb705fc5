/** Whose the addresses of networks are: those of network cards, and reservations for other stations. */
import { createHash } from 'node:crypto';
import type { NetworkAddress } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { AddressRow, NetworkRow, NicRow, Store } from '../../db/index.ts';
import { addressPlan } from '../../switchd/index.ts';
import type { Log, NetworkSwitch } from '../ports.ts';

export interface AddressDeps {
  readonly store: Store;
  readonly fabric: NetworkSwitch;
  readonly log: Log;
}

type NewNic = Pick<NicRow, 'vm_id' | 'device' | 'mac'>;

export class Addresses {
  readonly #deps: AddressDeps;

  constructor(deps: AddressDeps) {
    this.#deps = deps;
  }

  list(networkId: string): NetworkAddress[] {
    const rows = this.#deps.store.addresses.ofNetwork(networkId);
    return rows.map(({ address, mac, vm_id, device }) => ({ address, mac, vm_id, device }));
  }

  /** What DHCP keeps for whom. */
  reservations(networkId: string): { address: string; mac: string }[] {
    const rows = this.#deps.store.addresses.ofNetwork(networkId).filter(isForDhcp);
    return rows.map(({ address, mac }) => ({ address, mac }));
  }

  /** Network cards of an earlier version have none yet. */
  adopt(): void {
    const { store } = this.#deps;
    store.transaction(() => {
      for (const nic of store.vms.allNics()) {
        const { vm_id, device, mac, network_id } = nic;
        if (network_id === null || store.addresses.ofNic(vm_id, device).length > 0) continue;
        const network = store.networks.get(network_id);
        if (network !== undefined) this.give(network, { vm_id, device, mac }, []);
      }
    });
  }

  /**
   * Gives a network card, which is written down, its addresses, in the running transaction: those wanted, and an IPv4
   * address if there is none among them. `already_exists`, `invalid_input`, `quota_exceeded`.
   */
  give(network: NetworkRow, nic: NewNic, wanted: readonly string[]): void {
    const plan = addressPlan(planOptions(network));
    for (const address of wanted) this.#requireUsable(network, plan, address);
    const ipv4 = wanted.filter((address) => !address.includes(':'));
    if (ipv4.length === 0) ipv4.push(this.#choose(network, plan, nic.mac));
    const all = [...ipv4, ...wanted.filter((address) => address.includes(':'))];
    for (const [position, address] of all.entries()) {
      const { vm_id, device, mac } = nic;
      this.#insert({ network_id: network.id, address, mac, vm_id, device, position });
    }
  }

  /** Before a network card is removed, or gets others. In the running transaction. */
  takeBack(vmId: string, device: string): void {
    const { store } = this.#deps;
    for (const row of store.addresses.ofNic(vmId, device)) {
      if (isForDhcp(row)) store.afterCommit(() => this.#tell(row.network_id, row.address, null));
      store.afterCommit(() => this.#endForwards(row));
    }
    store.addresses.removeOfNic(vmId, device);
  }

  /** A port of the host that led to a VM must not lead to whoever gets its address next. */
  #endForwards({ network_id, address, mac }: AddressRow): void {
    const { store, fabric, log } = this.#deps;
    if (store.addresses.get(network_id, address)?.mac === mac) return;
    for (const id of store.forwards.removeTo(network_id, address)) {
      fabric
        .unforward(network_id, id)
        .catch((error: unknown) =>
          log.warn({ forward: id, error: String(error) }, 'a port is still forwarded'),
        );
    }
  }

  async reserve(network: NetworkRow, address: string, mac: string): Promise<NetworkAddress> {
    const { store, fabric } = this.#deps;
    this.#requireUsable(network, addressPlan(planOptions(network)), address);
    await fabric.reserve(network.id, address, mac);
    const row = { network_id: network.id, address, mac, vm_id: null, device: null, position: 0 };
    store.transaction(() => store.addresses.insert(row));
    return { address, mac, vm_id: null, device: null };
  }

  /** `not_found`; `in_use` for a network card's address. */
  async release(networkId: string, address: string): Promise<void> {
    const { store, fabric } = this.#deps;
    const row = store.addresses.get(networkId, address);
    if (row === undefined)
      throw new AppError('not_found', `nobody has the address ${address}`, { field: 'address' });
    if (row.vm_id !== null) {
      throw new AppError('in_use', `${address} is an address of ${row.vm_id}/${row.device}`, {
        field: 'address',
        remedy: 'change the network card',
      });
    }
    store.transaction(() => store.addresses.remove(networkId, address));
    await fabric.reserve(networkId, address, null);
  }

  #insert(row: AddressRow): void {
    const { store } = this.#deps;
    store.addresses.insert(row);
    if (isForDhcp(row)) store.afterCommit(() => this.#tell(row.network_id, row.address, row.mac));
  }

  /** The switch is told again of all of them when it starts, so a failure here is no loss. */
  #tell(networkId: string, address: string, mac: string | null): void {
    const { fabric, log } = this.#deps;
    fabric.reserve(networkId, address, mac).catch((error: unknown) => {
      log.warn({ networkId, address, error: String(error) }, 'the switch was not told of an address');
    });
  }

  #requireUsable(network: NetworkRow, plan: ReturnType<typeof addressPlan>, address: string): void {
    if (!plan.has(address)) {
      throw new AppError('invalid_input', `${address} is no host address of network ${network.name}`, {
        field: 'addresses',
        remedy: `use one of ${network.subnet} that is not the gateway's`,
      });
    }
    if (this.#deps.store.addresses.get(network.id, address) === undefined) return;
    throw new AppError('already_exists', `${address} is taken on network ${network.name}`, {
      field: 'addresses',
      remedy: 'choose another one, or leave it out',
    });
  }

  /** Follows from the MAC address where it is free, so that what was just given back is not the next one's. */
  #choose(network: NetworkRow, plan: ReturnType<typeof addressPlan>, mac: string): string {
    const { addresses } = this.#deps.store;
    const start = createHash('sha256').update(mac).digest().readUInt32BE(0);
    for (let step = 0; step < plan.poolSize; step++) {
      const address = plan.poolAddress((start + step) % plan.poolSize);
      if (addresses.get(network.id, address) === undefined) return address;
    }
    throw new AppError('quota_exceeded', `network ${network.name} has no free address`, {
      field: 'network',
      remedy: 'use another network, or a static address outside of the pool',
    });
  }
}

/** DHCP gives a station one address. */
function isForDhcp(row: AddressRow): boolean {
  return row.position === 0 && !row.address.includes(':');
}

function planOptions(network: NetworkRow): Parameters<typeof addressPlan>[0] {
  const { id, name, subnet, settings } = network;
  // INVARIANT: it was checked against the schema before it was written.
  return { ...(JSON.parse(settings) as object), id, name, subnet };
}
