/** Networks: records in the database, life in the switch. */
import type { Network, NetworkCreate, Page } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { NetworkRow, Store } from '../../db/index.ts';
import { iso, notFound, pageOfRows } from '../access.ts';
import type { EventLog } from '../events.ts';
import { newId } from '../ids.ts';
import type { NetworkLease, NetworkSwitch } from '../ports.ts';
import { SerialQueue } from '../serial-queue.ts';

export const DEFAULT_NETWORK = { name: 'default', subnet: '10.0.77.0/24' } as const;

export interface NetworkDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly fabric: NetworkSwitch;
  /** NICs of running VMs on a network. */
  portsInUse(networkId: string): number;
}

export class Networks {
  readonly #deps: NetworkDeps;
  readonly #queue = new SerialQueue();

  constructor(deps: NetworkDeps) {
    this.#deps = deps;
  }

  /** At start: makes the default network if there is none, and all networks in the switch. */
  async restore(): Promise<void> {
    const { store, fabric } = this.#deps;
    if (store.networks.byName(DEFAULT_NETWORK.name) === undefined)
      this.#insert(newId('net'), DEFAULT_NETWORK);
    for (const { id, name, subnet } of store.networks.all()) await fabric.createNetwork({ id, name, subnet });
  }

  async list(query: { limit: number; cursor?: string | undefined }): Promise<Page<Network>> {
    const read = (after: number, limit: number): NetworkRow[] =>
      this.#deps.store.networks.page({ after, limit });
    const page = pageOfRows(query, read, (rows) => rows);
    return { ...page, items: await Promise.all(page.items.map((row) => this.#view(row))) };
  }

  get(ref: string): Promise<Network> {
    return this.#view(this.find(ref));
  }

  find(ref: string, field?: string): NetworkRow {
    const { networks } = this.#deps.store;
    const row = networks.get(ref) ?? networks.byName(ref);
    if (row === undefined) throw notFound('network', ref, field);
    return row;
  }

  create(body: NetworkCreate): Promise<Network> {
    return this.#queue.run(async () => {
      const { store, fabric } = this.#deps;
      if (store.networks.byName(body.name) !== undefined) throw nameTaken('network', body.name);
      const id = newId('net');
      await fabric.createNetwork({ id, ...body });
      this.#insert(id, body);
      return await this.get(id);
    });
  }

  /** `in_use` while a VM has a NIC on it; `protected` for the default network. */
  delete(ref: string): Promise<void> {
    return this.#queue.run(async () => {
      const { store, fabric, events } = this.#deps;
      const { id, name } = this.find(ref);
      if (name === DEFAULT_NETWORK.name) {
        throw new AppError('protected', 'the default network cannot be deleted');
      }
      const nics = store.vms.countOnNetwork(id);
      if (nics > 0) {
        throw new AppError('in_use', `${nics} network interfaces are on network ${name}`, {
          field: 'network',
          remedy: 'remove them from their VMs first',
        });
      }
      store.transaction(() => {
        store.networks.remove(id);
        events.append({
          type: 'network.deleted',
          tenant: null,
          resource: { type: 'network', id },
          data: { name },
        });
      });
      await fabric.deleteNetwork(id);
    });
  }

  leases(networkId: string): Promise<readonly NetworkLease[]> {
    return this.#deps.fabric.leases(networkId);
  }

  #insert(id: string, { name, subnet }: { readonly name: string; readonly subnet: string }): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      store.networks.insert({ id, name, subnet, created_at: Date.now() });
      events.append({
        type: 'network.created',
        tenant: null,
        resource: { type: 'network', id },
        data: { name },
      });
    });
  }

  async #view(row: NetworkRow): Promise<Network> {
    const leases = await this.leases(row.id);
    return {
      id: row.id,
      name: row.name,
      subnet: row.subnet,
      ports: this.#deps.portsInUse(row.id),
      leases: leases.map(({ mac, address, hostName }) => ({ mac, address, host_name: hostName })),
      created_at: iso(row.created_at),
    };
  }
}

export function nameTaken(what: string, name: string): AppError {
  return new AppError('already_exists', `there is a ${what} named ${name} already`, {
    field: 'name',
    remedy: 'choose another name',
  });
}
