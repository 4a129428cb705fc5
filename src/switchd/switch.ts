/** All networks of the daemon, in the switch's thread. */
import { AppError } from '../contracts/errors.ts';
import { Pump } from './fabric/pump.ts';
import { Network } from './network.ts';
import type { NetworkOptions, PortFault, SwitchRequest } from './protocol.ts';

/** Most networks of one daemon. */
const NETWORKS_MAX = 4096;

/** Captures at a time, for all networks. */
const CAPTURES_MAX = 16;

export class Switch {
  readonly #pump = new Pump();
  readonly #networks = new Map<string, Network>();
  readonly #onPortFault: (fault: PortFault) => void;

  constructor(onPortFault: (fault: PortFault) => void) {
    this.#onPortFault = onPortFault;
  }

  /** The result of a request, as plain data, or a promise of it. Throws or rejects with AppError. */
  handle(request: SwitchRequest): unknown {
    switch (request.type) {
      case 'create-network':
        return this.#create(request.options);
      case 'configure-network':
        return this.#configure(request.options);
      case 'delete-network':
        return this.#delete(request.networkId);
      case 'attach': {
        const { networkId, portId } = request.options;
        const onFault = (detail: string) => this.#onPortFault({ networkId, portId, detail });
        return this.#network(networkId).attach(request.options, request.ring, onFault);
      }
      case 'detach':
        return this.#networks.get(request.networkId)?.detach(request.portId);
      case 'configure-port':
        return this.#network(request.networkId).configurePort(request.portId, request.settings);
      case 'reserve':
        return this.#network(request.networkId).reserve(request.address, request.mac);
      case 'uplink':
        return this.#network(request.networkId).uplink;
      case 'forward':
        return this.#network(request.networkId).forward(request.forward);
      case 'unforward':
        return this.#networks.get(request.networkId)?.unforward(request.id);
      case 'capture':
        return this.#capture(request);
      case 'close':
        return Promise.all([...this.#networks.values()].map((network) => network.close()));
      case 'leases':
        return this.#network(request.networkId).leaseInfos();
      case 'ports':
        return this.#network(request.networkId).ports();
      case 'mac-table':
        return this.#network(request.networkId).macTable();
    }
  }

  async #create(options: NetworkOptions): Promise<void> {
    if (this.#networks.has(options.id)) {
      throw new AppError('already_exists', `there is a network ${options.id} already`, { field: 'id' });
    }
    if (this.#networks.size >= NETWORKS_MAX) {
      const remedy = 'Delete one that is not used.';
      throw new AppError('quota_exceeded', `there are ${NETWORKS_MAX} networks already`, { remedy });
    }
    const network = new Network(options, this.#pump);
    this.#networks.set(options.id, network);
    const { id: networkId, umlSocket, uplink } = options;
    try {
      if (uplink !== undefined && uplink.kind !== 'nat') {
        await network.openUplink(uplink, options.uplinkRequired ?? false);
      }
      if (umlSocket === undefined) return;
      await network.openUmlSocket(umlSocket, (portId, detail) =>
        this.#onPortFault({ networkId, portId, detail }),
      );
    } catch (error) {
      this.#networks.delete(networkId);
      await network.close();
      throw error;
    }
  }

  #configure(options: NetworkOptions): Promise<void> {
    const { id: networkId } = options;
    return this.#network(networkId).configure(options, (portId, detail) =>
      this.#onPortFault({ networkId, portId, detail }),
    );
  }

  async #delete(id: string): Promise<void> {
    const network = this.#network(id);
    if (!network.isEmpty) {
      const remedy = 'Remove the network cards that are on it first.';
      throw new AppError('in_use', `network ${id} has VMs on it`, { remedy });
    }
    this.#networks.delete(id);
    await network.close();
  }

  #capture({ networkId, options, port }: Extract<SwitchRequest, { type: 'capture' }>): void {
    const running = [...this.#networks.values()].reduce((sum, network) => sum + network.captures, 0);
    if (running >= CAPTURES_MAX) {
      port.close();
      throw new AppError('quota_exceeded', `${CAPTURES_MAX} captures are running already`, {
        remedy: 'End one of them, or wait for its end.',
      });
    }
    this.#network(networkId).capture(options, port);
  }

  #network(id: string): Network {
    const network = this.#networks.get(id);
    if (network === undefined) throw new AppError('not_found', `there is no network ${id}`);
    return network;
  }
}
