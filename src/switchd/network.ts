/** A network: its segment, its gateway, and what is plugged in. Lives in the switch's thread. */
import { AppError } from '../contracts/errors.ts';
import type { Port } from './fabric/port.ts';
import type { Inlet, Pump } from './fabric/pump.ts';
import { Segment } from './fabric/segment.ts';
import { openSwitchPort } from './port-rings.ts';
import type { AttachOptions, LeaseInfo, MacInfo, NetworkOptions, PortInfo } from './protocol.ts';
import { Gateway } from './services/gateway.ts';
import { checkLabel, networkSettings, stationMac } from './settings.ts';
import { UML_PORT, UmlTrunk } from './uml/uml-trunk.ts';
import { formatIp, formatMac, formatStation } from './wire/address.ts';

interface Station extends Inlet {
  readonly name: string;
  readonly mac: string;
}

/** Monotonic. */
const nowSeconds = (): number => performance.now() / 1000;

export class Network {
  readonly id: string;
  readonly #pump: Pump;
  readonly #segment: Segment;
  readonly #gateway: Gateway;
  readonly #gatewayMac: string;
  readonly #stations = new Map<string, Station>();
  #uml: UmlTrunk | undefined;

  /** Throws AppError `invalid_input`. */
  constructor(options: NetworkOptions, pump: Pump) {
    const settings = networkSettings(options);
    this.id = options.id;
    this.#pump = pump;
    this.#segment = new Segment({ hub: settings.hub });
    this.#gatewayMac = formatMac(settings.gatewayMac);
    this.#gateway = new Gateway(this.#segment, {
      ...settings,
      mac: settings.gatewayMac,
      ip: settings.gatewayIp,
      nameOfPort: (portId) => this.#stations.get(portId)?.name,
      hasName: (name) => this.#hasName(name),
      now: nowSeconds,
    });
  }

  get isEmpty(): boolean {
    return this.#stations.size === 0;
  }

  /** Opens the control socket. `onFault`: it is gone again, with its clients. Rejects with AppError. */
  async openUmlSocket(path: string, onFault: (portId: string, detail: string) => void): Promise<void> {
    this.#uml = await UmlTrunk.open(path, this.#segment, this.#pump, (detail) => onFault(UML_PORT, detail));
  }

  /** Removes the control socket. */
  async close(): Promise<void> {
    await this.#uml?.close();
  }

  /** Plugs a VM in. `onFault` is called, with the port unplugged, when its ring turns out broken. */
  attach(options: AttachOptions, ring: SharedArrayBuffer, onFault: (detail: string) => void): void {
    const { portId, name } = options;
    checkLabel(name, 'name');
    const mac = formatMac(stationMac(options.mac));
    this.#checkFree(portId, mac);
    const { input, output } = openSwitchPort(ring);
    const port = this.#segment.add(portId, output);
    if (port === undefined) {
      throw new AppError('quota_exceeded', 'the network has no free port', {
        remedy: 'Use a second network.',
      });
    }
    const onCorrupt = (error: Error): void => {
      this.detach(portId);
      onFault(error.message);
    };
    const station = { name, mac, port, segment: this.#segment, input, onCorrupt, open: true };
    this.#stations.set(portId, station);
    this.#pump.add(station);
  }

  /** Unplugs a VM, after what it has already sent was forwarded. An unknown port is none already. */
  detach(portId: string): void {
    const station = this.#stations.get(portId);
    if (station === undefined) return;
    this.#stations.delete(portId);
    this.#pump.remove(station);
    this.#segment.remove(station.port);
  }

  leases(): LeaseInfo[] {
    return this.#gateway.leases().map((lease) => ({
      mac: lease.mac,
      address: formatIp(lease.ip),
      hostName: this.#stations.get(lease.port)?.name ?? null,
      portId: lease.port,
      secondsLeft: Math.round(lease.expires - nowSeconds()),
    }));
  }

  ports(): PortInfo[] {
    return this.#segment.ports().map((port) => this.#portInfo(port));
  }

  macTable(): MacInfo[] {
    return this.#segment.macTable.entries(nowSeconds()).map((entry) => ({
      mac: formatStation(entry.high, entry.low),
      portId: this.#segment.port(entry.slot)?.id ?? '',
      ageSeconds: entry.ageSeconds,
      fixed: entry.fixed,
    }));
  }

  #portInfo(port: Port): PortInfo {
    const station = this.#stations.get(port.id);
    return {
      id: port.id,
      name: station?.name ?? null,
      mac: station?.mac ?? (port.id === UML_PORT ? '' : this.#gatewayMac),
      droppedBeforeSwitch: station?.input.dropped ?? 0,
      ...port.counters,
    };
  }

  #hasName(name: string): boolean {
    for (const station of this.#stations.values()) if (station.name === name) return true;
    return false;
  }

  #checkFree(portId: string, mac: string): void {
    const isTaken = this.#stations.has(portId) || portId === this.#gateway.port.id || portId === UML_PORT;
    if (isTaken)
      throw new AppError('already_exists', `port ${portId} is plugged in already`, { field: 'portId' });
    const macs = [...this.#stations.values()].map((station) => station.mac);
    if (mac !== this.#gatewayMac && !macs.includes(mac)) return;
    const remedy = 'Give each network card on a network a MAC address of its own.';
    throw new AppError('already_exists', `${mac} is on the network already`, { field: 'mac', remedy });
  }
}
