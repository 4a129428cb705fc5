/** Answers for the names and addresses of a network's VMs, and tells what others have to be asked for. */
import { inSubnet, parseIp, type Subnet } from '../wire/address.ts';
import { uint32 } from '../wire/dhcp.ts';
import {
  buildDnsReply,
  DNS_RCODE,
  DNS_TYPE,
  type DnsAnswer,
  type DnsQuestion,
  encodeName,
  parseDnsQuery,
} from '../wire/dns.ts';

/** More addresses than this of one name are not told: the answer has to fit in 512 bytes (RFC 1035 §4.2.1). */
const ADDRESSES_MAX = 8;
/** Leases come and go. */
const TTL_SECONDS = 10;
const REVERSE_SUFFIX = '.in-addr.arpa';

export interface NameBook {
  /** Of the network; names in it may be asked for with or without. */
  readonly domain: string;
  /** Addresses of a host name; undefined when there is no such host. */
  addressesOf(name: string): readonly number[] | undefined;
  /** IPv6 addresses of a host name. */
  addresses6Of(name: string): readonly Uint8Array[];
  /** Host name of an address. */
  nameOf(ip: number): string | undefined;
}

interface Outcome {
  readonly rcode: number;
  readonly answers: readonly DnsAnswer[];
}

const NO_SUCH_NAME: Outcome = { rcode: DNS_RCODE.noSuchName, answers: [] };

/** The reply to a message to port 53, or undefined when it is no query. */
export function answerDns(payload: Uint8Array, names: NameBook): Uint8Array | undefined {
  const query = parseDnsQuery(payload);
  if (query === undefined) return undefined;
  const outcome = query.opcode === 0 ? answer(query.question, names) : failure(DNS_RCODE.notImplemented);
  return buildDnsReply({ query, ...outcome, ttlSeconds: TTL_SECONDS });
}

/** Is it a question about names or addresses that are not the network's? Names without a dot are: nobody else knows them. */
export function isForOthers(payload: Uint8Array, domain: string, subnet: Subnet): boolean {
  const query = parseDnsQuery(payload);
  const question = query?.question;
  if (query?.opcode !== 0 || question === undefined || !question.isInternet) return false;
  const { name } = question;
  if (name.endsWith(REVERSE_SUFFIX)) {
    const ip = reversedIp(name);
    return ip === undefined || !inSubnet(ip, subnet);
  }
  return name.includes('.') && name !== domain && !name.endsWith(`.${domain}`);
}

function answer(question: DnsQuestion | undefined, names: NameBook): Outcome {
  if (question === undefined) return failure(DNS_RCODE.formatError);
  if (!question.isInternet) return failure(DNS_RCODE.refused);
  if (question.name.endsWith(REVERSE_SUFFIX)) return answerReverse(question, names);
  const addresses = names.addressesOf(hostOf(question.name, names.domain));
  if (addresses === undefined) return NO_SUCH_NAME;
  // A name that has no record of the type asked for exists nonetheless.
  const wants = (type: number): boolean => question.type === type || question.type === DNS_TYPE.any;
  const ipv4 = wants(DNS_TYPE.a) ? addresses.slice(0, ADDRESSES_MAX) : [];
  const ipv6 = wants(DNS_TYPE.aaaa) ? names.addresses6Of(hostOf(question.name, names.domain)) : [];
  return success([
    ...ipv4.map((ip) => ({ type: DNS_TYPE.a, data: uint32(ip) })),
    ...ipv6.slice(0, ADDRESSES_MAX).map((data) => ({ type: DNS_TYPE.aaaa, data })),
  ]);
}

function answerReverse(question: DnsQuestion, names: NameBook): Outcome {
  const ip = reversedIp(question.name);
  const name = ip === undefined ? undefined : names.nameOf(ip);
  if (name === undefined) return NO_SUCH_NAME;
  const isWanted = question.type === DNS_TYPE.ptr || question.type === DNS_TYPE.any;
  return success(isWanted ? [{ type: DNS_TYPE.ptr, data: encodeName(`${name}.${names.domain}`) }] : []);
}

/** `5.0.77.10.in-addr.arpa` */
function reversedIp(name: string): number | undefined {
  return parseIp(name.slice(0, -REVERSE_SUFFIX.length).split('.').reverse().join('.'));
}

function hostOf(name: string, domain: string): string {
  const suffix = `.${domain}`;
  return name.endsWith(suffix) ? name.slice(0, -suffix.length) : name;
}

function failure(rcode: number): Outcome {
  return { rcode, answers: [] };
}

function success(answers: readonly DnsAnswer[]): Outcome {
  return { rcode: DNS_RCODE.ok, answers };
}
