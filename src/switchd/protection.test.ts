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
import { ETHERTYPE_IPV6, ethernet, ip6, neighbor, udpBytes } from './testing/packets.ts';
import {
  ALL_NODES,
  ARP,
  arp,
  IPV4,
  icmp6,
  LINK_LOCAL,
  mac,
  OTHER,
  OWN,
  OWN_6,
  SPOOFS,
  UDP,
  udp4,
  VICTIM_6,
} from './testing/spoofs.ts';

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

const send = (frame: Uint8Array): boolean => guest.nic.send([frame]);

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
