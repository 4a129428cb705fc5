/** A network: its segment, its gateway, and what is plugged in. Lives in the switch's thread. */
import { isDeepStrictEqual } from 'node:util';
import type { MessagePort } from 'node:worker_threads';
import { AppError } from '../contracts/errors.ts';
import { Capture } from './capture/capture.ts';
import type { CaptureOptions } from './capture/messages.ts';
import type { Firewall } from './fabric/firewall.ts';
import type { Guard } from './fabric/guard.ts';
import { Ipv6Claims } from './fabric/guard-ipv6.ts';
import type { Port } from './fabric/port.ts';
import type { Inlet, Pump } from './fabric/pump.ts';
import { Segment } from './fabric/segment.ts';
import type { Located } from './nat/forwards.ts';
import { NetworkServices, nowSeconds, type Served } from './network-services.ts';
import type { FrameBuffer } from './ring/frame-buffer.ts';
import { openSwitchPort } from './port-rings.ts';
import { type CheckedPort, checkPort, type PortAddresses, type Surroundings } from './port-settings.ts';
import type {
  AttachOptions,
  LeaseInfo,
  MacInfo,
  NetworkOptions,
  PortForward,
  PortInfo,
  PortSettings,
} from './protocol.ts';
import { gatewayAddress, stationAddress } from './services/gateway6.ts';
import type { StationInfo } from './services/gateway.ts';
import { LEASES_MAX, LeaseTable } from './services/lease-table.ts';
import type { Documents } from './services/metadata.ts';
import {
  anyHostAddress,
  checkLabel,
  hostAddress,
  type NetworkSettings,
  networkSettings,
  stationMac,
} from './settings.ts';
import type { LinkTransport } from './transport/open-link.ts';
import { Uplink, UPLINK_PORT, type UplinkState } from './transport/uplink.ts';
import { UML_PORT, UmlTrunk } from './uml/uml-trunk.ts';
import { formatIp, formatMac, formatStation } from './wire/address.ts';
import { formatIp6 } from './wire/address6.ts';
import { viewOf } from './wire/view.ts';

interface Station extends Inlet {
  readonly name: string;
  readonly mac: string;
  readonly macBytes: Uint8Array;
  settings: PortSettings;
  addresses: PortAddresses;
  guard: Guard | undefined;
  firewall: Firewall | undefined;
  metadata: Documents | undefined;
}

export class Network implements Served {
  readonly id: string;
  readonly segment: Segment;
  readonly #pump: Pump;
  readonly #gatewayMac: string;
  readonly #stations = new Map<string, Station>();
  #options: NetworkOptions;
  #leases: LeaseTable;
  #surroundings: Surroundings;
  #services: NetworkServices;
  readonly #captures = new Set<Capture>();
  #uml: UmlTrunk | undefined;
  #uplink: Uplink | undefined;
  #closed: Promise<void> | undefined;

  /** Throws AppError `invalid_input`. */
  constructor(options: NetworkOptions, pump: Pump) {
    const settings = networkSettings(options);
    this.id = options.id;
    this.#options = options;
    this.#pump = pump;
    this.segment = new Segment({ hub: settings.hub, vlans: true });
    this.#gatewayMac = formatMac(settings.gatewayMac);
    this.#leases = this.#makeLeases(settings);
    this.#surroundings = surroundingsOf(settings);
    this.#services = new NetworkServices(this, options, settings);
  }

  get leases(): LeaseTable {
    return this.#leases;
  }

  /**
   * Gives it other settings; what is plugged in stays so, and connections through NAT go on where there is NAT before and after.
   * The subnet and the gateway's address stay. Rejects with AppError, and with everything as it was.
   */
  async configure(options: NetworkOptions, onFault: (portId: string, detail: string) => void): Promise<void> {
    const before = this.#options;
    const settings = networkSettings(options);
    const surroundings = surroundingsOf(settings);
    // None of the ports may be wrong afterwards.
    for (const { settings: port, macBytes } of this.#stations.values())
      checkPort(port, macBytes, surroundings);
    await this.#changeJoints(options, onFault);
    this.#options = options;
    this.segment.hub = settings.hub;
    this.#surroundings = surroundings;
    const concernsPorts = !isDeepStrictEqual(portsKnowOf(settings), portsKnowOf(networkSettings(before)));
    if (concernsPorts) this.#leases = this.#makeLeases(settings);
    const { nat } = this.#services;
    this.#services.close(options.uplink?.kind === 'nat' ? 'keep' : 'end');
    this.#services = new NetworkServices(this, options, settings, nat);
    this.#services.gateway.advertise();
    if (!concernsPorts) return;
    for (const [portId, station] of this.#stations) this.configurePort(portId, station.settings);
  }

  /** What leads out of the network. The new is opened before the old is closed. */
  async #changeJoints(
    options: NetworkOptions,
    onFault: (portId: string, detail: string) => void,
  ): Promise<void> {
    const { umlSocket, uplink, uplinkRequired = true } = options;
    const before = { uml: this.#uml, uplink: this.#uplink };
    if (umlSocket !== undefined && before.uml === undefined) await this.openUmlSocket(umlSocket, onFault);
    try {
      if (isDeepStrictEqual(uplink, this.#options.uplink)) before.uplink = undefined;
      else if (uplink === undefined || uplink.kind === 'nat') this.#uplink = undefined;
      else await this.openUplink(uplink, uplinkRequired);
    } catch (error) {
      if (before.uml === undefined) await this.#closeUmlSocket();
      throw error;
    }
    await before.uplink?.close();
    if (umlSocket === undefined) await this.#closeUmlSocket();
  }

  async #closeUmlSocket(): Promise<void> {
    const trunk = this.#uml;
    this.#uml = undefined;
    await trunk?.close();
  }

  #makeLeases({ pool, reservations }: NetworkSettings): LeaseTable {
    const leases = new LeaseTable(pool);
    leases.onChange = (portId, ip, isBound) => this.#leased(portId, ip, isBound);
    for (const { address, mac } of reservations) leases.reserve(address, mac);
    leases.setShare(UML_PORT, LEASES_MAX);
    return leases;
  }

  get isEmpty(): boolean {
    return this.#stations.size === 0;
  }

  /** Opens the control socket. `onFault`: it is gone again, with its clients. Rejects with AppError. */
  async openUmlSocket(path: string, onFault: (portId: string, detail: string) => void): Promise<void> {
    this.#uml = await UmlTrunk.open(path, this.segment, this.#pump, (detail) => onFault(UML_PORT, detail));
  }

  /** Connects it with another network. Rejects with AppError when `mustOpen` is set and that cannot be done now. */
  async openUplink(transport: LinkTransport, mustOpen: boolean): Promise<void> {
    this.#uplink = await Uplink.open(transport, this.segment, this.#pump, mustOpen);
  }

  /** Undefined for a network without one. NAT is always up. */
  get uplink(): UplinkState | undefined {
    const { nat } = this.#services;
    return nat === undefined ? this.#uplink?.state : { up: true, detail: null, path: null };
  }

  /** Removes the control socket, and ends the uplink. Who closes it meanwhile waits for the same end. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.#uplink?.close();
    this.#services.close('end');
    for (const capture of this.#captures) capture.end();
    await this.#uml?.close();
  }

  /** Plugs a VM in. `onFault` is called, with the port unplugged, when its ring turns out broken. */
  attach(options: AttachOptions, ring: SharedArrayBuffer, onFault: (detail: string) => void): void {
    const { portId, name } = options;
    checkLabel(name, 'name');
    const macBytes = stationMac(options.mac);
    const mac = formatMac(macBytes);
    this.#checkFree(portId, mac);
    const checked = checkPort(options, macBytes, this.#surroundings);
    this.#checkAddresses(portId, checked.addresses);
    const { input, output } = openSwitchPort(ring);
    const port = this.segment.add(portId, output, checked.rules);
    if (port === undefined) {
      throw new AppError('quota_exceeded', 'the network has no free port', {
        remedy: 'Use a second network.',
      });
    }
    const onCorrupt = (error: Error): void => {
      this.detach(portId);
      onFault(error.message);
    };
    const { addresses, guard, firewall } = checked;
    const inlet = { port, segment: this.segment, input, onCorrupt, open: true };
    const station: Station = {
      ...inlet,
      settings: options,
      name,
      mac,
      macBytes,
      addresses,
      guard,
      firewall,
      metadata: options.metadata,
    };
    this.#stations.set(portId, station);
    this.#apply(station, checked);
    this.#pump.add(station);
  }

  /** Changes what a port may do. Throws AppError `not_found`, `invalid_input`. */
  configurePort(portId: string, settings: PortSettings): void {
    const station = this.#stations.get(portId);
    if (station === undefined) throw new AppError('not_found', `there is no port ${portId}`);
    station.guard?.release();
    const checked = checkPort(settings, station.macBytes, this.#surroundings, station.firewall);
    this.#checkAddresses(portId, checked.addresses);
    station.settings = settings;
    station.metadata = settings.metadata;
    this.segment.setRules(station.port, checked.rules);
    this.#apply(station, checked);
  }

  /** Unplugs a VM, after what it has already sent was forwarded. An unknown port is none already. */
  detach(portId: string): void {
    const station = this.#stations.get(portId);
    if (station === undefined) return;
    this.#stations.delete(portId);
    this.#pump.remove(station);
    this.segment.remove(station.port);
    this.#services.nat?.forget(station.port.slot);
    this.#services.metadata.forget(station.port.slot);
    station.guard?.release();
  }

  /** Opens a port of the host. Rejects with AppError. */
  async forward({ address, ...options }: PortForward): Promise<void> {
    const { nat } = this.#services;
    if (nat === undefined) {
      throw new AppError('conflict', 'the network has no uplink to forward ports from', {
        field: 'network',
        remedy: 'make a network with the uplink nat',
      });
    }
    const { subnet, ipv6Prefix } = this.#surroundings;
    await nat.forwards.add({ ...options, address: anyHostAddress(address, subnet, ipv6Prefix) });
  }

  /** Closes it again. An unknown one is closed already. */
  unforward(id: string): void {
    this.#services.nat?.forwards.remove(id);
  }

  /** Keeps an address for a station, whether it is plugged in or not; for nobody when `mac` is null. */
  reserve(address: string, mac: string | null): void {
    const ip = hostAddress(address, this.#surroundings.subnet);
    if (mac === null) this.#leases.unreserve(ip);
    else this.#leases.reserve(ip, formatMac(stationMac(mac)));
  }

  /** Captures frames until its limits, or until the reader's end is closed. Throws AppError `not_found`, `invalid_input`. */
  capture(options: CaptureOptions, port: MessagePort): void {
    const { portId } = options;
    if (portId !== undefined && !this.segment.ports().some(({ id }) => id === portId)) {
      port.close();
      throw new AppError('not_found', `nothing is plugged in at port ${portId}`, { field: 'port' });
    }
    const made: Capture = new Capture(options, port, () => {
      this.#captures.delete(made);
      if (this.#captures.size === 0) this.segment.watcher = undefined;
    });
    this.#captures.add(made);
    this.segment.watcher = (at, frame, out) => {
      for (const capture of this.#captures) capture.watch(at, frame, out);
    };
  }

  get captures(): number {
    return this.#captures.size;
  }

  leaseInfos(): LeaseInfo[] {
    return this.#leases.bound(nowSeconds()).map((lease) => ({
      mac: lease.mac,
      address: formatIp(lease.ip),
      hostName: this.#stations.get(lease.port)?.name ?? null,
      portId: lease.port,
      secondsLeft: Math.round(lease.expires - nowSeconds()),
    }));
  }

  ports(): PortInfo[] {
    return this.segment.ports().map((port) => this.#portInfo(port));
  }

  macTable(): MacInfo[] {
    return this.segment.macTable.entries(nowSeconds()).map((entry) => ({
      mac: formatStation(entry.high & 0xffff, entry.low),
      vlan: entry.high >>> 16,
      portId: this.segment.port(entry.slot)?.id ?? '',
      ageSeconds: entry.ageSeconds,
      fixed: entry.fixed,
    }));
  }

  atPort(portId: string): StationInfo | undefined {
    if (portId === UML_PORT) return { id: UML_PORT, name: undefined, mac: undefined };
    const station = this.#stations.get(portId);
    if (station === undefined) return undefined;
    return { id: portId, name: station.name, mac: station.guard && station.mac };
  }

  addressesOf(name: string): readonly number[] | undefined {
    const named = [...this.#stations.values()].filter((station) => station.name === name);
    return named.length === 0 ? undefined : named.flatMap((station) => this.#addressesOf(station));
  }

  addresses6Of(name: string): readonly Uint8Array[] {
    const named = [...this.#stations.values()].filter((station) => station.name === name);
    return named.flatMap((station) => this.#addresses6Of(station));
  }

  address6At(slot: number): Uint8Array | undefined {
    const id = this.segment.port(slot)?.id;
    const station = id === undefined ? undefined : this.#stations.get(id);
    return station && this.#addresses6Of(station)[0];
  }

  /** What it was given, else, in a network with a prefix, what follows from its MAC address. */
  #addresses6Of({ addresses, macBytes }: Station): readonly Uint8Array[] {
    const { ipv6Prefix } = this.#surroundings;
    if (addresses.ipv6.length > 0 || ipv6Prefix === undefined) return addresses.ipv6;
    return [stationAddress(ipv6Prefix, macBytes)];
  }

  nameOf(ip: number): string | undefined {
    for (const station of this.#stations.values())
      if (station.addresses.ipv4.includes(ip)) return station.name;
    const lease = this.#leases.at(ip, nowSeconds());
    return lease?.state === 'bound' ? this.#stations.get(lease.port)?.name : undefined;
  }

  get gateway6(): Uint8Array | undefined {
    const { ipv6Prefix } = this.#surroundings;
    return ipv6Prefix && gatewayAddress(ipv6Prefix);
  }

  locate(address: Uint8Array): Located | undefined {
    const isOwn = (station: Station): boolean =>
      address.length === 4
        ? this.#addressesOf(station).includes(viewOf(address).getUint32(0))
        : this.#addresses6Of(station).some((own) => Buffer.compare(own, address) === 0);
    const owner = [...this.#stations.values()].find(isOwn);
    return owner && { peer: { mac: owner.macBytes, address }, slot: owner.port.slot };
  }

  documentsAt(slot: number): Documents | undefined {
    const id = this.segment.port(slot)?.id;
    return id === undefined ? undefined : this.#stations.get(id)?.metadata;
  }

  emit(frame: FrameBuffer): void {
    this.segment.forward(this.#services.gateway.port, frame);
  }

  #portInfo(port: Port): PortInfo {
    const station = this.#stations.get(port.id);
    return {
      id: port.id,
      name: station?.name ?? null,
      mac: station?.mac ?? (isTrunk(port.id) ? '' : this.#gatewayMac),
      addresses:
        station === undefined
          ? []
          : [...this.#addressesOf(station).map(formatIp), ...station.addresses.ipv6.map(formatIp6)],
      droppedBeforeSwitch: station?.input.dropped ?? 0,
      ...port.counters,
    };
  }

  #addressesOf({ port, addresses }: Station): number[] {
    return [...new Set([...addresses.ipv4, ...this.#leases.boundTo(port.id)])];
  }

  #apply(station: Station, { addresses, guard, firewall, rules }: CheckedPort): void {
    station.addresses = addresses;
    station.guard = guard;
    station.firewall = firewall;
    const [first] = addresses.ipv4;
    if (first !== undefined) this.#leases.reserve(first, station.mac);
    for (const ip of this.#leases.boundTo(station.port.id)) guard?.allowIpv4(ip);
    if (guard === undefined || rules.vlan.native === 0) return;
    // Nobody else can take a protected station's place.
    const view = viewOf(station.macBytes);
    const high = (rules.vlan.native << 16) | view.getUint16(4, true);
    this.segment.macTable.fix(high, view.getInt32(0, true), station.port.slot);
  }

  #leased(portId: string, ip: number, isBound: boolean): void {
    const station = this.#stations.get(portId);
    if (station === undefined || station.addresses.ipv4.includes(ip)) return;
    if (isBound) station.guard?.allowIpv4(ip);
    else station.guard?.denyIpv4(ip);
  }

  #checkAddresses(portId: string, { ipv4 }: PortAddresses): void {
    for (const ip of ipv4) {
      const other = [...this.#stations.values()].find((station) => station.addresses.ipv4.includes(ip));
      if (other === undefined || other.port.id === portId) continue;
      throw new AppError('already_exists', `${formatIp(ip)} is the address of another port`, {
        field: 'addresses',
      });
    }
  }

  #checkFree(portId: string, mac: string): void {
    const isTaken =
      this.#stations.has(portId) || portId === this.#services.gateway.port.id || isTrunk(portId);
    if (isTaken)
      throw new AppError('already_exists', `port ${portId} is plugged in already`, { field: 'portId' });
    const macs = [...this.#stations.values()].map((station) => station.mac);
    if (mac !== this.#gatewayMac && !macs.includes(mac)) return;
    const remedy = 'Give each network card on a network a MAC address of its own.';
    throw new AppError('already_exists', `${mac} is on the network already`, { field: 'mac', remedy });
  }
}

function surroundingsOf({ subnet, ipv6Prefix }: NetworkSettings): Surroundings {
  return { subnet, ipv6Prefix, claims: new Ipv6Claims() };
}

/** What the rules and leases of ports come of. */
function portsKnowOf({ pool, ipv6Prefix }: NetworkSettings): unknown {
  return { pool, ipv6Prefix };
}

/** A port with stations of any address behind it. */
function isTrunk(portId: string): boolean {
  return portId === UML_PORT || portId === UPLINK_PORT;
}
