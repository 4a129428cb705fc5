import { expect, test } from 'vitest';
import { Segment } from '../fabric/segment.ts';
import { FrameBuffer } from '../ring/frame-buffer.ts';
import type { FrameSource } from '../ring/producer.ts';
import { bytesOf } from '../testing/fake-guest.ts';
import { BROADCAST_IP, BROADCAST_MAC, parseIp, parseSubnet } from '../wire/address.ts';
import { ARP_REQUEST, buildArp } from '../wire/arp.ts';
import { internetChecksum } from '../wire/checksum.ts';
import { buildEthernet, ETHERTYPE_ARP, ETHERTYPE_IPV4, parseEthernet } from '../wire/ethernet.ts';
import { buildIpv4, PROTOCOL_ICMP, PROTOCOL_UDP } from '../wire/ipv4.ts';
import { buildUdp } from '../wire/udp.ts';
import { Gateway } from './gateway.ts';
import { defaultPool, LEASES_PER_PORT_MAX, LeaseTable } from './lease-table.ts';

const MAC = bytesOf('02:00:00:00:00:01');
const GATEWAY_MAC = bytesOf('02:55:4d:00:00:01');
const SUBNET = parseSubnet('10.77.0.0/24')!;
const [GUEST_IP, GATEWAY_IP] = [parseIp('10.77.0.5')!, parseIp('10.77.0.1')!];

/** A gateway and one guest's port on a segment, in this thread; `now` may be moved. */
function lab() {
  const clock = { now: 0 };
  const segment = new Segment({ hub: false });
  const leases = new LeaseTable(defaultPool(SUBNET));
  new Gateway(segment, {
    mac: GATEWAY_MAC,
    ip: GATEWAY_IP,
    subnet: SUBNET,
    domain: 'lab.internal',
    leases,
    leaseSeconds: 3600,
    ipv6: undefined,
    forwarder: undefined,
    later: (run) => run(),
    stations: {
      atPort: (id) => (id === 'guest' ? { id, name: 'vm', mac: undefined } : undefined),
      addressesOf: (name) => (name === 'vm' ? [] : undefined),
      nameOf: () => undefined,
      addresses6Of: () => [],
      address6At: () => undefined,
    },
    now: () => clock.now,
  });
  const received: Uint8Array[] = [];
  const push = ({ bytes, offset, length }: FrameSource): boolean => {
    received.push(bytes.slice(offset, offset + length));
    return true;
  };
  const port = segment.add('guest', { push, publish: () => undefined })!;
  const buffer = new FrameBuffer();
  const send = (frame: Uint8Array): void => {
    buffer.set(frame);
    segment.forward(port, buffer);
    segment.flush();
  };
  return { clock, leases, received, send };
}

function udpFrame(destinationPort: number, payload: Uint8Array, isBroadcast: boolean): Uint8Array {
  const destination = isBroadcast ? BROADCAST_IP : GATEWAY_IP;
  const udp = buildUdp({ sourcePort: 68, destinationPort, payload }, GUEST_IP, destination);
  const packet = buildIpv4({ source: GUEST_IP, destination, protocol: PROTOCOL_UDP, payload: udp });
  const mac = isBroadcast ? BROADCAST_MAC : GATEWAY_MAC;
  return buildEthernet({ destination: mac, source: MAC, type: ETHERTYPE_IPV4, payload: packet });
}

function discover(mac: Uint8Array): Uint8Array {
  const message = new Uint8Array(250);
  message.set([1, 1, 6]);
  message.set(mac, 28);
  message.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 61, 2, 1, 2, 255], 236);
  return message;
}

function templates(): Uint8Array[] {
  const query = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, ...Buffer.from('vm'), 0, 0, 1, 0, 1];
  const echo = Uint8Array.from([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
  const ping = buildIpv4({
    source: GUEST_IP,
    destination: GATEWAY_IP,
    protocol: PROTOCOL_ICMP,
    payload: echo,
  });
  const targetMac = new Uint8Array(6);
  const arp = { operation: ARP_REQUEST, senderMac: MAC, senderIp: GUEST_IP, targetMac, targetIp: GATEWAY_IP };
  const toGateway = { destination: GATEWAY_MAC, source: MAC };
  return [
    udpFrame(67, discover(MAC), true),
    udpFrame(53, Uint8Array.from(query), false),
    buildEthernet({ ...toGateway, type: ETHERTYPE_IPV4, payload: ping }),
    buildEthernet({ ...toGateway, type: ETHERTYPE_ARP, payload: buildArp(arp) }),
  ];
}

/** xorshift32 */
function numbers(): (below: number) => number {
  let state = 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** So that damage behind the IPv4 header gets past its check. */
function repairIpv4(frame: Uint8Array): void {
  if (frame.length < 34) return;
  frame.fill(0, 24, 26);
  new DataView(frame.buffer).setUint16(24, internetChecksum(frame.subarray(14, 34)));
}

test('answers every template, so that what is damaged below is worth damaging', () => {
  const { send, received } = lab();
  for (const frame of templates()) send(frame);
  expect(received).toHaveLength(4);
});

test('survives damaged packets of every kind it reads, and answers with whole frames only', () => {
  const { send, received, leases, clock } = lab();
  const random = numbers();
  const frames = templates();
  for (let round = 0; round < 20_000; round++) {
    const original = frames[round % frames.length]!;
    const isCut = random(4) === 0;
    const frame = original.slice(0, isCut ? 14 + random(original.length - 14) : original.length);
    // Behind the Ethernet addresses and, mostly, behind the IPv4 header, where the length fields of the rest are.
    for (let change = random(4); change >= 0; change--) frame[12 + random(frame.length - 12)] = random(256);
    if (random(4) > 0) repairIpv4(frame);
    send(frame);
    clock.now += 0.01;
  }
  expect(received.length).toBeGreaterThan(100);
  for (const frame of received) expect(parseEthernet(frame)?.source).toEqual(GATEWAY_MAC);
  expect(leases.bound(clock.now).length).toBeLessThanOrEqual(LEASES_PER_PORT_MAX);
});

test('an offer that nobody asks for makes room again', () => {
  const { send, received, clock } = lab();
  const ask = (last: number): number => {
    received.length = 0;
    send(udpFrame(67, discover(Uint8Array.of(2, 0, 0, 0, 1, last)), true));
    return received.length;
  };
  for (let last = 0; last < LEASES_PER_PORT_MAX; last++) expect(ask(last)).toBe(1);
  expect(ask(100)).toBe(0);
  clock.now += 61;
  expect(ask(100)).toBe(1);
});
