/** The guard's part for IPv6 (RFC 8200): source addresses, neighbor discovery (RFC 4861), and who may be a router. */

import { isInPrefix } from '../wire/address6.ts';
import { upperLayerOf } from '../wire/ipv6-header.ts';
import type { DropCause } from './drop-cause.ts';
import type { GuardSettings, Protection } from './guard.ts';
import type { Passage } from './port.ts';

const HEADER_BYTES = 40;
const PROTOCOL = { udp: 17, icmp: 58 } as const;
const ICMP = {
  routerAdvertisement: 134,
  neighborSolicitation: 135,
  neighborAdvertisement: 136,
  redirect: 137,
} as const;
/** Multicast listener reports come before an address is known to be free. */
const ICMP_LISTENER_REPORTS: readonly number[] = [131, 132, 143];
const OPTION_SOURCE_LINK_ADDRESS = 1;
const OPTION_TARGET_LINK_ADDRESS = 2;
const DHCP_SERVER_PORT = 547;

/** Addresses of one station at a time; those longest unused give way when they are old enough. */
const CLAIMS_MAX = 16;
const CLAIM_SECONDS = 300;

interface Claim {
  readonly owner: object;
  seen: number;
  /** It was given to its owner, and stays so. */
  readonly fixed: boolean;
}

/** Which station of a segment uses which address. */
export class Ipv6Claims {
  readonly #byAddress = new Map<string, Claim>();
  readonly #byOwner = new Map<object, Set<string>>();

  /** Gives an address (16 bytes) to a station for good. */
  fix(owner: object, address: Uint8Array): void {
    this.#put(owner, keyOf(address, 0), { owner, seen: 0, fixed: true });
  }

  /** True when the address is, or now becomes, the owner's. */
  claim(owner: object, key: string, mayTake: boolean, now: number): boolean {
    const known = this.#byAddress.get(key);
    if (known?.owner === owner) {
      known.seen = now;
      return true;
    }
    if (!mayTake || (known !== undefined && (known.fixed || now - known.seen < CLAIM_SECONDS))) return false;
    if (!this.#makeRoom(owner, now)) return false;
    this.#put(owner, key, { owner, seen: now, fixed: false });
    return true;
  }

  /** Forgets a station. */
  release(owner: object): void {
    for (const key of this.#byOwner.get(owner) ?? []) this.#byAddress.delete(key);
    this.#byOwner.delete(owner);
  }

  #put(owner: object, key: string, claim: Claim): void {
    const before = this.#byAddress.get(key);
    if (before !== undefined) this.#byOwner.get(before.owner)?.delete(key);
    this.#byAddress.set(key, claim);
    const own = this.#byOwner.get(owner) ?? new Set();
    this.#byOwner.set(owner, own.add(key));
  }

  #makeRoom(owner: object, now: number): boolean {
    const own = this.#byOwner.get(owner);
    if (own === undefined || own.size < CLAIMS_MAX) return true;
    for (const key of own) {
      const claim = this.#byAddress.get(key);
      if (claim === undefined || claim.fixed || now - claim.seen < CLAIM_SECONDS) continue;
      own.delete(key);
      this.#byAddress.delete(key);
      return true;
    }
    return false;
  }
}

/** 16 bytes as a key of a map. */
function keyOf(bytes: Uint8Array, at: number): string {
  let key = '';
  for (let i = at; i < at + 16; i += 2) key += String.fromCharCode((bytes[i]! << 8) | bytes[i + 1]!);
  return key;
}

export function checkIpv6(
  { frame, payloadAt, nowSeconds }: Passage,
  protection: Protection,
  settings: GuardSettings,
): DropCause | undefined {
  const { bytes } = frame;
  const at = frame.offset + payloadAt;
  const end = frame.offset + frame.length;
  if (at + HEADER_BYTES > end || bytes[at]! >> 4 !== 6) return protection.ipv6 ? 'ipv6Spoof' : undefined;
  const upper = upperLayerOf(bytes, at, end);
  const cause = checkServices(bytes, upper, end, protection);
  if (cause !== undefined || !protection.ipv6) return cause;
  // A chain that does not end in the first fragment hides what it carries (RFC 7112).
  if (upper.protocol < 0) return 'ipv6Spoof';
  const may = (address: number): boolean => mayUse(bytes, address, settings, nowSeconds);
  const isDiscovery = upper.protocol === PROTOCOL.icmp;
  const type = isDiscovery ? bytes[upper.at]! : 0;
  if (isZero(bytes, at + 8)) {
    const isAllowed =
      type === ICMP.neighborSolicitation || type === 133 || ICMP_LISTENER_REPORTS.includes(type);
    if (!isAllowed) return 'ipv6Spoof';
  } else if (!may(at + 8)) return 'ipv6Spoof';
  return isDiscovery && !isOwnDiscovery(bytes, upper.at, end, settings, may) ? 'ipv6Spoof' : undefined;
}

function checkServices(
  bytes: Uint8Array,
  { protocol, at }: { readonly protocol: number; readonly at: number },
  end: number,
  protection: Protection,
): DropCause | undefined {
  if (protocol === PROTOCOL.udp && protection.dhcpServer) {
    if (at + 2 > end || ((bytes[at]! << 8) | bytes[at + 1]!) === DHCP_SERVER_PORT) return 'dhcpServer';
  }
  if (!protection.routerAdvertisement) return undefined;
  const isRouter =
    protocol === PROTOCOL.icmp && (bytes[at] === ICMP.routerAdvertisement || bytes[at] === ICMP.redirect);
  return isRouter || protocol < 0 ? 'routerAdvertisement' : undefined;
}

/** Whether a solicitation or an advertisement speaks for its sender alone. Other messages are no matter here. */
function isOwnDiscovery(
  bytes: Uint8Array,
  at: number,
  end: number,
  { mac }: GuardSettings,
  may: (address: number) => boolean,
): boolean {
  const type = bytes[at]!;
  const isAdvertisement = type === ICMP.neighborAdvertisement;
  if (!isAdvertisement && type !== ICMP.neighborSolicitation) return true;
  if (at + 24 > end || (isAdvertisement && !may(at + 8))) return false;
  const wanted = isAdvertisement ? OPTION_TARGET_LINK_ADDRESS : OPTION_SOURCE_LINK_ADDRESS;
  for (let option = at + 24; option + 8 <= end; ) {
    const length = bytes[option + 1]! * 8;
    if (length === 0) return false;
    if (bytes[option] === wanted && !mac.every((byte, i) => bytes[option + 2 + i] === byte)) return false;
    option += length;
  }
  return true;
}

function mayUse(bytes: Uint8Array, at: number, settings: GuardSettings, now: number): boolean {
  const isLinkLocal = bytes[at] === 0xfe && (bytes[at + 1]! & 0xc0) === 0x80;
  const { ipv6Prefix } = settings;
  const mayTake = isLinkLocal || (ipv6Prefix !== undefined && isInPrefix(bytes, at, ipv6Prefix));
  return settings.claims.claim(settings, keyOf(bytes, at), mayTake, now);
}

function isZero(bytes: Uint8Array, at: number): boolean {
  for (let i = at; i < at + 16; i++) if (bytes[i] !== 0) return false;
  return true;
}
