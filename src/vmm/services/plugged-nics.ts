/** The network cards of VMs that run: each at a port of its network, or of its transport. */
import type { EventType, Transport } from '../../contracts/api/index.ts';
import type { NicRow, Store, VmRow } from '../../db/index.ts';
import type { UplinkState } from '../../switchd/index.ts';
import { plugTransport } from '../../switchd/transport/nic.ts';
import type { EventLog } from '../events.ts';
import { type Log, type NatPolicyOptions, type NetworkSwitch, portIdOf } from '../ports.ts';
import { switchNetworkOf, transportOf } from './nic-row.ts';
import { groupsOf, portSettings } from './port-settings.ts';
import type { DropCounts } from './vm-view.ts';

export interface PluggedNicDeps {
  readonly store: Store;
  readonly fabric: NetworkSwitch;
  /** Where the transport `nat` leads. */
  readonly nat: NatPolicyOptions;
  readonly log: Log;
}

interface PluggedNic {
  readonly networkId: string;
  readonly attachment: Awaited<ReturnType<NetworkSwitch['attach']>>;
  /** The rules that it was told last because of who is a member of what. */
  groupRules?: string;
}

export class PluggedNics {
  readonly #deps: PluggedNicDeps;
  /** By VM, by device. */
  readonly #plugged = new Map<string, Map<string, PluggedNic>>();
  /** Cards that are on their way out, by port. */
  readonly #leaving = new Map<string, Promise<void>>();

  constructor(deps: PluggedNicDeps) {
    this.#deps = deps;
  }

  countOn(networkId: string): number {
    const nics = [...this.#plugged.values()].flatMap((devices) => [...devices.values()]);
    return nics.filter((nic) => nic.networkId === networkId).length;
  }

  /** For `MachineWorkerData`, in the order of `nics`: all of them, or none. */
  async plugAll(
    vm: Pick<VmRow, 'id' | 'name'>,
    nics: readonly NicRow[],
  ): Promise<readonly SharedArrayBuffer[]> {
    const rings: SharedArrayBuffer[] = [];
    try {
      // A VM boots whether or not the other side of a card's cable is there.
      for (const nic of nics) rings.push(await this.plug(vm, nic, { mayBeLate: true }));
      return rings;
    } catch (error) {
      this.unplugAll(vm.id);
      throw error;
    }
  }

  /**
   * Plugs a card in; returns the VM's end of the port. Rejects with what `SwitchHandle.attach` says, and for a card with a
   * transport, unless that may be late, with what the transport says.
   */
  async plug(
    vm: Pick<VmRow, 'id' | 'name'>,
    nic: NicRow,
    { mayBeLate }: { readonly mayBeLate: boolean },
  ): Promise<SharedArrayBuffer> {
    const portId = portIdOf(vm.id, nic.device);
    await this.#leaving.get(portId);
    const transport = transportOf(nic);
    const attachment =
      transport === undefined
        ? await this.#attach(vm, nic, portId)
        : await this.#attachTransport(vm, nic, transport, mayBeLate);
    const devices = this.#plugged.get(vm.id) ?? new Map<string, PluggedNic>();
    this.#plugged.set(vm.id, devices.set(nic.device, { networkId: switchNetworkOf(nic), attachment }));
    return attachment.ring;
  }

  /** Tells the switch again what the plugged cards of a VM may do, and what the metadata service says there. */
  async configureAll(vmId: string): Promise<void> {
    for (const nic of this.#deps.store.vms.nicsOf(vmId)) await this.configure(nic);
  }

  /** Whose rules depend on the members of firewalls is told again who they are, if that has changed. */
  async configureGroups(): Promise<void> {
    const { store } = this.#deps;
    for (const [vmId, devices] of this.#plugged) {
      for (const nic of store.vms.nicsOf(vmId)) {
        const plugged = devices.get(nic.device);
        if (plugged === undefined || groupsOf(store, nic).length === 0) continue;
        const rules = JSON.stringify(portSettings(store, nic).firewall);
        if (rules === plugged.groupRules) continue;
        plugged.groupRules = rules;
        await this.configure(nic);
      }
    }
  }

  /** The same of all cards on a network. */
  async configureOn(networkId: string): Promise<void> {
    const { store } = this.#deps;
    for (const [vmId, devices] of this.#plugged) {
      for (const nic of store.vms.nicsOf(vmId))
        if (nic.network_id === networkId && devices.has(nic.device)) await this.configure(nic);
    }
  }

  /** The same of one card; nothing is told of one that is not plugged in. */
  async configure(nic: NicRow): Promise<void> {
    const { store, fabric } = this.#deps;
    const { vm_id: vmId, device } = nic;
    if (this.#plugged.get(vmId)?.has(device) !== true) return;
    await fabric.configurePort(switchNetworkOf(nic), portIdOf(vmId, device), portSettings(store, nic));
  }

  /** Takes a card out, if it is in. */
  unplug(vmId: string, device: string): void {
    const devices = this.#plugged.get(vmId);
    const nic = devices?.get(device);
    devices?.delete(device);
    if (nic === undefined) return;
    const portId = portIdOf(vmId, device);
    const left = nic.attachment
      .detach()
      .catch((error: unknown) => {
        const { log } = this.#deps;
        log.warn({ vm: vmId, device, error: String(error) }, 'a network port could not be unplugged');
      })
      .finally(() => {
        if (this.#leaving.get(portId) === left) this.#leaving.delete(portId);
      });
    this.#leaving.set(portId, left);
  }

  unplugAll(vmId: string): void {
    for (const device of this.#plugged.get(vmId)?.keys() ?? []) this.unplug(vmId, device);
    this.#plugged.delete(vmId);
  }

  /** Of a card with a transport; undefined when it is not plugged in. */
  async transportState(vmId: string, device: string): Promise<UplinkState | undefined> {
    const nic = this.#plugged.get(vmId)?.get(device);
    return nic && (await this.#deps.fabric.uplink(nic.networkId));
  }

  /** Frames that the ports of a VM's cards have dropped, by card and by cause. */
  async drops(vmId: string): Promise<Map<string, DropCounts>> {
    const counts = new Map<string, DropCounts>();
    for (const [device, { networkId }] of this.#plugged.get(vmId) ?? []) {
      const ports = await this.#deps.fabric.ports(networkId);
      const port = ports.find(({ id }) => id === portIdOf(vmId, device));
      if (port !== undefined) counts.set(device, { ...port.drops, beforeSwitch: port.droppedBeforeSwitch });
    }
    return counts;
  }

  #attach(vm: Pick<VmRow, 'id' | 'name'>, nic: NicRow, portId: string): Promise<PluggedNic['attachment']> {
    const settings = portSettings(this.#deps.store, nic);
    const networkId = switchNetworkOf(nic);
    return this.#deps.fabric.attach({ ...settings, networkId, portId, name: vm.name, mac: nic.mac });
  }

  #attachTransport(
    { name }: Pick<VmRow, 'name'>,
    nic: NicRow,
    transport: Transport,
    mayBeLate: boolean,
  ): Promise<PluggedNic['attachment']> {
    const { store, fabric, nat } = this.#deps;
    const settings = portSettings(store, nic);
    const id = switchNetworkOf(nic);
    return plugTransport(fabric, { id, name, mac: nic.mac, transport, mayBeLate, settings, nat });
  }
}

/** Whatever changes who is a member of a firewall: cards, their addresses and their firewalls. */
const GROUP_EVENTS: readonly EventType[] = ['vm.created', 'vm.updated', 'vm.deleted', 'firewall.updated'];

/** Keeps the rules of plugged cards as those events have them, as long as the daemon runs. */
export function followGroups(events: EventLog, plugged: PluggedNics, log: Log): void {
  let isRunning = false;
  let isAgain = false;
  const run = async (): Promise<void> => {
    isRunning = true;
    do {
      isAgain = false;
      await plugged.configureGroups();
    } while (isAgain);
  };
  events.subscribe(({ event }) => {
    if (!GROUP_EVENTS.includes(event.type)) return;
    isAgain = true;
    if (isRunning) return;
    run()
      .catch((error: unknown) => log.warn({ error: String(error) }, 'a firewall has members of before'))
      .finally(() => {
        isRunning = false;
      });
  });
}
