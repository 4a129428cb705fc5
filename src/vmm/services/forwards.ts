/** Ports of the host that lead to VMs: records in the database, sockets in the switch's thread. */
import type { Forward, ForwardCreate } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { ForwardRow, NetworkRow, Store } from '../../db/index.ts';
import { notFound, type Principal } from '../access.ts';
import type { EventLog } from '../events.ts';
import { newId } from '../ids.ts';
import type { Log, NetworkSwitch } from '../ports.ts';
import { SerialQueue } from '../serial-queue.ts';
import type { Networks } from './networks.ts';

export interface ForwardDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly fabric: NetworkSwitch;
  readonly networks: Networks;
  readonly log: Log;
}

export class Forwards {
  readonly #deps: ForwardDeps;
  readonly #queue = new SerialQueue();

  constructor(deps: ForwardDeps) {
    this.#deps = deps;
  }

  /** At start, when the networks are there. A port that another program has taken meanwhile is left out, and logged. */
  async restore(): Promise<void> {
    const { store, log } = this.#deps;
    for (const network of store.networks.all()) {
      for (const row of store.forwards.ofNetwork(network.id)) {
        await this.#open(row).catch((error: unknown) =>
          log.error({ forward: row.id, error: String(error) }, 'a port is not forwarded'),
        );
      }
    }
  }

  list(who: Principal, networkRef: string): Forward[] {
    const network = this.#deps.networks.findOwn(who, networkRef);
    return this.#deps.store.forwards.ofNetwork(network.id).map(viewOf);
  }

  /** `in_use` for a port of the host that is taken, `conflict` for a network without NAT, `not_found`, `invalid_input`. */
  create(who: Principal, networkRef: string, body: ForwardCreate): Promise<Forward> {
    return this.#queue.run(async () => {
      const { store, networks } = this.#deps;
      const network = networks.findOwn(who, networkRef);
      const { protocol, host_address, host_port, port } = body;
      const taken = store.forwards.at(protocol, host_address, host_port);
      if (taken !== undefined) {
        const detail = `${protocol} port ${host_port} of ${host_address} is forwarded to ${taken.address} already`;
        throw new AppError('in_use', detail, {
          field: 'host_port',
          remedy: `choose another port, or delete ${taken.id}`,
        });
      }
      const address = body.address ?? this.#addressOf(who, network, body.vm ?? '');
      const id = newId('fwd');
      const row = { id, network_id: network.id, protocol, host_address, host_port, address, port };
      await this.#open(row);
      this.#write(network, row);
      return viewOf(row);
    });
  }

  delete(who: Principal, networkRef: string, id: string): Promise<void> {
    return this.#queue.run(async () => {
      const { store, fabric, events, networks } = this.#deps;
      const network = networks.findOwn(who, networkRef);
      store.transaction(() => {
        if (!store.forwards.remove(network.id, id)) throw notFound('forward', id, 'forward');
        const resource = { type: 'network', id: network.id } as const;
        const { tenant } = network;
        events.append({ type: 'network.forward-deleted', tenant, resource, data: { forward: id } });
      });
      await fabric.unforward(network.id, id);
    });
  }

  #open(row: ForwardRow): Promise<void> {
    const { id, network_id, protocol, host_address, host_port, address, port } = row;
    const forward = { id, protocol, hostAddress: host_address, hostPort: host_port, address, port };
    return this.#deps.fabric.forward(network_id, forward);
  }

  #write(network: NetworkRow, row: ForwardRow): void {
    const { store, events } = this.#deps;
    const resource = { type: 'network', id: network.id } as const;
    const data = { forward: row.id, host_port: row.host_port };
    store.transaction(() => {
      store.forwards.insert(row);
      events.append({ type: 'network.forward-created', tenant: network.tenant, resource, data });
    });
  }

  /** The IPv4 address of a VM on the network. */
  #addressOf(who: Principal, network: NetworkRow, vmRef: string): string {
    const { store, networks } = this.#deps;
    const isIt = (vmId: string | null): boolean =>
      vmId !== null && (vmId === vmRef || store.vms.get(vmId)?.name === vmRef);
    const addresses = networks.addressesOf(who, network.id);
    const own = addresses.find(({ vm_id, address }) => isIt(vm_id) && !address.includes(':'));
    if (own !== undefined) return own.address;
    throw new AppError('not_found', `network ${network.name} has no address of a VM ${vmRef}`, {
      field: 'vm',
      remedy: 'give it a network card there, or name an address',
    });
  }
}

function viewOf({ id, protocol, host_address, host_port, address, port }: ForwardRow): Forward {
  return { id, protocol, host_address, host_port, address, port };
}
