/** Where guests may go through the host: to the Internet, and beyond that where the operator lets them. */
import { BlockList, isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { AppError } from '../../contracts/errors.ts';
import { formatAddress } from './packet.ts';

/**
 * What is not the Internet (RFC 6890, RFC 8190): the host's own networks and those of its operator, and what is nobody's.
 * 169.254.169.254 is where clouds keep the secrets of their machines.
 */
const PRIVATE = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '::/96',
  '::ffff:0:0/96',
  '64:ff9b::/96',
  'fc00::/7',
  'fe80::/10',
] as const;
/** Never: groups, broadcast and reserved addresses have no connections. */
const NEVER = ['224.0.0.0/3', 'ff00::/8'] as const;

/** How long the host's own addresses are believed to be the same. */
const OWN_ADDRESSES_MS = 10_000;

export interface NatPolicyOptions {
  /** Private networks that guests may reach, as CIDR; `private` stands for all of them. */
  readonly allow: readonly string[];
  /** The gateway's address is the host's loopback, as with slirp. */
  readonly hostLoopback: boolean;
  /** Name servers for what is not in the network: addresses, with `:port` if it is not 53; the host's own when missing. */
  readonly resolvers?: readonly string[] | undefined;
}

/** For tenants. */
export const INTERNET_ONLY: NatPolicyOptions = { allow: [], hostLoopback: false };
/** For a guest of the user's own, who may go everywhere anyway. */
export const AS_THE_USER: NatPolicyOptions = { allow: ['private'], hostLoopback: true };

/** From what an operator allows: networks as CIDR, `private`, `host`. Throws AppError `invalid_input`. */
export function natPolicy(allowed: readonly string[]): NatPolicyOptions {
  const allow = allowed.filter((what) => what !== 'host');
  const options = { allow, hostLoopback: allow.length < allowed.length };
  // So that a mistake is told at once.
  new NatPolicy(options);
  return options;
}

export class NatPolicy {
  readonly hostLoopback: boolean;
  readonly #denied = new Subnets();
  readonly #never = new Subnets();
  readonly #allowed = new Subnets();
  readonly #allowsPrivate: boolean;
  #own: ReadonlySet<string> = new Set();
  #ownUntilMs = 0;

  /** Throws AppError `invalid_input`. */
  constructor({ allow, hostLoopback }: NatPolicyOptions) {
    this.hostLoopback = hostLoopback;
    for (const subnet of NEVER) this.#never.add(subnet);
    this.#allowsPrivate = allow.includes('private');
    if (this.#allowsPrivate) this.#denied.add('0.0.0.0/8');
    else for (const subnet of PRIVATE) this.#denied.add(subnet);
    for (const subnet of allow) if (subnet !== 'private') this.#allowed.add(subnet);
  }

  /** The address that the host's socket connects to; undefined where guests must not go. */
  route(destination: Uint8Array): string | undefined {
    const address = formatAddress(destination);
    if (this.#never.has(address)) return undefined;
    const isInside = this.#denied.has(address) || this.#isHost(address);
    return isInside && !this.#allowed.has(address) ? undefined : address;
  }

  /** The host's services are not the Internet's, whatever their address: a firewall before the host may keep others out. */
  #isHost(address: string): boolean {
    if (this.#allowsPrivate) return false;
    const now = performance.now();
    if (now >= this.#ownUntilMs) {
      const addresses = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
      this.#own = new Set(addresses.map((one) => one.address));
      this.#ownUntilMs = now + OWN_ADDRESSES_MS;
    }
    return this.#own.has(address);
  }
}

/** Networks of both families, apart: BlockList takes an IPv4 address for an IPv6 one too (`::ffff:…`), which is never meant here. */
class Subnets {
  readonly #ipv4 = new BlockList();
  readonly #ipv6 = new BlockList();

  add(text: string): void {
    const [address = '', prefix = ''] = text.split('/');
    const family = isIP(address);
    const bits = Number(prefix);
    if (family === 0 || !/^\d{1,3}$/.test(prefix) || bits > (family === 4 ? 32 : 128)) {
      throw new AppError('invalid_input', `"${text}" is not a network`, {
        field: 'nat_allow',
        remedy: 'write it as 10.0.0.0/8 or fd00::/8, or `private` for all private networks',
      });
    }
    if (family === 4) this.#ipv4.addSubnet(address, bits, 'ipv4');
    else this.#ipv6.addSubnet(address, bits, 'ipv6');
  }

  has(address: string): boolean {
    return address.includes(':') ? this.#ipv6.check(address, 'ipv6') : this.#ipv4.check(address, 'ipv4');
  }
}
