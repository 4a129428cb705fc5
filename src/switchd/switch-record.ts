/** What the switch's thread has been told, so that another one can be told the same when it dies. */
import type { AttachOptions, NetworkOptions, PortFault, PortForward, SwitchRequest } from './protocol.ts';

interface NetworkRecord {
  readonly options: NetworkOptions;
  readonly reservations: Map<string, string>;
  readonly forwards: Map<string, PortForward>;
  readonly ports: Map<string, { readonly options: AttachOptions; readonly ring: SharedArrayBuffer }>;
}

export interface Replay {
  readonly request: SwitchRequest;
  /** What it makes; the port is empty for a network. */
  readonly place: Pick<PortFault, 'networkId' | 'portId'>;
}

export class SwitchRecord {
  readonly #networks = new Map<string, NetworkRecord>();

  /** A request that was carried out. */
  note(request: SwitchRequest): void {
    switch (request.type) {
      case 'create-network': {
        const { options } = request;
        const reservations = new Map((options.reservations ?? []).map(({ address, mac }) => [address, mac]));
        this.#networks.set(options.id, { options, reservations, forwards: new Map(), ports: new Map() });
        break;
      }
      case 'configure-network': {
        const { options } = request;
        const known = this.#networks.get(options.id);
        if (known !== undefined) this.#networks.set(options.id, { ...known, options });
        break;
      }
      case 'delete-network':
        this.#networks.delete(request.networkId);
        break;
      case 'attach': {
        const { options, ring } = request;
        this.#networks.get(options.networkId)?.ports.set(options.portId, { options, ring });
        break;
      }
      case 'configure-port':
        this.#configure(request);
        break;
      case 'detach':
        this.unplugged(request);
        break;
      case 'forward':
        this.#networks.get(request.networkId)?.forwards.set(request.forward.id, request.forward);
        break;
      case 'unforward':
        this.#networks.get(request.networkId)?.forwards.delete(request.id);
        break;
      case 'reserve': {
        const reservations = this.#networks.get(request.networkId)?.reservations;
        if (request.mac === null) reservations?.delete(request.address);
        else reservations?.set(request.address, request.mac);
        break;
      }
    }
  }

  unplugged({ networkId, portId }: Pick<PortFault, 'networkId' | 'portId'>): void {
    this.#networks.get(networkId)?.ports.delete(portId);
  }

  /** Requests that make everything again. A port's ring is the one it had: its VM goes on with it, and knows of nothing. */
  replay(): Replay[] {
    const requests: Replay[] = [];
    for (const [networkId, { options, reservations, forwards, ports }] of this.#networks) {
      const kept = [...reservations].map(([address, mac]) => ({ address, mac }));
      const request = {
        type: 'create-network',
        options: { ...options, reservations: kept, uplinkRequired: false },
      } as const;
      requests.push({ request, place: { networkId, portId: '' } });
      for (const forward of forwards.values()) {
        const place = { networkId, portId: `forward ${forward.id}` };
        requests.push({ request: { type: 'forward', networkId, forward }, place });
      }
      for (const [portId, port] of ports) {
        requests.push({ request: { type: 'attach', ...port }, place: { networkId, portId } });
      }
    }
    return requests;
  }

  #configure({ networkId, portId, settings }: Extract<SwitchRequest, { type: 'configure-port' }>): void {
    const ports = this.#networks.get(networkId)?.ports;
    const known = ports?.get(portId);
    if (known === undefined) return;
    const { name, mac } = known.options;
    ports?.set(portId, { ...known, options: { ...settings, networkId, portId, name, mac } });
  }
}
