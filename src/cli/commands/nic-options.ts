/** Options of what a network card may do, as `network attach` and `network configure` take them. */
import { type Command, InvalidArgumentError } from 'commander';
import type { NicUpdateInput, RateLimit, Vlan } from '../../contracts/api/index.ts';
import { collect, NONE, orNull, parseCount } from '../parse.ts';

export interface NicOptions {
  readonly address?: string[];
  readonly vlan?: Vlan | typeof NONE;
  readonly txRate?: number;
  readonly rxRate?: number;
  readonly txPackets?: number;
  readonly rxPackets?: number;
  readonly limits?: boolean;
  readonly firewall?: string[];
  readonly unprotected?: boolean;
  readonly protected?: boolean;
}

/** `isNew`: for a card that has no settings yet, which need not be taken back. */
export function addNicOptions(command: Command, isNew: boolean): Command {
  command
    .option('--address <ip>', 'IPv4 or IPv6 address; may be repeated, DHCP gives it the first', collect)
    .option(
      '--vlan <vlan>',
      'access port "10", or trunk "trunk:10-19,40" with "/1" for untagged frames',
      parseVlan,
    )
    .option('--tx-rate <bits>', 'most that it sends per second, such as 100M', parseRate)
    .option('--rx-rate <bits>', 'most that it gets per second', parseRate)
    .option('--tx-packets <count>', 'most packets that it sends per second', parseCount)
    .option('--rx-packets <count>', 'most packets that it gets per second', parseCount)
    .option('--firewall <firewall>', 'a set of rules; may be repeated, "none" for none', collect)
    .option('--unprotected', 'it may send frames in the name of others');
  if (isNew) return command;
  return command
    .option('--no-limits', 'lift all limits')
    .option('--protected', 'protect others from it again');
}

export function nicSettings(options: NicOptions): NicUpdateInput {
  const tx = rateOf(options.txRate, options.txPackets);
  const rx = rateOf(options.rxRate, options.rxPackets);
  const limits = { ...(tx && { tx }), ...(rx && { rx }) };
  return {
    ...(options.address !== undefined && { addresses: options.address }),
    ...(options.vlan !== undefined && { vlan: orNull(options.vlan) }),
    ...(options.limits === false && { limits: null }),
    ...((tx ?? rx) !== undefined && { limits }),
    ...(options.firewall !== undefined && { firewalls: options.firewall.filter((name) => name !== 'none') }),
    ...(options.unprotected === true && { protection: OPEN }),
    ...(options.protected === true && { protection: null }),
  };
}

const OPEN = {
  mac: false,
  arp: false,
  ipv4: false,
  ipv6: false,
  dhcp_server: false,
  router_advertisement: false,
} as const;

function rateOf(bits: number | undefined, packets: number | undefined): RateLimit | undefined {
  if (bits === undefined && packets === undefined) return undefined;
  return {
    ...(bits !== undefined && { bits_per_second: bits }),
    ...(packets !== undefined && { packets_per_second: packets }),
  };
}

/** Decimal prefixes, as bit rates have them. */
function parseRate(text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([kMG]?)$/i.exec(text) ?? [];
  const factor = { '': 1, K: 1e3, M: 1e6, G: 1e9 }[unit.toUpperCase()];
  if (digits === '' || factor === undefined)
    throw new InvalidArgumentError('Write bits per second, such as 100M.');
  return Number(digits) * factor;
}

function parseVlan(text: string): Vlan | typeof NONE {
  if (text === 'none') return NONE;
  if (/^\d+$/.test(text)) return { mode: 'access', id: Number(text) };
  const [, ranges, native] = /^trunk:(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)(?:\/(\d+))?$/.exec(text) ?? [];
  if (ranges === undefined)
    throw new InvalidArgumentError('Write 10, trunk:10-19,40, trunk:10-19/1 or none.');
  const allowed = ranges.split(',').map((range): [number, number] => {
    const [first = '', last = first] = range.split('-');
    return [Number(first), Number(last)];
  });
  return { mode: 'trunk', allowed, ...(native !== undefined && { native: Number(native) }) };
}
