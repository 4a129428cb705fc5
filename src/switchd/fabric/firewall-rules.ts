/** Rules of a firewall, checked and made into tests of packets. */
import { AppError } from '../../contracts/errors.ts';
import { parseIp } from '../wire/address.ts';
import { parseIp6 } from '../wire/address6.ts';
import { type IpPacket, PROTOCOL } from './ip-packet.ts';

export interface FirewallRule {
  /** ingress: to the station. egress: from it. */
  readonly direction: 'ingress' | 'egress';
  readonly action: 'allow' | 'deny';
  readonly protocol: 'any' | 'tcp' | 'udp' | 'icmp';
  /** The receiver's, ends included; all when missing. For TCP and UDP. */
  readonly ports?: readonly [first: number, last: number] | undefined;
  /** The other side is in one of them; any when missing. IPv4 and IPv6. */
  readonly cidrs?: readonly string[] | undefined;
}

export interface RuleTest {
  readonly allows: boolean;
  readonly matches: (packet: IpPacket, isFromUs: boolean) => boolean;
}

export type CidrTest = (packet: IpPacket, isSource: boolean) => boolean;

const PROTOCOLS: Readonly<Record<FirewallRule['protocol'], readonly number[]>> = {
  any: [],
  tcp: [PROTOCOL.TCP],
  udp: [PROTOCOL.UDP],
  icmp: [PROTOCOL.ICMP, PROTOCOL.ICMPV6],
};

/** Those of one direction, in order. Throws AppError `invalid_input`. */
export function compileRules(
  rules: readonly FirewallRule[],
  direction: FirewallRule['direction'],
): readonly RuleTest[] {
  return rules.flatMap((rule, index) => (rule.direction === direction ? [compileRule(rule, index)] : []));
}

function compileRule({ action, protocol, ports, cidrs }: FirewallRule, index: number): RuleTest {
  const protocols = PROTOCOLS[protocol];
  const [first, last] = ports ?? [0, 0xffff];
  if (!(first <= last && first >= 0 && last <= 0xffff)) {
    throw invalid(index, `${first} to ${last} is no range of ports`);
  }
  if (ports !== undefined && protocol !== 'tcp' && protocol !== 'udp') {
    throw invalid(index, `${protocol} has no ports`);
  }
  const nets = cidrs?.map((cidr) => compileCidr(cidr, index));
  const matches = (packet: IpPacket, isFromUs: boolean): boolean => {
    if (protocols.length > 0 && !protocols.includes(packet.protocol)) return false;
    if (packet.destinationPort < first || packet.destinationPort > last) return false;
    return nets === undefined || nets.some((net) => net(packet, !isFromUs));
  };
  return { allows: action === 'allow', matches };
}

function compileCidr(text: string, index: number): CidrTest {
  const [addressText = '', lengthText = '', ...rest] = text.split('/');
  const ip = parseIp(addressText);
  const address =
    ip === undefined
      ? parseIp6(addressText)
      : Uint8Array.of(ip >>> 24, (ip >>> 16) & 255, (ip >>> 8) & 255, ip & 255);
  const length = Number(lengthText);
  const isLength = /^\d{1,3}$/.test(lengthText) && rest.length === 0;
  if (address === undefined || !isLength || length > 8 * address.length) {
    throw invalid(index, `${text} is no network: write it as 10.0.0.0/8 or fd00::/8`);
  }
  const isIpv6 = address.length === 16;
  const whole = length >> 3;
  const mask = (0xff00 >> (length & 7)) & 0xff;
  return (packet, isSource) => {
    if (packet.isIpv6 !== isIpv6) return false;
    for (let i = 0; i < whole; i++) if (packet.addressByte(isSource, i) !== address[i]) return false;
    return mask === 0 || ((packet.addressByte(isSource, whole) ^ address[whole]!) & mask) === 0;
  };
}

function invalid(index: number, detail: string): AppError {
  return new AppError('invalid_input', detail, { field: `firewall[${index}]` });
}
