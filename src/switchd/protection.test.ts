/** What a protected port does not let through, each kind sent by a guest, dropped, and counted by its cause. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { DropCause, SwitchHandle } from './index.ts';
import {
  BROADCAST,
  bytesOf,
  type FakeGuest,
  labSwitch,
  macOf,
  plugIn,
  TEST_ETHERTYPE,
} from './testing/fake-guest.ts';
import { ETHERTYPE_IPV6, ethernet, ip6, neighbor, tagged, udpBytes } from './testing/packets.ts';
import { parseIp } from './wire/address.ts';
import { buildArp } from './wire/arp.ts';
import { buildIpv4, PROTOCOL_UDP } from './wire/ipv4.ts';

const OWN = '10.77.0.50';
const OTHER = '10.77.0.60';
const OWN_6 = 'fd00:77::50';
const LINK_LOCAL = 'fe80::ff:fe00:1';
const ALL_NODES = 'ff02::1';
const VICTIM_6 = 'fd00:77::60';
const [IPV4, ARP, ICMP6, UDP] = [0x0800, 0x0806, 58, 17];

let handle: SwitchHandle;
/** A network of its own for each test. */
let net: string;
let count = 0;
let guest: FakeGuest;
let victim: FakeGuest;
beforeAll(async () => {
  handle = await labSwitch();
});
afterAll(() => handle.close());
beforeEach(async () => {
  net = `net-${count++}`;
  await handle.createNetwork({
    id: net,
    name: 'six',
    subnet: '10.77.0.0/24',
    ipv6: { prefix: 'fd00:77::/64', addressing: 'slaac' },
  });
  guest = await plugIn(handle, 1, net, { protection: {}, addresses: [OWN, OWN_6] });
  victim = await plugIn(handle, 2, net, { protection: {}, addresses: [OTHER, VICTIM_6] });
});

async function drops(portId = 'port-1'): Promise<Partial<Record<DropCause, number>>> {
  const port = (await handle.ports(net)).find(({ id }) => id === portId);
  return Object.fromEntries(Object.entries(port!.drops).filter(([, count]) => count > 0));
}

const mac = macOf(1);
const send = (frame: Uint8Array): boolean => guest.nic.send([frame]);

function arp(senderMac: string, senderIp: string, operation = 2): Uint8Array {
  const fields = { operation, senderMac: bytesOf(senderMac), targetMac: bytesOf(BROADCAST) };
  return buildArp({ ...fields, senderIp: parseIp(senderIp)!, targetIp: parseIp(OTHER)! });
}

function udp4(from: string, fromPort: number, toPort: number): Uint8Array {
  const payload = Uint8Array.from(udpBytes(fromPort, toPort));
  return buildIpv4({ source: parseIp(from)!, destination: 0xffff_ffff, protocol: PROTOCOL_UDP, payload });
}

const icmp6 = (from: string, payload: readonly number[], to = ALL_NODES): Uint8Array =>
  ip6({ from, to, next: ICMP6, payload });

/** Routing header (43) and a fragment header (44) of a packet whose ICMP message is only in the second fragment. */
const HIDDEN = ip6({
  from: OWN_6,
  to: ALL_NODES,
  next: 44,
  payload: [60, 0, 0, 1, 1, 2, 3, 4, 58, 0, 1, 4, 0, 0, 0, 0],
});

const SPOOFS: readonly [what: string, cause: DropCause, frame: Uint8Array][] = [
  ['another source MAC', 'macSpoof', ethernet(BROADCAST, macOf(9), TEST_ETHERTYPE, [1])],
  ['the victim’s MAC', 'macSpoof', ethernet(BROADCAST, macOf(2), TEST_ETHERTYPE, [1])],
  ['ARP for another’s address', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, OTHER))],
  ['ARP for the gateway', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, '10.77.0.1'))],
  ['ARP with another’s MAC within', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(macOf(2), OWN))],
  ['ARP request in another’s name', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, OTHER, 1))],
  ['ARP cut short', 'arpSpoof', ethernet(BROADCAST, mac, ARP, arp(mac, OWN).subarray(0, 20))],
  ['reverse ARP', 'arpSpoof', ethernet(BROADCAST, mac, 0x8035, arp(mac, OWN))],
  ['another’s IPv4 address', 'ipv4Spoof', ethernet(BROADCAST, mac, IPV4, udp4(OTHER, 1000, 2000))],
  ['no IPv4 address', 'ipv4Spoof', ethernet(BROADCAST, mac, IPV4, udp4('0.0.0.0', 1000, 2000))],
  ['IPv4 cut short', 'ipv4Spoof', ethernet(BROADCAST, mac, IPV4, udp4(OWN, 1000, 2000).subarray(0, 15))],
  ['a DHCP server', 'dhcpServer', ethernet(BROADCAST, mac, IPV4, udp4(OWN, 67, 68))],
  [
    'a router advertisement',
    'routerAdvertisement',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(LINK_LOCAL, [134, 0, 0, 0])),
  ],
  [
    'a redirect',
    'routerAdvertisement',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(LINK_LOCAL, [137, 0, 0, 0])),
  ],
  [
    'a header chain that hides its end',
    'routerAdvertisement',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, HIDDEN),
  ],
  [
    'a router advertisement behind options',
    'routerAdvertisement',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: LINK_LOCAL, to: ALL_NODES, next: 60, payload: [58, 0, 1, 4, 0, 0, 0, 0, 134, 0] }),
    ),
  ],
  [
    'a DHCPv6 server',
    'dhcpServer',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: OWN_6, to: ALL_NODES, next: UDP, payload: udpBytes(547, 546) }),
    ),
  ],
  [
    'another’s IPv6 address',
    'ipv6Spoof',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: VICTIM_6, to: ALL_NODES, next: UDP, payload: udpBytes(1, 2) }),
    ),
  ],
  [
    'an IPv6 address of nowhere',
    'ipv6Spoof',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: '2001:db8::1', to: ALL_NODES, next: UDP, payload: udpBytes(1, 2) }),
    ),
  ],
  [
    'an advertisement for a neighbor',
    'ipv6Spoof',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(OWN_6, neighbor(136, VICTIM_6, mac))),
  ],
  [
    'an advertisement of another’s MAC',
    'ipv6Spoof',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(OWN_6, neighbor(136, OWN_6, macOf(2)))),
  ],
  [
    'a solicitation with another’s MAC',
    'ipv6Spoof',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(OWN_6, neighbor(135, VICTIM_6, macOf(2)))),
  ],
  ['a tag', 'vlan', tagged(ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1]), 2)],
  ['a tag of its own VLAN', 'vlan', tagged(ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1]), 1)],
  ['two tags', 'vlan', tagged(tagged(ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1]), 2), 1)],
  ['a provider’s tag', 'vlan', ethernet(BROADCAST, mac, 0x88a8, [0, 2, 8, 0])],
  ['a bridge’s message', 'reserved', ethernet('01:80:c2:00:00:00', mac, 0x27, [0x42, 0x42, 3])],
  ['IP in 802.2', 'reserved', ethernet(BROADCAST, mac, 0x30, [0xaa, 0xaa, 3, 0, 0, 0, 8, 0])],
  ['a group as source', 'groupSource', ethernet(BROADCAST, '03:00:00:00:00:01', TEST_ETHERTYPE, [1])],
];

test.each(SPOOFS)('%s is dropped and counted as %s', async (_what, cause, frame) => {
  send(frame);
  guest.say(BROADCAST, 'end');
  expect(await victim.hear('end')).toEqual([]);
  expect(victim.inbox).toEqual([]);
  expect(await drops()).toEqual({ [cause]: 1 });
});

const OWN_FRAMES: readonly [what: string, frame: Uint8Array][] = [
  ['ARP of its own', ethernet(BROADCAST, mac, ARP, arp(mac, OWN, 1))],
  ['an ARP probe', ethernet(BROADCAST, mac, ARP, arp(mac, '0.0.0.0', 1))],
  ['IPv4 of its own', ethernet(BROADCAST, mac, IPV4, udp4(OWN, 1000, 2000))],
  ['a DHCP client', ethernet(BROADCAST, mac, IPV4, udp4('0.0.0.0', 68, 67))],
  [
    'IPv6 of its own',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: OWN_6, to: ALL_NODES, next: UDP, payload: udpBytes(1, 2) }),
    ),
  ],
  [
    'a link-local address',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6(LINK_LOCAL, neighbor(135, VICTIM_6, mac))),
  ],
  [
    'an address that it makes',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6('fd00:77::abcd:1', neighbor(136, 'fd00:77::abcd:1', mac))),
  ],
  [
    'duplicate address detection',
    ethernet(BROADCAST, mac, ETHERTYPE_IPV6, icmp6('::', neighbor(135, 'fd00:77::1234', mac).slice(0, 24))),
  ],
  [
    'a listener report',
    ethernet(
      BROADCAST,
      mac,
      ETHERTYPE_IPV6,
      ip6({ from: '::', to: ALL_NODES, next: 0, payload: [58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0] }),
    ),
  ],
  ['another protocol', ethernet(BROADCAST, mac, TEST_ETHERTYPE, [1, 2, 3])],
];

test.each(OWN_FRAMES)('%s goes through', async (_what, frame) => {
  send(frame);
  expect(await victim.take((got) => got.length === frame.length)).toEqual(frame);
  expect(await drops()).toEqual({});
});

test('an IPv6 address is of who has used it first', async () => {
  const claim = (from: FakeGuest, address: string): boolean =>
    from.nic.send([
      ethernet(BROADCAST, from.mac, ETHERTYPE_IPV6, icmp6(address, neighbor(136, address, from.mac))),
    ]);
  claim(guest, 'fd00:77::aaaa');
  await victim.take((frame) => frame.length > 80);
  claim(victim, 'fd00:77::aaaa');
  victim.say(BROADCAST, 'end');
  await guest.hear('end');
  expect(await drops('port-2')).toEqual({ ipv6Spoof: 1 });
  await guest.attachment.detach();
  const third = await plugIn(handle, 3, net, { protection: {} });
  claim(victim, 'fd00:77::aaaa');
  await third.take((frame) => frame.length > 80);
});

test('a guest may use an address that it has by DHCP, and only its own MAC gets one', async () => {
  const client = await plugIn(handle, 4, net, { protection: {} });
  const discover = (chaddr: string): Uint8Array => {
    const message = new Uint8Array(244);
    message.set([1, 1, 6, 0, 1, 2, 3, 4]);
    message.set(bytesOf(chaddr), 28);
    message.set([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255], 236);
    return message;
  };
  const ask = (payload: Uint8Array, from = '0.0.0.0') =>
    client.ask({ toMac: BROADCAST, from, to: '255.255.255.255', fromPort: 68, toPort: 67, payload });
  const offered = (await ask(discover(client.mac))).payload.subarray(16, 20);
  const address = offered.join('.');
  client.sendUdp({
    toMac: victim.mac,
    from: address,
    to: OTHER,
    fromPort: 5,
    toPort: 6,
    payload: Buffer.from('early'),
  });
  const request = discover(client.mac);
  await ask(Uint8Array.from([...request.subarray(0, 242), 3, 50, 4, ...offered, 54, 4, 10, 77, 0, 1, 255]));
  client.sendUdp({
    toMac: victim.mac,
    from: address,
    to: OTHER,
    fromPort: 5,
    toPort: 6,
    payload: Buffer.from('late'),
  });
  const packet = await victim.take((frame) => /early|late/.test(Buffer.from(frame).toString('latin1')));
  expect(Buffer.from(packet).toString('latin1')).toContain('late');
  expect(await drops('port-4')).toEqual({ ipv4Spoof: 1 });
  // A request in another's name gets no answer: the next one does.
  client.sendUdp({
    toMac: BROADCAST,
    from: address,
    to: '255.255.255.255',
    fromPort: 68,
    toPort: 67,
    payload: discover(macOf(77)),
  });
  const again = await ask(discover(client.mac), address);
  expect(Buffer.from(again.payload.subarray(28, 34))).toEqual(Buffer.from(bytesOf(client.mac)));
  expect((await handle.leases(net)).map((lease) => lease.mac)).toEqual([client.mac]);
});

describe('limits', () => {
  test('a station that floods is held back, and others still reach everybody', async () => {
    for (let i = 0; i < 3000; i++) guest.say(BROADCAST, 'noise');
    for (let i = 0; i < 3000; i++) guest.say(macOf(99), 'to nobody');
    guest.say(victim.mac, 'still here');
    await victim.hear('still here');
    const { storm } = await drops();
    // Half a second's worth may have come back meanwhile.
    expect(storm).toBeGreaterThan(2000);
    victim.say(BROADCAST, 'me too');
    await guest.hear('me too');
  });

  test('bandwidth and packets above the limit are dropped, in both directions', async () => {
    await handle.configurePort(net, 'port-1', {
      limits: {
        fromPort: { packetsPerSecond: 1, burstPackets: 5 },
        toPort: { bitsPerSecond: 8000, burstBytes: 3000 },
      },
    });
    for (let i = 0; i < 50; i++) guest.say(victim.mac, `packet ${i}`);
    await victim.hear('packet 4');
    for (let i = 0; i < 50; i++) victim.say(guest.mac, 'x'.repeat(986));
    const third = await plugIn(handle, 3, net);
    victim.say(third.mac, 'end');
    await third.hear('end');
    await handle.configurePort(net, 'port-1', {});
    victim.say(guest.mac, 'free again');
    await guest.hear('free again');
    const { rate } = await drops();
    expect(rate).toBeGreaterThanOrEqual(44 + 45);
  });

  test('a port has no more stations than it may', async () => {
    const many = await plugIn(handle, 5, net, { stationsMax: 10 });
    for (let i = 0; i < 50; i++)
      many.say(guest.mac, `from ${i}`, `02:aa:00:00:00:${i.toString(16).padStart(2, '0')}`);
    guest.say(BROADCAST, 'end');
    await many.hear('end');
    expect(await drops('port-5')).toEqual({ stationLimit: 40 });
    expect((await handle.macTable(net)).filter((entry) => entry.portId === 'port-5')).toHaveLength(10);
  });
});

test('a firewall drops and counts on both sides, and knows conversations over a change of other settings', async () => {
  const rule = { direction: 'ingress', action: 'allow', protocol: 'udp', ports: [7, 7] } as const;
  const settings = { protection: {}, addresses: [OTHER], firewall: [rule] };
  await handle.configurePort(net, 'port-2', settings);
  const ask = (
    to: FakeGuest,
    from: string,
    ip: string,
    fromPort: number,
    toPort: number,
    text: string,
  ): void => {
    const sender = to === victim ? guest : victim;
    sender.sendUdp({ toMac: to.mac, from, to: ip, fromPort, toPort, payload: Buffer.from(text) });
  };
  const heard = async (who: FakeGuest, text: string): Promise<void> => {
    await who.take((frame) => Buffer.from(frame).toString('latin1').includes(text));
  };
  ask(victim, OWN, OTHER, 5, 8, 'no');
  ask(victim, OWN, OTHER, 5, 7, 'yes');
  await heard(victim, 'yes');
  ask(guest, OTHER, OWN, 9, 10, 'question');
  await heard(guest, 'question');
  await handle.configurePort(net, 'port-2', {
    ...settings,
    limits: { fromPort: { packetsPerSecond: 1000 } },
  });
  ask(victim, OWN, OTHER, 10, 9, 'answer');
  await heard(victim, 'answer');
  expect(await drops('port-2')).toEqual({ firewall: 1 });
  await expect(
    handle.configurePort(net, 'port-2', { firewall: [{ ...rule, cidrs: ['x'] }] }),
  ).rejects.toMatchObject({ code: 'invalid_input', field: 'firewall[0]' });
});

test('nobody takes a protected station’s MAC address, and settings are checked', async () => {
  const open = await plugIn(handle, 6, net);
  open.say(BROADCAST, 'I am you', victim.mac);
  open.say(BROADCAST, 'end');
  expect(await guest.hear('end')).toEqual([]);
  expect(await drops('port-6')).toEqual({ forged: 1 });
  const attach = { networkId: net, portId: 'p', name: 'vm', mac: macOf(7) };
  const refused = (settings: object, field: string, code = 'invalid_input') =>
    expect(handle.attach({ ...attach, ...settings })).rejects.toMatchObject({ code, field });
  await refused({ addresses: ['10.78.0.1'] }, 'addresses');
  await refused({ addresses: ['here'] }, 'addresses');
  await refused({ addresses: [OWN] }, 'addresses', 'already_exists');
  await refused({ vlan: { mode: 'access', id: 4095 } }, 'vlan.id');
  await refused({ limits: { toPort: { bitsPerSecond: 0 } } }, 'limits.toPort.bitsPerSecond');
  await expect(handle.configurePort(net, 'none', {})).rejects.toMatchObject({ code: 'not_found' });
});
