/** Checks the options of networks and ports, and fills in what is missing. */
import { createHash } from 'node:crypto';
import { AppError } from '../contracts/errors.ts';
import type { NetworkOptions } from './protocol.ts';
import { defaultPool, type Pool, poolFits } from './services/lease-table.ts';
import {
  formatIp,
  formatMac,
  inSubnet,
  parseIp,
  parseMac,
  parseSubnet,
  type Subnet,
} from './wire/address.ts';
import {
  eui64Address,
  formatIp6,
  isInPrefix,
  type Prefix6,
  parseIp6,
  parsePrefix6,
} from './wire/address6.ts';
import { uint32 } from './wire/dhcp.ts';

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;
const DOMAIN_MAX = 253;
const LEASE_SECONDS_DEFAULT = 3600;
const LEASE_SECONDS_MIN = 60;
const LEASE_SECONDS_MAX = 30 * 24 * 3600;

export interface NetworkSettings {
  readonly subnet: Subnet;
  readonly gatewayIp: number;
  readonly gatewayMac: Uint8Array;
  readonly pool: Pool;
  readonly domain: string;
  readonly leaseSeconds: number;
  readonly hub: boolean;
  readonly ipv6Prefix: Prefix6 | undefined;
  readonly reservations: readonly { readonly address: number; readonly mac: string }[];
}

/** Throws AppError `invalid_input`. */
export function networkSettings(options: NetworkOptions): NetworkSettings {
  checkLabel(options.name, 'name');
  const subnet = parseSubnet(options.subnet);
  if (subnet === undefined) {
    throw invalid(
      'subnet',
      `${options.subnet} is not an IPv4 subnet`,
      'Write it as 10.77.0.0/24, from /8 to /30.',
    );
  }
  const gatewayIp = options.gateway === undefined ? subnet.network + 1 : parseIp(options.gateway);
  if (gatewayIp === undefined || !isHost(gatewayIp, subnet)) {
    const detail = `${options.gateway} is not a host address of ${options.subnet}`;
    throw invalid('gateway', detail, 'Leave it out to take the first address of the subnet.');
  }
  const domain = options.domain ?? `${options.name}.internal`;
  if (domain.length > DOMAIN_MAX || !domain.split('.').every((label) => LABEL.test(label))) {
    throw invalid('domain', `"${domain}" is not a domain name`, 'Write it as lab.internal.');
  }
  const leaseSeconds = options.leaseSeconds ?? LEASE_SECONDS_DEFAULT;
  if (
    !Number.isInteger(leaseSeconds) ||
    leaseSeconds < LEASE_SECONDS_MIN ||
    leaseSeconds > LEASE_SECONDS_MAX
  ) {
    const remedy = `Use ${LEASE_SECONDS_MIN} to ${LEASE_SECONDS_MAX}.`;
    throw invalid('leaseSeconds', `${leaseSeconds} is not a lease time in seconds`, remedy);
  }
  const pool = poolOf(options, subnet, gatewayIp);
  const gatewayMac = gatewayMacOf(options.id);
  const reservations = (options.reservations ?? []).map(({ address, mac }) => ({
    address: hostAddress(address, subnet),
    mac: formatMac(stationMac(mac)),
  }));
  const ipv6Prefix = prefixOf(options.ipv6?.prefix);
  const hub = options.hub ?? false;
  return { subnet, gatewayIp, gatewayMac, pool, domain, leaseSeconds, hub, ipv6Prefix, reservations };
}

/** The address that a station makes of a network's IPv6 prefix, unless it is given another one. Throws AppError `invalid_input`. */
export function stationAddressOf(prefix: string, mac: string): string {
  // INVARIANT: a prefix that is given is parsed, or an error.
  const { address } = prefixOf(prefix)!;
  return formatIp6(eui64Address(address, stationMac(mac)));
}

/** Which addresses of a network there are to give out. */
export interface AddressPlan {
  /** Whether a station may have it: of the subnet or the IPv6 prefix, and not the network's own. */
  has(address: string): boolean;
  readonly poolSize: number;
  /** From 0 to `poolSize` − 1. */
  poolAddress(index: number): string;
}

/** Throws AppError `invalid_input`, as the making of such a network does. */
export function addressPlan(options: NetworkOptions): AddressPlan {
  const { subnet, gatewayIp, pool, ipv6Prefix } = networkSettings(options);
  return {
    has: (text) => {
      const ip = parseIp(text);
      if (ip !== undefined) return isHost(ip, subnet) && ip !== gatewayIp;
      const ip6 = parseIp6(text);
      return ip6 !== undefined && ipv6Prefix !== undefined && isInPrefix(ip6, 0, ipv6Prefix);
    },
    poolSize: pool.last - pool.first + 1,
    poolAddress: (index) => formatIp(pool.first + index),
  };
}

/** Throws AppError `invalid_input` for what is no host address of the subnet. */
export function hostAddress(text: string, subnet: Subnet): number {
  const ip = parseIp(text);
  if (ip !== undefined && isHost(ip, subnet)) return ip;
  throw invalid('address', `${text} is no host address of the network`, 'Use one of its subnet.');
}

/** As bytes, of either family. Throws AppError `invalid_input`. */
export function anyHostAddress(text: string, subnet: Subnet, prefix: Prefix6 | undefined): Uint8Array {
  const ip6 = parseIp6(text);
  if (ip6 === undefined) return uint32(hostAddress(text, subnet));
  if (prefix !== undefined && isInPrefix(ip6, 0, prefix)) return ip6;
  throw invalid('address', `${text} is no address of the network`, 'Use one of its IPv6 prefix.');
}

/** Stations make their addresses of 64 bits of their own. */
function prefixOf(text: string | undefined): Prefix6 | undefined {
  if (text === undefined) return undefined;
  const prefix = parsePrefix6(text);
  if (prefix?.length === 64) return prefix;
  throw invalid('ipv6', `${text} is not an IPv6 prefix of 64 bits`, 'Write it as fd00:77::/64.');
}

/** A VM's MAC address. Throws AppError `invalid_input`. */
export function stationMac(text: string): Uint8Array {
  const mac = parseMac(text);
  if (mac === undefined || (mac[0]! & 1) !== 0 || mac.every((byte) => byte === 0)) {
    throw invalid('mac', `"${text}" is not a station's MAC address`, 'Write it as 02:00:00:00:00:01.');
  }
  return mac;
}

/** Throws AppError `invalid_input` for what cannot be a host name. */
export function checkLabel(name: string, field: string): void {
  if (LABEL.test(name)) return;
  throw invalid(field, `"${name}" is not a host name`, 'Use 1 to 63 of a-z, 0-9 and "-".');
}

function poolOf(options: NetworkOptions, subnet: Subnet, gateway: number): Pool {
  if (options.pool === undefined) return poolWithout(gateway, defaultPool(subnet));
  const first = parseIp(options.pool.first);
  const last = parseIp(options.pool.last);
  if (first !== undefined && last !== undefined && poolFits({ first, last }, subnet, gateway))
    return { first, last };
  const detail = `${options.pool.first} to ${options.pool.last} is not a range of ${options.subnet}`;
  throw invalid('pool', detail, 'Use host addresses of the subnet without the gateway, lower one first.');
}

/** The larger part of the pool that does not have the gateway. */
function poolWithout(gateway: number, { first, last }: Pool): Pool {
  if (gateway < first || gateway > last) return { first, last };
  return gateway - first > last - gateway ? { first, last: gateway - 1 } : { first: gateway + 1, last };
}

function isHost(ip: number, subnet: Subnet): boolean {
  return inSubnet(ip, subnet) && ip !== subnet.network && ip !== subnet.broadcast;
}

/** Locally administered, and the same for a network each time, so that guests' ARP caches stay right. */
function gatewayMacOf(networkId: string): Uint8Array {
  const digest = createHash('sha256').update(networkId).digest();
  return Uint8Array.of(0x02, 0x55, 0x4d, digest[0]!, digest[1]!, digest[2]!);
}

function invalid(field: string, detail: string, remedy: string): AppError {
  return new AppError('invalid_input', detail, { field, remedy });
}
