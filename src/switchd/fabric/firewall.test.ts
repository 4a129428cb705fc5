import { describe, expect, test } from 'vitest';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import { ETHERTYPE_IPV6, ethernet, ip6, udpBytes } from '../testing/packets.ts';
import { parseIp } from '../wire/address.ts';
import { buildIpv4 } from '../wire/ipv4.ts';
import { Firewall } from './firewall.ts';
import type { FirewallRule } from './firewall-rules.ts';
import { FLOW_WORDS, FlowTable } from './flow-table.ts';

const [MAC, ARP, IPV4] = ['02:00:00:00:00:01', 0x0806, 0x0800];
const [TCP, UDP, ICMP, ICMPV6] = [6, 17, 1, 58];
const [US, PEER, OTHER] = ['10.0.0.1', '10.0.0.2', '192.0.2.9'];
const [SYN, ACK, FIN] = [2, 16, 1];

const rule = (direction: FirewallRule['direction'], changes: Partial<FirewallRule> = {}): FirewallRule => ({
  direction,
  action: 'allow',
  protocol: 'any',
  ...changes,
});
const SSH_ONLY = [rule('ingress', { protocol: 'tcp', ports: [22, 22] })];

class Lab {
  readonly #firewall: Firewall;
  now = 0;
  constructor(rules: readonly FirewallRule[]) {
    this.#firewall = new Firewall(rules);
  }
  /** Whether a frame may pass. */
  #passes(frame: Uint8Array, isFromUs: boolean): boolean {
    const buffer = new FrameBuffer();
    buffer.set(frame);
    const etherType = (frame[12]! << 8) | frame[13]!;
    const passage = { frame: buffer, etherType, payloadAt: 14, nowSeconds: this.now };
    return (isFromUs ? this.#firewall.egress : this.#firewall.ingress)(passage) === undefined;
  }
  in(frame: Uint8Array): boolean {
    return this.#passes(frame, false);
  }
  out(frame: Uint8Array): boolean {
    return this.#passes(frame, true);
  }
}

function ipv4(from: string, to: string, protocol: number, payload: readonly number[]): Uint8Array {
  const fields = { source: parseIp(from)!, destination: parseIp(to)!, protocol };
  return ethernet(MAC, MAC, IPV4, buildIpv4({ ...fields, payload: Uint8Array.from(payload) }));
}
function tcp(from: string, fromPort: number, to: string, toPort: number, flags: number): Uint8Array {
  const ports = [fromPort >> 8, fromPort & 255, toPort >> 8, toPort & 255];
  return ipv4(from, to, TCP, [...ports, ...Array(8).fill(0), 0x50, flags, 0, 0, 0, 0, 0, 0]);
}
const udp = (from: string, fromPort: number, to: string, toPort: number): Uint8Array =>
  ipv4(from, to, UDP, udpBytes(fromPort, toPort));

describe('a firewall', () => {
  test('without rules in a direction lets everything pass in it, with some only what they allow', () => {
    const lab = new Lab(SSH_ONLY);
    expect(lab.in(tcp(PEER, 5000, US, 22, SYN))).toBe(true);
    expect(lab.in(tcp(PEER, 5000, US, 23, SYN))).toBe(false);
    expect(lab.in(udp(PEER, 5000, US, 22))).toBe(false);
    expect(lab.out(udp(US, 1, PEER, 2))).toBe(true);
    expect(lab.out(tcp(US, 1, OTHER, 80, SYN))).toBe(true);
  });

  test('lets answers pass, to both sides, as long as the conversation goes on', () => {
    const lab = new Lab([...SSH_ONLY, rule('egress', { protocol: 'udp', ports: [53, 53] })]);
    expect(lab.in(udp(PEER, 53, US, 4000))).toBe(false);
    expect(lab.out(udp(US, 4000, PEER, 53))).toBe(true);
    expect(lab.in(udp(PEER, 53, US, 4000))).toBe(true);
    expect(lab.in(udp(PEER, 53, US, 4001))).toBe(false);
    expect(lab.in(udp(OTHER, 53, US, 4000))).toBe(false);
    expect(lab.in(tcp(PEER, 9, US, 22, SYN))).toBe(true);
    expect(lab.out(tcp(US, 22, PEER, 9, SYN | ACK))).toBe(true);
    expect(lab.out(tcp(US, 22, PEER, 10, SYN | ACK))).toBe(false);
    lab.now = 170;
    expect(lab.in(udp(PEER, 53, US, 4000))).toBe(true);
    lab.now = 400;
    expect(lab.in(udp(PEER, 53, US, 4000))).toBe(false);
    expect(lab.out(tcp(US, 22, PEER, 9, ACK))).toBe(true);
    lab.in(tcp(PEER, 9, US, 22, FIN | ACK));
    lab.now = 500;
    expect(lab.out(tcp(US, 22, PEER, 9, ACK))).toBe(false);
  });

  test('takes the first rule that matches', () => {
    const lab = new Lab([
      rule('ingress', { action: 'deny', cidrs: ['10.0.0.0/30'] }),
      rule('ingress', { protocol: 'tcp', ports: [80, 90], cidrs: ['10.0.0.0/8', '192.0.2.8/29'] }),
    ]);
    expect(lab.in(tcp(PEER, 1, US, 80, SYN))).toBe(false);
    expect(lab.in(tcp('10.9.9.9', 1, US, 80, SYN))).toBe(true);
    expect(lab.in(tcp(OTHER, 1, US, 90, SYN))).toBe(true);
    expect(lab.in(tcp('192.0.2.16', 1, US, 90, SYN))).toBe(false);
    expect(lab.in(tcp('10.9.9.9', 1, US, 91, SYN))).toBe(false);
  });

  test('lets an echo’s answer pass, and errors about conversations that it knows', () => {
    const lab = new Lab([rule('ingress', { protocol: 'tcp', ports: [1, 1] }), rule('egress')]);
    const echo = (from: string, to: string, type: number): Uint8Array =>
      ipv4(from, to, ICMP, [type, 0, 0, 0, 7, 7, 0, 1]);
    expect(lab.in(echo(PEER, US, 8))).toBe(false);
    expect(lab.out(echo(US, PEER, 8))).toBe(true);
    expect(lab.in(echo(PEER, US, 0))).toBe(true);
    const about = (packet: Uint8Array): Uint8Array =>
      ipv4(OTHER, US, ICMP, [3, 1, 0, 0, 0, 0, 0, 0, ...packet.subarray(14, 14 + 28)]);
    const request = udp(US, 5, PEER, 6);
    expect(lab.in(about(request))).toBe(false);
    lab.out(request);
    expect(lab.in(about(request))).toBe(true);
    expect(lab.in(about(udp(US, 6, PEER, 6)))).toBe(false);
  });

  test('never keeps ARP, DHCP and neighbor discovery away, and other protocols only with rules', () => {
    const lab = new Lab([rule('ingress', { protocol: 'tcp', ports: [1, 1] })]);
    expect(lab.in(ethernet(MAC, MAC, ARP, new Uint8Array(28)))).toBe(true);
    expect(lab.in(udp('10.0.0.254', 67, US, 68))).toBe(true);
    const discovery = ip6({
      from: 'fe80::1',
      to: 'fe80::2',
      next: ICMPV6,
      payload: [135, ...Array(23).fill(0)],
    });
    expect(lab.in(ethernet(MAC, MAC, ETHERTYPE_IPV6, discovery))).toBe(true);
    expect(lab.in(ethernet(MAC, MAC, 0x88b5, [1]))).toBe(false);
    expect(lab.out(ethernet(MAC, MAC, 0x88b5, [1]))).toBe(true);
  });

  test('knows IPv6', () => {
    const lab = new Lab([rule('ingress', { protocol: 'udp', ports: [53, 53], cidrs: ['fd00:1::/32'] })]);
    const packet = (from: string, toPort: number): Uint8Array =>
      ethernet(
        MAC,
        MAC,
        ETHERTYPE_IPV6,
        ip6({ from, to: 'fd00:1::9', next: UDP, payload: udpBytes(9, toPort) }),
      );
    expect(lab.in(packet('fd00:1::5', 53))).toBe(true);
    expect(lab.in(packet('fd00:1::5', 54))).toBe(false);
    expect(lab.in(packet('fd00:2::5', 53))).toBe(false);
    expect(lab.in(udp(PEER, 9, US, 53))).toBe(false);
  });

  test('lets later fragments pass with their first one only', () => {
    const lab = new Lab([rule('ingress', { protocol: 'udp', ports: [7, 7] })]);
    const fragment = (id: number, word: number, payload: readonly number[]): Uint8Array => {
      const frame = ipv4(PEER, US, UDP, payload);
      frame.set([0, id, word >> 8, word & 255], 18);
      return frame;
    };
    expect(lab.in(fragment(1, 1, [1, 2, 3, 4]))).toBe(false);
    expect(lab.in(fragment(1, 0x2000, udpBytes(1, 7)))).toBe(true);
    expect(lab.in(fragment(1, 1, [1, 2, 3, 4]))).toBe(true);
    expect(lab.in(fragment(2, 0x2000, udpBytes(1, 8)))).toBe(false);
    expect(lab.in(fragment(2, 1, [1, 2, 3, 4]))).toBe(false);
    lab.now = 31;
    expect(lab.in(fragment(1, 2, [1, 2, 3, 4]))).toBe(false);
  });

  test('is not led astray by packets that are cut short', () => {
    const lab = new Lab([rule('ingress', { protocol: 'tcp', ports: [22, 22] })]);
    const whole = tcp(PEER, 1, US, 22, SYN);
    for (let length = 14; length < 38; length++) expect(lab.in(whole.subarray(0, length))).toBe(false);
  });

  test.each<Partial<FirewallRule>>([
    { ports: [5, 4], protocol: 'tcp' },
    { ports: [1, 70_000], protocol: 'tcp' },
    { ports: [1, 2] },
    { cidrs: ['10.0.0.0'] },
    { cidrs: ['10.0.0.0/33'] },
    { cidrs: ['here/8'] },
  ])('refuses %o', (changes) => {
    expect(() => new Firewall([rule('ingress', changes)])).toThrow(
      expect.objectContaining({ code: 'invalid_input' }),
    );
  });
});

test('a table of flows is bounded, and a flood dislodges none that will last', () => {
  const table = new FlowTable();
  const key = (n: number): Int32Array => new Int32Array(FLOW_WORDS).fill(n);
  for (let n = 0; n < 1000; n++) table.insert(key(n), 4, 0, 7200);
  for (let n = 1000; n < 300_000; n++) table.insert(key(n), 0, 1, 61);
  expect(table.count(1)).toBeLessThanOrEqual(65_536);
  let kept = 0;
  for (let n = 0; n < 1000; n++) if (table.find(key(n), 2) >= 0) kept++;
  expect(kept).toBe(1000);
  expect(table.find(key(5), 7201)).toBe(-1);
});
