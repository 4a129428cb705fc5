/** A network's DHCPv6 server (RFC 8415): the address that each station has, where that is wanted, and the name server. */
import { encodeName } from '../wire/dns.ts';
import { viewOf } from '../wire/view.ts';

export const DHCPV6_SERVER_PORT = 547;
export const DHCPV6_CLIENT_PORT = 546;

const TYPE = {
  solicit: 1,
  advertise: 2,
  request: 3,
  confirm: 4,
  renew: 5,
  rebind: 6,
  reply: 7,
  release: 8,
  decline: 9,
  informationRequest: 11,
} as const;
const OPTION = {
  clientId: 1,
  serverId: 2,
  iaNa: 3,
  iaAddress: 5,
  status: 13,
  rapidCommit: 14,
  dns: 23,
  domains: 24,
} as const;
const STATUS = { success: 0, noAddresses: 2, notOnLink: 4 } as const;
const IA_HEADER_BYTES = 12;
const PREFERRED_SECONDS = 3600;
const VALID_SECONDS = 7200;
const OPTIONS_MAX = 64;

export interface Dhcpv6Settings {
  /** The server's MAC address, which identifies it. */
  readonly mac: Uint8Array;
  readonly dns: Uint8Array;
  readonly domain: string;
}

type Option = readonly [code: number, value: Uint8Array];

export class Dhcpv6Server {
  readonly #settings: Dhcpv6Settings;
  readonly #serverId: Uint8Array;

  constructor(settings: Dhcpv6Settings) {
    this.#settings = settings;
    // DUID-LL of Ethernet (§11.4).
    this.#serverId = Uint8Array.of(0, 3, 0, 1, ...settings.mac);
  }

  /** `address`: the station's; undefined where addresses are not given out. Undefined when nothing is to be said. */
  handle(message: Uint8Array, address: Uint8Array | undefined): Uint8Array | undefined {
    const type = message[0];
    const options = message.length >= 4 ? readOptions(message, 4) : undefined;
    const clientId = options?.find(([code]) => code === OPTION.clientId)?.[1];
    if (type === undefined || options === undefined) return undefined;
    const has = (code: number): boolean => options.some(([known]) => known === code);
    const serverId = options.find(([code]) => code === OPTION.serverId)?.[1];
    if (serverId !== undefined && !sameBytes(serverId, this.#serverId)) return undefined;
    if (clientId === undefined && type !== TYPE.informationRequest) return undefined;
    const answer = this.#answer(type, options, address, has(OPTION.rapidCommit));
    if (answer === undefined) return undefined;
    const identity: Option[] = [[OPTION.serverId, this.#serverId]];
    if (clientId !== undefined) identity.push([OPTION.clientId, clientId]);
    return build(answer.type, message.subarray(1, 4), [...identity, ...answer.options]);
  }

  #answer(
    type: number,
    options: readonly Option[],
    address: Uint8Array | undefined,
    isRapid: boolean,
  ): { readonly type: number; readonly options: readonly Option[] } | undefined {
    const { dns, domain } = this.#settings;
    const information: Option[] = [
      [OPTION.dns, dns],
      [OPTION.domains, encodeName(domain)],
    ];
    const associations = (): Option[] =>
      options.flatMap(([code, value]): Option[] =>
        code === OPTION.iaNa && value.length >= IA_HEADER_BYTES ? [[code, association(value, address)]] : [],
      );
    switch (type) {
      case TYPE.solicit: {
        if (!isRapid) return { type: TYPE.advertise, options: [...associations(), ...information] };
        const rapid: Option = [OPTION.rapidCommit, new Uint8Array(0)];
        return { type: TYPE.reply, options: [rapid, ...associations(), ...information] };
      }
      case TYPE.request:
      case TYPE.renew:
      case TYPE.rebind:
        return { type: TYPE.reply, options: [...associations(), ...information] };
      case TYPE.confirm: {
        const isRight = options.every(([code, value]) => code !== OPTION.iaNa || isAbout(value, address));
        return { type: TYPE.reply, options: [status(isRight ? STATUS.success : STATUS.notOnLink)] };
      }
      case TYPE.release:
      case TYPE.decline:
        // The address stays the station's, whatever it does with it.
        return { type: TYPE.reply, options: [status(STATUS.success)] };
      case TYPE.informationRequest:
        return { type: TYPE.reply, options: information };
      default:
        return undefined;
    }
  }
}

/** IA_NA with the address, or with a status that there is none (§21.4, 21.6). */
function association(asked: Uint8Array, address: Uint8Array | undefined): Uint8Array {
  const header = new Uint8Array(IA_HEADER_BYTES);
  header.set(asked.subarray(0, 4));
  if (address === undefined) return concat([header, option(status(STATUS.noAddresses))]);
  const view = viewOf(header);
  view.setUint32(4, PREFERRED_SECONDS / 2);
  view.setUint32(8, (PREFERRED_SECONDS * 4) / 5);
  const given = new Uint8Array(24);
  given.set(address);
  viewOf(given).setUint32(16, PREFERRED_SECONDS);
  viewOf(given).setUint32(20, VALID_SECONDS);
  return concat([header, option([OPTION.iaAddress, given])]);
}

function isAbout(ia: Uint8Array, address: Uint8Array | undefined): boolean {
  const inner = ia.length >= IA_HEADER_BYTES ? readOptions(ia, IA_HEADER_BYTES) : undefined;
  if (inner === undefined || address === undefined) return false;
  return inner.every(
    ([code, value]) => code !== OPTION.iaAddress || sameBytes(value.subarray(0, 16), address),
  );
}

/** Undefined when malformed. */
function readOptions(bytes: Uint8Array, from: number): Option[] | undefined {
  const view = viewOf(bytes);
  const options: Option[] = [];
  for (let at = from; at < bytes.length; ) {
    if (at + 4 > bytes.length || options.length === OPTIONS_MAX) return undefined;
    const end = at + 4 + view.getUint16(at + 2);
    if (end > bytes.length) return undefined;
    options.push([view.getUint16(at), bytes.subarray(at + 4, end)]);
    at = end;
  }
  return options;
}

const status = (code: number): Option => [OPTION.status, Uint8Array.of(code >> 8, code & 255)];

function option([code, value]: Option): Uint8Array {
  const header = Uint8Array.of(code >> 8, code & 255, value.length >> 8, value.length & 255);
  return concat([header, value]);
}

function build(type: number, transaction: Uint8Array, options: readonly Option[]): Uint8Array {
  return concat([Uint8Array.of(type), transaction, ...options.map(option)]);
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
