/** Checks the settings of a port, and makes its rules of them. */
import { AppError } from '../contracts/errors.ts';
import { Firewall } from './fabric/firewall.ts';
import type { FirewallRule } from './fabric/firewall-rules.ts';
import { Guard, PROTECTED, type Protection } from './fabric/guard.ts';
import type { Ipv6Claims } from './fabric/guard-ipv6.ts';
import { type RateLimit, rateRule, STORM_DEFAULT, type StormLimits, stormRule } from './fabric/limits.ts';
import type { FrameRule, PortRules } from './fabric/port.ts';
import { ACCESS_DEFAULT, accessPort, trunkPort, VLAN_MAX, type VlanMembership } from './fabric/vlan.ts';
import type { PortSettings, VlanSettings } from './protocol.ts';
import { inSubnet, parseIp, type Subnet } from './wire/address.ts';
import { type Prefix6, parseIp6 } from './wire/address6.ts';

/** Stations behind an unprotected port. */
export const STATIONS_DEFAULT = 1024;
/** IPv4 and IPv6 addresses of one port. */
const ADDRESSES_MAX = 64;

/** The network that the port is on. */
export interface Surroundings {
  readonly subnet: Subnet;
  readonly ipv6Prefix: Prefix6 | undefined;
  readonly claims: Ipv6Claims;
}

export interface PortAddresses {
  /** The first is the one that DHCP gives. */
  readonly ipv4: readonly number[];
  readonly ipv6: readonly Uint8Array[];
}

export interface CheckedPort {
  readonly rules: PortRules;
  readonly addresses: PortAddresses;
  /** Missing on a port that may say what it likes. */
  readonly guard: Guard | undefined;
  readonly firewall: Firewall | undefined;
}

/** `before` is the port's firewall so far. Throws AppError `invalid_input`. */
export function checkPort(
  settings: PortSettings,
  mac: Uint8Array,
  network: Surroundings,
  before?: Firewall,
): CheckedPort {
  const addresses = parseAddresses(settings.addresses ?? [], network);
  const guard = makeGuard(settings, mac, addresses, network);
  const fromPort =
    settings.limits?.fromPort && rateRule(checkRate(settings.limits.fromPort, 'limits.fromPort'));
  const toPort = settings.limits?.toPort && rateRule(checkRate(settings.limits.toPort, 'limits.toPort'));
  const firewall = makeFirewall(settings.firewall ?? [], before);
  const present = (rules: readonly (FrameRule | undefined)[]): FrameRule[] =>
    rules.filter((rule) => rule !== undefined);
  const storm = settings.storm ?? (guard === undefined ? undefined : STORM_DEFAULT);
  const rules: PortRules = {
    vlan: vlanOf(settings.vlan),
    received: present([guard?.rule, firewall?.egress, fromPort]),
    sent: present([firewall?.ingress, toPort]),
    flooded: storm && stormRule(checkStorm(storm)),
    stationsMax: settings.stationsMax ?? STATIONS_DEFAULT,
  };
  return { rules, addresses, guard, firewall };
}

function makeFirewall(rules: readonly FirewallRule[], before: Firewall | undefined): Firewall | undefined {
  if (rules.length === 0) return undefined;
  return before?.has(rules) === true ? before : new Firewall(rules);
}

function makeGuard(
  { protection }: PortSettings,
  mac: Uint8Array,
  { ipv4, ipv6 }: PortAddresses,
  { ipv6Prefix, claims }: Surroundings,
): Guard | undefined {
  if (protection === undefined) return undefined;
  const full: Protection = { ...PROTECTED, ...protection };
  const guard = new Guard({ protection: full, mac, ipv6Prefix, claims });
  for (const ip of ipv4) guard.allowIpv4(ip);
  for (const address of ipv6) guard.allowIpv6(address);
  return guard;
}

function parseAddresses(texts: readonly string[], { subnet }: Surroundings): PortAddresses {
  if (texts.length > ADDRESSES_MAX)
    throw invalid('addresses', `a port has at most ${ADDRESSES_MAX} addresses`);
  const ipv4: number[] = [];
  const ipv6: Uint8Array[] = [];
  for (const text of texts) {
    const ip = parseIp(text);
    const ip6 = ip === undefined ? parseIp6(text) : undefined;
    if (ip !== undefined) ipv4.push(ip);
    else if (ip6 !== undefined) ipv6.push(ip6);
    else throw invalid('addresses', `"${text}" is no IP address`);
  }
  if (ipv4[0] !== undefined && !inSubnet(ipv4[0], subnet)) {
    throw invalid('addresses', `${texts[0]} is not in the network, which hands it out`);
  }
  return { ipv4, ipv6 };
}

function vlanOf(settings: VlanSettings | undefined): VlanMembership {
  if (settings === undefined) return ACCESS_DEFAULT;
  if (settings.mode === 'access') {
    checkVlan(settings.id, 'vlan.id');
    return accessPort(settings.id);
  }
  const { allowed, native } = settings;
  if (native !== undefined) checkVlan(native, 'vlan.native');
  const ids: number[] = [];
  for (const [first, last] of allowed) {
    checkVlan(first, 'vlan.allowed');
    checkVlan(last, 'vlan.allowed');
    for (let id = first; id <= last; id++) ids.push(id);
  }
  return trunkPort(ids, native ?? 0);
}

function checkVlan(id: number, field: string): void {
  if (!Number.isInteger(id) || id < 1 || id > VLAN_MAX)
    throw invalid(field, `${id} is no VLAN: use 1 to ${VLAN_MAX}`);
}

function checkRate(limit: RateLimit, field: string): RateLimit {
  for (const [name, value] of Object.entries(limit)) {
    if (value !== undefined && !(Number.isFinite(value) && value > 0)) {
      throw invalid(`${field}.${name}`, `${value} is no limit: use a number above 0`);
    }
  }
  return limit;
}

function checkStorm(limits: StormLimits): StormLimits {
  for (const [name, value] of Object.entries(limits)) {
    if (!(Number.isFinite(value) && value >= 0)) throw invalid(`storm.${name}`, `${value} is no limit`);
  }
  return limits;
}

function invalid(field: string, detail: string): AppError {
  return new AppError('invalid_input', detail, { field });
}
