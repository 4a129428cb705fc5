import { describe, expect, test } from 'vitest';
import { bytesOf } from '../testing/fake-guest.ts';
import { ETHERTYPE_IPV6, ethernet, ip6, tagged, udpBytes } from '../testing/packets.ts';
import { parseIp } from '../wire/address.ts';
import { buildArp } from '../wire/arp.ts';
import { buildIpv4 } from '../wire/ipv4.ts';
import { compileFilter } from './filter.ts';

const [A, B, ALL] = ['02:00:00:00:00:01', '02:00:00:00:00:02', 'ff:ff:ff:ff:ff:ff'];

function ipv4(from: string, to: string, protocol: number, payload: readonly number[]): Uint8Array {
  const fields = { source: parseIp(from)!, destination: parseIp(to)!, protocol };
  return ethernet(B, A, 0x0800, buildIpv4({ ...fields, payload: Uint8Array.from(payload) }));
}

const FRAMES = {
  arp: ethernet(
    ALL,
    A,
    0x0806,
    buildArp({
      operation: 1,
      senderMac: bytesOf(A),
      senderIp: parseIp('10.0.0.1')!,
      targetMac: new Uint8Array(6),
      targetIp: parseIp('10.0.0.2')!,
    }),
  ),
  dns: ipv4('10.0.0.1', '10.0.0.2', 17, udpBytes(5000, 53)),
  http: ipv4('10.0.1.1', '10.0.0.2', 6, [...udpBytes(80, 6000), ...Array(20).fill(0)]),
  ping: ipv4('10.0.0.2', '10.0.0.1', 1, [8, 0, 0, 0]),
  six: ethernet(
    B,
    A,
    ETHERTYPE_IPV6,
    ip6({ from: 'fd00::1', to: 'fd00::2', next: 17, payload: udpBytes(546, 547) }),
  ),
  vlan: tagged(ipv4('10.0.0.9', '10.0.0.8', 17, udpBytes(1, 2)), 7),
  other: ethernet(B, A, 0x88b5, new Uint8Array(1000)),
};
type Name = keyof typeof FRAMES;

const matching = (expression: string): Name[] => {
  const wants = compileFilter(expression);
  return (Object.keys(FRAMES) as Name[]).filter((name) => wants(FRAMES[name]));
};

describe('filters', () => {
  test.each<[string, Name[]]>([
    ['', ['arp', 'dns', 'http', 'ping', 'six', 'vlan', 'other']],
    ['arp', ['arp']],
    ['ip', ['dns', 'http', 'ping', 'vlan']],
    ['ip6', ['six']],
    ['udp', ['dns', 'six', 'vlan']],
    ['tcp port 80', ['http']],
    ['udp port 80', []],
    ['port 53 or port 80', ['dns', 'http']],
    ['src port 80', ['http']],
    ['dst port 80', []],
    ['portrange 500-600', ['six']],
    ['host 10.0.0.1', ['arp', 'dns', 'ping']],
    ['src host 10.0.0.1 and not arp', ['dns']],
    ['dst host 10.0.0.1', ['ping']],
    ['host fd00::2', ['six']],
    ['net 10.0.1.0/24', ['http']],
    ['src net 10.0.0.0/24 and ip', ['dns', 'ping', 'vlan']],
    ['net fd00::/16', ['six']],
    ['icmp', ['ping']],
    ['broadcast', ['arp']],
    ['multicast', ['arp']],
    ['ether dst 02:00:00:00:00:02 and greater 500', ['other']],
    [`ether host ${A} and less 45`, ['arp', 'dns', 'ping']],
    ['vlan', ['vlan']],
    ['vlan 7 and udp', ['vlan']],
    ['vlan 8', []],
    ['ether proto 0x88b5', ['other']],
    ['! ( ip || ip6 ) && !arp', ['other']],
    ['not (udp or tcp) and not arp', ['ping', 'other']],
  ])('%s', (expression, names) => {
    expect(matching(expression)).toEqual(names);
  });

  test.each([
    'and',
    'tcp port',
    'tcp port 70000',
    'host here',
    'net 10.0.0.0/33',
    'net 10.0.0.0',
    '(tcp',
    'tcp)',
    'proto tcp',
    'ether host 10.0.0.1x',
    'portrange 9-1',
    '('.repeat(50),
    'x'.repeat(2000),
  ])('%s is refused', (expression) => {
    expect(() => compileFilter(expression)).toThrow(
      expect.objectContaining({ code: 'invalid_input', field: 'filter' }),
    );
  });

  test('frames that are cut short match nothing that they do not have', () => {
    const wants = compileFilter('tcp port 80 or vlan 7 and udp or host fd00::2 or arp and host 10.0.0.1');
    for (const frame of Object.values(FRAMES)) {
      for (let length = 0; length <= frame.length; length++) wants(frame.subarray(0, length));
    }
    expect(matching('host 10.0.0.1 and not ip and not arp')).toEqual([]);
  });
});
