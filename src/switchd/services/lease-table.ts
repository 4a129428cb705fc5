/**
 * Who has which address of a network. An address follows from the MAC where it is free, so that a station
 * gets the same one again, also from a table that has been emptied. All times are in seconds of one monotonic clock.
 */
import { inSubnet, type Subnet } from '../wire/address.ts';

/** Most addresses that a network hands out at a time. */
export const LEASES_MAX = 4096;
/** Most addresses on one port: its own, and those of a few guests behind a bridge in it. */
export const LEASES_PER_PORT_MAX = 16;

/** An offer is kept this long for its client to ask for it. */
export const OFFER_SECONDS = 60;
/** An address that a client found in use is not handed out for this long. */
export const DECLINE_SECONDS = 600;

const SWEEP_SECONDS = 1;

export interface LeaseEntry {
  readonly ip: number;
  /** `aa:bb:cc:dd:ee:ff`; of a declined address, the client's that declined it. */
  readonly mac: string;
  readonly port: string;
  readonly state: 'offered' | 'bound' | 'declined';
  readonly expires: number;
}

export interface Pool {
  readonly first: number;
  readonly last: number;
}

export class LeaseTable {
  /** Called when a port gets an address, and when it is no longer its own. */
  onChange: ((portId: string, ip: number, isBound: boolean) => void) | undefined;
  readonly #pool: Pool;
  /** Addresses that are kept for a station, in the pool or outside of it. */
  readonly #reserved = new Map<number, string>();
  readonly #reservedOf = new Map<string, number>();
  readonly #byIp = new Map<number, LeaseEntry>();
  readonly #ipOfMac = new Map<string, number>();
  readonly #perPort = new Map<string, number>();
  readonly #shares = new Map<string, number>();
  #swept = Number.NEGATIVE_INFINITY;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** Most addresses of a port with many stations behind it, in place of LEASES_PER_PORT_MAX. */
  setShare(portId: string, addresses: number): void {
    this.#shares.set(portId, addresses);
  }

  /** Keeps an address for a station. Who else has a lease of it loses that. */
  reserve(ip: number, mac: string): void {
    this.unreserve(ip);
    const before = this.#reservedOf.get(mac);
    if (before !== undefined) this.unreserve(before);
    this.#reserved.set(ip, mac);
    this.#reservedOf.set(mac, ip);
    if (this.#byIp.get(ip)?.mac !== mac) this.remove(ip);
  }

  unreserve(ip: number): void {
    const mac = this.#reserved.get(ip);
    if (mac === undefined) return;
    this.#reserved.delete(ip);
    this.#reservedOf.delete(mac);
  }

  isReserved(ip: number): boolean {
    return this.#reserved.has(ip);
  }

  /** Whether a station may have an address, as far as pool and reservations go. */
  isFor(ip: number, mac: string): boolean {
    const reserved = this.#reservedOf.get(mac);
    if (reserved !== undefined) return reserved === ip;
    return !this.#reserved.has(ip) && ip >= this.#pool.first && ip <= this.#pool.last;
  }

  /** The offered or bound address of a station. */
  of(mac: string, now: number): LeaseEntry | undefined {
    const ip = this.#ipOfMac.get(mac);
    const entry = ip === undefined ? undefined : this.#byIp.get(ip);
    return entry !== undefined && entry.expires > now ? entry : undefined;
  }

  at(ip: number, now: number): LeaseEntry | undefined {
    const entry = this.#byIp.get(ip);
    return entry !== undefined && entry.expires > now ? entry : undefined;
  }

  bound(now: number): LeaseEntry[] {
    return [...this.#byIp.values()].filter((entry) => entry.state === 'bound' && entry.expires > now);
  }

  boundTo(portId: string): number[] {
    return [...this.#byIp.values()].flatMap((entry) =>
      entry.port === portId && entry.state === 'bound' ? [entry.ip] : [],
    );
  }

  /** The address to offer: the one it has, or that is kept for it, else `wanted`, else one that follows from the MAC. Undefined: none left. */
  choose(mac: string, wanted: number | undefined, now: number): number | undefined {
    const reserved = this.#reservedOf.get(mac);
    if (reserved !== undefined) return reserved;
    const own = this.of(mac, now);
    if (own !== undefined) return own.ip;
    const isFree = (ip: number): boolean => this.isFor(ip, mac) && this.at(ip, now) === undefined;
    if (wanted !== undefined && isFree(wanted)) return wanted;
    const { first, last } = this.#pool;
    const size = last - first + 1;
    const start = hash(mac) % size;
    // No more than these are taken, so one more step than that finds a free one if there is any.
    const taken = LEASES_MAX + this.#reserved.size;
    for (let step = 0; step < Math.min(size, taken + 1); step++) {
      const ip = first + ((start + step) % size);
      if (isFree(ip)) return ip;
    }
    return undefined;
  }

  /** Sets the entry of an address. False when the table or the port's share of it is full. */
  put(entry: LeaseEntry, now: number): boolean {
    const before = this.#byIp.get(entry.ip);
    const isOwn = before?.port === entry.port;
    if (!isOwn && !this.#hasRoom(entry.port, now)) return false;
    const previousIp = this.#ipOfMac.get(entry.mac);
    if (previousIp !== undefined && previousIp !== entry.ip) this.remove(previousIp);
    this.remove(entry.ip);
    this.#byIp.set(entry.ip, entry);
    if (entry.state !== 'declined') this.#ipOfMac.set(entry.mac, entry.ip);
    this.#perPort.set(entry.port, (this.#perPort.get(entry.port) ?? 0) + 1);
    if (entry.state === 'bound') this.onChange?.(entry.port, entry.ip, true);
    return true;
  }

  remove(ip: number): void {
    const entry = this.#byIp.get(ip);
    if (entry === undefined) return;
    this.#byIp.delete(ip);
    if (this.#ipOfMac.get(entry.mac) === ip) this.#ipOfMac.delete(entry.mac);
    const count = (this.#perPort.get(entry.port) ?? 1) - 1;
    if (count === 0) this.#perPort.delete(entry.port);
    else this.#perPort.set(entry.port, count);
    if (entry.state === 'bound') this.onChange?.(entry.port, ip, false);
  }

  #hasRoom(port: string, now: number): boolean {
    if (this.#isFull(port)) this.#sweep(now);
    return !this.#isFull(port);
  }

  #isFull(port: string): boolean {
    const share = this.#shares.get(port) ?? LEASES_PER_PORT_MAX;
    return this.#byIp.size >= LEASES_MAX || (this.#perPort.get(port) ?? 0) >= share;
  }

  /** Removes what has expired; not more often than each second, whoever asks. */
  #sweep(now: number): void {
    if (now - this.#swept < SWEEP_SECONDS) return;
    this.#swept = now;
    for (const entry of this.#byIp.values()) if (entry.expires <= now) this.remove(entry.ip);
  }
}

/** Usual pool of a subnet: everything but the first few addresses, which are left for static use. */
export function defaultPool(subnet: Subnet): Pool {
  const reserved = subnet.prefixLength <= 26 ? 10 : 2;
  return { first: subnet.network + reserved, last: subnet.broadcast - 1 };
}

export function poolFits(pool: Pool, subnet: Subnet, gateway: number): boolean {
  const isInside = inSubnet(pool.first, subnet) && inSubnet(pool.last, subnet);
  const hasGateway = gateway >= pool.first && gateway <= pool.last;
  return isInside && pool.first <= pool.last && pool.last < subnet.broadcast && !hasGateway;
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c_9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x0100_0193);
  return (value ^ (value >>> 15)) >>> 0;
}
