/** Networks: records in the database, life in the switch. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Readable } from 'node:stream';
import type {
  CaptureQuery,
  Network,
  NetworkAddress,
  NetworkCreate,
  NetworkPort,
  NetworkSettings,
  NetworkStation,
  NetworkUpdate,
  Page,
  ReservationCreate,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { NetworkRow, Store, VmRow } from '../../db/index.ts';
import { iso, mayRead, notFound, type Principal, pageOfRows, SYSTEM, tenantFilter } from '../access.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import { newId } from '../ids.ts';
import {
  type CaptureOptions,
  type Log,
  type NatPolicyOptions,
  type NetworkLease,
  type NetworkOptions,
  type NetworkSwitch,
  portIdOf,
} from '../ports.ts';
import { SerialQueue } from '../serial-queue.ts';
import type { Addresses } from './addresses.ts';
import { switchNetworkOf } from './nic-row.ts';
import type { PluggedNics } from './plugged-nics.ts';

/** Each tenant has one of its own. */
export const DEFAULT_NETWORK = { name: 'default', subnet: '10.0.77.0/24' } as const;
/** Networks of a tenant. */
const NETWORKS_MAX = 64;

export interface NetworkDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly fabric: NetworkSwitch;
  readonly addresses: Addresses;
  readonly home: Home;
  readonly log: Log;
  /** Where the uplink `nat` leads. */
  readonly nat: NatPolicyOptions;
  readonly plugged: PluggedNics;
}

export class Networks {
  readonly addresses: Addresses;
  readonly #deps: NetworkDeps;
  readonly #queue = new SerialQueue();
  /** Networks that the switch is being told of. */
  readonly #beingMade = new Map<string, Promise<void>>();

  constructor(deps: NetworkDeps) {
    this.#deps = deps;
    this.addresses = deps.addresses;
  }

  /** At start: makes the default network if there is none, and all networks in the switch. */
  async restore(): Promise<void> {
    const { store, fabric } = this.#deps;
    this.addresses.adopt();
    if (!store.networks.byName(DEFAULT_NETWORK.name).some(({ tenant }) => tenant === SYSTEM.tenant))
      this.#insert(SYSTEM.tenant, { ...DEFAULT_NETWORK, shared: false });
    for (const row of store.networks.all()) {
      if (!this.#beingMade.has(row.id)) await fabric.createNetwork(this.#options(row));
    }
    await Promise.all(this.#beingMade.values());
  }

  async list(who: Principal, query: { limit: number; cursor?: string | undefined }): Promise<Page<Network>> {
    const tenant = tenantFilter(who);
    const read = (after: number, limit: number): NetworkRow[] =>
      this.#deps.store.networks.page({ after, limit, tenant });
    const page = pageOfRows(query, read, (rows) => rows);
    return { ...page, items: await Promise.all(page.items.map((row) => this.#view(who, row))) };
  }

  async get(who: Principal, ref: string): Promise<Network> {
    return await this.#view(who, this.find(who, ref));
  }

  /** By id or name: the asker's own first, then a shared one. A tenant's default network is made when it is first asked for. */
  find(who: Principal, ref: string, field?: string): NetworkRow {
    const isVisible = (row: NetworkRow): boolean => row.shared === 1 || mayRead(who, row);
    const { networks } = this.#deps.store;
    const byId = networks.get(ref);
    if (byId !== undefined && isVisible(byId)) return byId;
    const named = networks.byName(ref).filter(isVisible);
    const found =
      named.find(({ tenant }) => tenant === who.tenant) ?? named.find(({ shared }) => shared === 1);
    if (found !== undefined) return found;
    if (ref === DEFAULT_NETWORK.name) return this.#insert(who.tenant, { ...DEFAULT_NETWORK, shared: false });
    if (named.length > 1) {
      throw new AppError('conflict', `several tenants have a network named ${ref}`, {
        field,
        remedy: 'use its id',
      });
    }
    if (named[0] !== undefined) return named[0];
    throw notFound('network', ref, field);
  }

  /** AppErrors: `already_exists`, `quota_exceeded`, `forbidden`, and what the switch says. */
  create(who: Principal, body: NetworkCreate): Promise<Network> {
    requireAllowed(who, body);
    return this.#queue.run(async () => {
      const { store, fabric } = this.#deps;
      this.#requireFreeName(who.tenant, body.name);
      if (store.networks.countOf(who.tenant) >= NETWORKS_MAX) {
        throw new AppError('quota_exceeded', `a tenant has at most ${NETWORKS_MAX} networks`, {
          remedy: 'delete one that is not used',
        });
      }
      const row = this.#record(who.tenant, body);
      await fabric.createNetwork({ ...this.#options(row), uplinkRequired: true });
      try {
        this.#write(row);
      } catch (error) {
        await fabric.deleteNetwork(row.id);
        throw error;
      }
      return await this.get(who, row.id);
    });
  }

  /**
   * AppErrors: those of `create`; `in_use` for the uplink `nat` while ports are forwarded through it; `protected` for the name of
   * the daemon's default network.
   */
  update(who: Principal, ref: string, body: NetworkUpdate): Promise<Network> {
    requireAllowed(who, body);
    return this.#queue.run(async () => {
      const { store, fabric, events, plugged } = this.#deps;
      const before = this.findOwn(who, ref);
      const { id, tenant } = before;
      const { name = before.name, shared, ...changes } = body;
      if (name !== before.name) {
        if (isDefault(before)) throw new AppError('protected', 'the default network keeps its name');
        this.#requireFreeName(tenant, name);
      }
      const merged = Object.entries({ ...settingsOf(before), ...changes }).filter(
        ([, value]) => value != null,
      );
      const settings = Object.fromEntries(merged) as NetworkSettings;
      this.#requireNoForwards(before, settings);
      const row: NetworkRow = {
        ...before,
        name,
        shared: Number(shared ?? before.shared === 1),
        settings: JSON.stringify(settings),
      };
      await fabric.configureNetwork({ ...this.#options(row), uplinkRequired: true });
      store.transaction(() => {
        store.networks.update(row);
        events.append({ type: 'network.updated', tenant, resource: { type: 'network', id }, data: { name } });
      });
      await plugged.configureOn(id);
      return await this.get(who, id);
    });
  }

  /** `in_use` while a VM has a NIC on it; `protected` for the daemon's default network. */
  delete(who: Principal, ref: string): Promise<void> {
    return this.#queue.run(async () => {
      const { store, fabric, events } = this.#deps;
      const { id, name, tenant } = this.findOwn(who, ref);
      if (isDefault({ name, tenant })) {
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
        const resource = { type: 'network', id } as const;
        events.append({ type: 'network.deleted', tenant, resource, data: { name } });
      });
      await fabric.deleteNetwork(id);
      fs.rmSync(this.#deps.home.file('networks', id), { recursive: true, force: true });
    });
  }

  leases(networkId: string): Promise<readonly NetworkLease[]> {
    return this.#deps.fabric.leases(networkId);
  }

  async ports(who: Principal, ref: string): Promise<NetworkPort[]> {
    const ports = await this.#deps.fabric.ports(this.findOwn(who, ref).id);
    return ports.map((port) => ({
      id: port.id,
      name: port.name,
      mac: port.mac,
      addresses: [...port.addresses],
      tx_frames: port.receivedFrames,
      tx_bytes: port.receivedBytes,
      rx_frames: port.sentFrames,
      rx_bytes: port.sentBytes,
      drops: { ...port.drops, beforeSwitch: port.droppedBeforeSwitch },
    }));
  }

  async stations(who: Principal, ref: string): Promise<NetworkStation[]> {
    const entries = await this.#deps.fabric.macTable(this.findOwn(who, ref).id);
    return entries.map(({ mac, vlan, portId, ageSeconds, fixed }) => ({
      mac,
      vlan,
      port: portId,
      age_seconds: Math.round(ageSeconds),
      fixed,
    }));
  }

  /** Frames of one of the asker's own networks, as a stream of pcapng. */
  capture(
    who: Principal,
    ref: string,
    query: CaptureQuery & { port?: string | undefined },
  ): Promise<Readable> {
    const { id } = this.findOwn(who, ref);
    return this.#deps.fabric.capture(id, { ...captureOptions(query), portId: query.port });
  }

  /** Of a network card of a VM that runs, whosever the network is. */
  captureNic(vm: VmRow, device: string, query: CaptureQuery): Promise<Readable> {
    const nic = this.#deps.store.vms.nicsOf(vm.id).find((row) => row.device === device);
    if (nic === undefined) throw new AppError('not_found', `the VM has no ${device}`, { field: 'device' });
    const portId = portIdOf(vm.id, device);
    return this.#deps.fabric.capture(switchNetworkOf(nic), { ...captureOptions(query), portId });
  }

  addressesOf(who: Principal, ref: string): NetworkAddress[] {
    return this.addresses.list(this.findOwn(who, ref).id);
  }

  async reserve(who: Principal, ref: string, { address, mac }: ReservationCreate): Promise<NetworkAddress> {
    return await this.addresses.reserve(this.findOwn(who, ref), address, mac.toLowerCase());
  }

  async release(who: Principal, ref: string, address: string): Promise<void> {
    await this.addresses.release(this.findOwn(who, ref).id, address);
  }

  /** As `find`, for what only its owner may see or do. */
  findOwn(who: Principal, ref: string): NetworkRow {
    const row = this.find(who, ref);
    if (mayRead(who, row)) return row;
    throw new AppError('forbidden', `network ${row.name} is another tenant's, who shares it`, {
      field: 'network',
    });
  }

  #requireFreeName(tenant: string, name: string): void {
    const isTaken = this.#deps.store.networks.byName(name).some((row) => row.tenant === tenant);
    if (isTaken) throw nameTaken('network', name);
  }

  #requireNoForwards({ id }: NetworkRow, { uplink }: NetworkSettings): void {
    const count = this.#deps.store.forwards.ofNetwork(id).length;
    if (uplink?.kind === 'nat' || count === 0) return;
    throw new AppError('in_use', `${count} ports of the host are forwarded to the network by its NAT`, {
      field: 'uplink',
      remedy: 'delete the forwards first',
    });
  }

  #record(tenant: string, body: NetworkCreate): Omit<NetworkRow, 'seq'> {
    const { name, subnet, shared, ...settings } = body;
    return {
      id: newId('net'),
      tenant,
      name,
      subnet,
      shared: Number(shared),
      settings: JSON.stringify(settings),
      created_at: Date.now(),
    };
  }

  /** Writes a network down; the switch is told when that is committed. */
  #insert(tenant: string, body: NetworkCreate): NetworkRow {
    const { store, fabric, log } = this.#deps;
    const row = this.#record(tenant, body);
    this.#write(row);
    store.afterCommit(() => {
      const made = fabric.createNetwork(this.#options(row)).finally(() => this.#beingMade.delete(row.id));
      made.catch((error: unknown) =>
        log.error({ network: row.id, error: String(error) }, 'a network was not made'),
      );
      this.#beingMade.set(row.id, made);
    });
    // INVARIANT: it has just been written.
    return store.networks.get(row.id)!;
  }

  #write(row: Omit<NetworkRow, 'seq'>): void {
    const { store, events } = this.#deps;
    const { id, name, tenant } = row;
    store.transaction(() => {
      store.networks.insert(row);
      events.append({ type: 'network.created', tenant, resource: { type: 'network', id }, data: { name } });
    });
  }

  #options(row: Omit<NetworkRow, 'seq'>): NetworkOptions {
    const umlSocket = this.#umlSocket(row) ?? undefined;
    if (umlSocket !== undefined) fs.mkdirSync(path.dirname(umlSocket), { recursive: true, mode: 0o700 });
    const { lease_seconds: leaseSeconds, ...settings } = settingsOf(row);
    return {
      id: row.id,
      name: row.name,
      subnet: row.subnet,
      gateway: settings.gateway,
      domain: settings.domain,
      pool: settings.pool,
      leaseSeconds,
      hub: settings.hub,
      ipv6: settings.ipv6,
      dnsServers: settings.dns_servers,
      uplink: settings.uplink,
      services: settings.services,
      nat: this.#deps.nat,
      umlSocket,
      reservations: this.addresses.reservations(row.id),
    };
  }

  async #uplinkState(id: string): Promise<Network['uplink_state']> {
    return (await this.#deps.fabric.uplink(id)) ?? null;
  }

  /** In a folder of its own: vde_plug and QEMU are told that, User-mode Linux the socket in it. */
  #umlSocket(row: Omit<NetworkRow, 'seq'>): string | null {
    if (settingsOf(row).uml_socket !== true) return null;
    return this.#deps.home.file('networks', row.id, 'ctl');
  }

  /** Whose VMs are on a network is no other tenant's business. */
  async #view(who: Principal, row: NetworkRow): Promise<Network> {
    const isOwn = mayRead(who, row);
    const leases = isOwn ? await this.leases(row.id) : [];
    const { uml_socket: _, ...settings } = settingsOf(row);
    return {
      id: row.id,
      name: row.name,
      tenant: row.tenant,
      shared: row.shared === 1,
      subnet: row.subnet,
      ...settings,
      uml_socket: who.role === 'admin' ? this.#umlSocket(row) : null,
      uplink_state: who.role === 'admin' ? await this.#uplinkState(row.id) : null,
      ports: isOwn ? this.#deps.plugged.countOn(row.id) : 0,
      leases: leases.map(({ mac, address, hostName }) => ({ mac, address, host_name: hostName })),
      created_at: iso(row.created_at),
    };
  }
}

function captureOptions(query: CaptureQuery): Omit<CaptureOptions, 'portId'> {
  const { filter, snap_length: snapBytes, max_seconds: maxSeconds, max_bytes: maxBytes } = query;
  return { filter, snapBytes, maxSeconds, maxBytes };
}

function settingsOf(row: Omit<NetworkRow, 'seq'>): NetworkSettings {
  // INVARIANT: it was checked against the schema before it was written.
  return JSON.parse(row.settings) as NetworkSettings;
}

function isDefault({ name, tenant }: Pick<NetworkRow, 'name' | 'tenant'>): boolean {
  return name === DEFAULT_NETWORK.name && tenant === SYSTEM.tenant;
}

/** What reaches into the host, or to other tenants. */
function requireAllowed(who: Principal, body: NetworkCreate | NetworkUpdate): void {
  if (body.shared === true) requireAdmin(who, 'shared');
  if (body.uml_socket === true) requireAdmin(who, 'uml_socket');
  // They are asked from the host.
  if (body.dns_servers != null) requireAdmin(who, 'dns_servers');
  // Everything else is a device, a socket or a network of the host's.
  if (body.uplink != null && body.uplink.kind !== 'nat') requireAdmin(who, 'uplink');
}

function requireAdmin(who: Principal, field: string): void {
  if (who.role === 'admin') return;
  throw new AppError('forbidden', `only an administrator may set ${field}`, {
    field,
    remedy: 'leave it out',
  });
}

export function nameTaken(what: string, name: string): AppError {
  return new AppError('already_exists', `there is a ${what} named ${name} already`, {
    field: 'name',
    remedy: 'choose another name',
  });
}
