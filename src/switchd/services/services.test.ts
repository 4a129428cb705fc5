import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SwitchHandle } from '../index.ts';
import { BROADCAST, bytesOf, type FakeGuest, labSwitch, macOf, plugIn } from '../testing/fake-guest.ts';
import { formatIp, formatMac, parseIp } from '../wire/address.ts';
import { ARP_REPLY, ARP_REQUEST, buildArp, parseArp } from '../wire/arp.ts';
import { internetChecksum } from '../wire/checksum.ts';
import { buildEthernet, ETHERTYPE_ARP, ETHERTYPE_IPV4, parseEthernet } from '../wire/ethernet.ts';
import { buildIpv4, PROTOCOL_ICMP, parseIpv4 } from '../wire/ipv4.ts';

const GATEWAY = '10.77.0.1';
const [A, PTR, AAAA] = [1, 12, 28];
const XID = [0x12, 0x34, 0x56, 0x78];

let handle: SwitchHandle;
let gatewayMac: string;
beforeEach(async () => {
  handle = await labSwitch();
  gatewayMac = (await handle.ports('net')).find(({ id }) => id === 'gateway')!.mac;
});
afterEach(() => handle.close());

const ipBytes = (ip: string): number[] => ip.split('.').map(Number);
const hex = (bytes: Iterable<number>): string => Buffer.from([...bytes]).toString('hex');

interface Message {
  readonly mac: string;
  readonly clientIp?: string;
  readonly relayIp?: string;
  readonly flags?: number;
  readonly options: readonly number[];
}

/** A client's message, byte by byte as RFC 2131 figure 1 has it. */
function dhcpBytes({
  mac,
  clientIp = '0.0.0.0',
  relayIp = '0.0.0.0',
  flags = 0,
  options,
}: Message): Uint8Array {
  return Uint8Array.from([
    ...[1, 1, 6, 0],
    ...XID,
    ...[0, 0, flags >> 8, flags & 255],
    ...ipBytes(clientIp),
    ...[0, 0, 0, 0, 0, 0, 0, 0],
    ...ipBytes(relayIp),
    ...bytesOf(mac),
    ...new Uint8Array(10 + 64 + 128),
    ...[0x63, 0x82, 0x53, 0x63],
    ...options,
    255,
  ]);
}

function dhcpDatagram(message: Message) {
  const from = message.clientIp ?? '0.0.0.0';
  const payload = dhcpBytes(message);
  return { toMac: BROADCAST, from, to: '255.255.255.255', fromPort: 68, toPort: 67, payload };
}

async function dhcp(guest: FakeGuest, message: Message) {
  const reply = await guest.ask(dhcpDatagram(message));
  return { ...reply, type: reply.payload[242]!, ip: formatIp(Buffer.from(reply.payload).readUInt32BE(16)) };
}

/** Sends a message that has no reply. Frames are handled in order: once a query after it is answered, it has been. */
async function tell(guest: FakeGuest, message: Message): Promise<void> {
  guest.inbox.length = 0;
  guest.sendUdp(dhcpDatagram(message));
  await dns(guest, 'gateway', A);
  expect(guest.inbox).toEqual([]);
}

function dnsQuery(name: string, type: number): Uint8Array {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.from([0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, type, 0, 1]);
}

async function dnsRaw(guest: FakeGuest, payload: Uint8Array): Promise<string> {
  const from = { from: '10.77.0.5', to: GATEWAY, fromPort: 5353, toPort: 53 };
  return hex((await guest.ask({ toMac: gatewayMac, ...from, payload })).payload);
}

/** Flags and counts of the reply, then what follows the question. */
async function dns(guest: FakeGuest, name: string, type: number): Promise<[header: string, records: string]> {
  const query = dnsQuery(name, type);
  const reply = await dnsRaw(guest, query);
  expect(reply.slice(0, 4)).toBe('abcd');
  expect(reply.slice(24, 2 * query.length)).toBe(hex(query.subarray(12)));
  return [reply.slice(4, 24), reply.slice(2 * query.length)];
}

/** DISCOVER, then REQUEST of what was offered. */
async function lease(guest: FakeGuest, mac = guest.mac): Promise<string> {
  const offer = await dhcp(guest, { mac, options: [53, 1, 1] });
  const options = [53, 1, 3, 54, 4, ...ipBytes(GATEWAY), 50, 4, ...ipBytes(offer.ip)];
  const ack = await dhcp(guest, { mac, options });
  expect([offer.type, ack.type, ack.ip]).toEqual([2, 5, offer.ip]);
  return ack.ip;
}

test('DHCP offers with every byte where the RFCs have it', async () => {
  const guest = await plugIn(handle, 1);
  const clientId = [61, 7, 1, ...bytesOf(guest.mac)];
  const offer = await dhcp(guest, { mac: guest.mac, options: [53, 1, 1, ...clientId, 50, 4, 10, 77, 0, 99] });
  const options = [
    ...[53, 1, 2, 54, 4, 10, 77, 0, 1],
    ...[51, 4, 0, 0, 0x0e, 0x10, 58, 4, 0, 0, 0x07, 0x08, 59, 4, 0, 0, 0x0c, 0x4e],
    ...[1, 4, 255, 255, 255, 0, 3, 4, 10, 77, 0, 1, 6, 4, 10, 77, 0, 1],
    ...[12, 4, ...Buffer.from('vm-1'), 15, 12, ...Buffer.from('lab.internal'), 28, 4, 10, 77, 0, 255],
    ...clientId,
    255,
  ];
  const expected = [
    ...[2, 1, 6, 0, ...XID, 0, 0, 0, 0],
    ...[0, 0, 0, 0, 10, 77, 0, 99, 0, 0, 0, 0, 0, 0, 0, 0],
    ...bytesOf(guest.mac),
    ...new Uint8Array(10 + 64 + 128),
    ...[0x63, 0x82, 0x53, 0x63],
    ...options,
  ];
  expect(hex(offer.payload)).toBe(hex([...expected, ...new Uint8Array(Math.max(0, 300 - expected.length))]));
  expect(offer).toMatchObject({ destinationMac: guest.mac, destinationIp: parseIp('10.77.0.99') });
});

test('DHCP gives each station an address of its own, and the same one again', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const [first, second] = [await lease(a), await lease(b)];
  expect(first).not.toBe(second);
  expect(await lease(a)).toBe(first);
  await tell(a, { mac: a.mac, clientIp: first, options: [53, 1, 7, 54, 4, ...ipBytes(GATEWAY)] });
  expect(await leasedAddresses()).toEqual([second]);
  expect(await lease(a)).toBe(first);
  expect(await handle.leases('net')).toContainEqual(
    expect.objectContaining({ mac: a.mac, address: first, hostName: 'vm-1', portId: 'port-1' }),
  );
});

async function leasedAddresses(): Promise<string[]> {
  return (await handle.leases('net')).map(({ address }) => address);
}

test('DHCP renews, lets a rebooted client keep its address, and refuses what is not its own', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const address = await lease(a);
  const renewal = await dhcp(a, { mac: a.mac, clientIp: address, options: [53, 1, 3] });
  expect(renewal).toMatchObject({ type: 5, ip: address, destinationIp: parseIp(address) });
  const reboot = await dhcp(a, { mac: a.mac, options: [53, 1, 3, 50, 4, ...ipBytes(address)] });
  expect(reboot).toMatchObject({ type: 5, ip: address });
  for (const other of [address, '192.168.1.5', GATEWAY, '10.77.0.255']) {
    const refused = await dhcp(b, { mac: b.mac, options: [53, 1, 3, 50, 4, ...ipBytes(other)] });
    expect(refused).toMatchObject({ type: 6, ip: '0.0.0.0', destinationMac: BROADCAST });
  }
});

test('DHCP broadcasts to a client that asks for it', async () => {
  const guest = await plugIn(handle, 1);
  const offer = await dhcp(guest, { mac: guest.mac, flags: 0x8000, options: [53, 1, 1] });
  expect(offer).toMatchObject({ type: 2, destinationMac: BROADCAST, destinationIp: 0xffff_ffff });
});

test('DHCP does not hand out a declined address', async () => {
  const guest = await plugIn(handle, 1);
  const address = await lease(guest);
  const options = [53, 1, 4, 54, 4, ...ipBytes(GATEWAY), 50, 4, ...ipBytes(address)];
  await tell(guest, { mac: guest.mac, options });
  expect(await leasedAddresses()).toEqual([]);
  expect(await lease(guest)).not.toBe(address);
});

test('DHCP answers INFORM without an address', async () => {
  const guest = await plugIn(handle, 1);
  const reply = await dhcp(guest, { mac: guest.mac, clientIp: '10.77.0.5', options: [53, 1, 8] });
  expect(reply).toMatchObject({ type: 5, ip: '0.0.0.0', destinationIp: parseIp('10.77.0.5') });
  expect(hex(reply.payload.subarray(240))).not.toContain('330400000e10');
});

test('DHCP frees an offer whose client chose another server', async () => {
  const guest = await plugIn(handle, 1);
  await dhcp(guest, { mac: guest.mac, options: [53, 1, 1] });
  await tell(guest, { mac: guest.mac, options: [53, 1, 3, 54, 4, 10, 77, 0, 200, 50, 4, 10, 77, 0, 50] });
  expect(await leasedAddresses()).toEqual([]);
});

test('DHCP ignores malformed messages and relays', async () => {
  const guest = await plugIn(handle, 1);
  const { mac } = guest;
  await tell(guest, { mac, options: [] });
  await tell(guest, { mac, options: [53, 1, 99] });
  await tell(guest, { mac, options: [53, 1, 1, 12, 200, 65] });
  await tell(guest, { mac, options: [53, 2, 1, 1] });
  await tell(guest, { mac, relayIp: '10.77.0.9', options: [53, 1, 1] });
  expect(await leasedAddresses()).toEqual([]);
});

test('one port cannot empty the pool', async () => {
  const [greedy, other] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  for (let i = 0; i < 16; i++) await lease(greedy, macOf(100 + i));
  await tell(greedy, { mac: macOf(200), options: [53, 1, 1] });
  expect(await leasedAddresses()).toHaveLength(16);
  await lease(other);
});

test('DNS knows the VMs of the network, both ways, and nobody else', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const address = await lease(b);
  const record = `c00c000100010000000a0004${hex(ipBytes(address))}`;
  for (const name of ['vm-2', 'VM-2', 'vm-2.lab.internal']) {
    expect(await dns(a, name, A)).toEqual(['85000001000100000000', record]);
  }
  const reversed = `${ipBytes(address).reverse().join('.')}.in-addr.arpa`;
  const target = `04${hex(Buffer.from('vm-2'))}03${hex(Buffer.from('lab'))}08${hex(Buffer.from('internal'))}00`;
  expect(await dns(a, reversed, PTR)).toEqual(['85000001000100000000', `c00c000c00010000000a0013${target}`]);
  expect(await dns(a, 'vm-2', AAAA)).toEqual(['85000001000000000000', '']);
  for (const name of ['vm-3', 'debian.org', '9.9.9.9.in-addr.arpa', 'x.in-addr.arpa']) {
    expect(await dns(a, name, A)).toEqual(['85030001000000000000', '']);
  }
});

test('DNS rejects what it cannot read', async () => {
  const guest = await plugIn(handle, 1);
  const header = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
  const formatError = 'abcd85010000000000000000';
  for (const question of [[], [63, 65], [0xc0, 12, 0, 1, 0, 1], [1, 65, 0, 0, 1, 0]]) {
    expect(await dnsRaw(guest, Uint8Array.from([...header, ...question]))).toBe(formatError);
  }
  const update = dnsQuery('vm-1', A);
  update[2] = 0x28;
  expect((await dnsRaw(guest, update)).slice(4, 8)).toBe('ac04');
});

test('the gateway answers ARP for its own address only', async () => {
  const guest = await plugIn(handle, 1);
  const request = (target: string) =>
    guest.nic.send([
      buildEthernet({
        destination: bytesOf(BROADCAST),
        source: bytesOf(guest.mac),
        type: ETHERTYPE_ARP,
        payload: buildArp({
          operation: ARP_REQUEST,
          senderMac: bytesOf(guest.mac),
          senderIp: parseIp('10.77.0.5')!,
          targetMac: new Uint8Array(6),
          targetIp: parseIp(target)!,
        }),
      }),
    ]);
  request('10.77.0.2');
  request(GATEWAY);
  const frame = parseEthernet(await guest.take(() => true))!;
  expect(formatMac(frame.destination)).toBe(guest.mac);
  expect(parseArp(frame.payload)).toEqual({
    operation: ARP_REPLY,
    senderMac: bytesOf(gatewayMac),
    senderIp: parseIp(GATEWAY),
    targetMac: bytesOf(guest.mac),
    targetIp: parseIp('10.77.0.5'),
  });
});

function ping(guest: FakeGuest, from: string, payload: Uint8Array): void {
  const packet = buildIpv4({
    source: parseIp(from)!,
    destination: parseIp(GATEWAY)!,
    protocol: PROTOCOL_ICMP,
    payload,
  });
  const [destination, source] = [bytesOf(gatewayMac), bytesOf(guest.mac)];
  guest.nic.send([buildEthernet({ destination, source, type: ETHERTYPE_IPV4, payload: packet })]);
}

test('the gateway answers pings from its own subnet', async () => {
  const guest = await plugIn(handle, 1);
  const request = Uint8Array.from([8, 0, 0, 0, 0xca, 0xfe, 0, 7, ...Buffer.from('payload of odd size')]);
  ping(guest, '10.77.0.5', request); // wrong checksum
  new DataView(request.buffer).setUint16(2, internetChecksum(request));
  ping(guest, '8.8.8.8', request);
  ping(guest, '10.77.0.5', request);
  const packet = parseIpv4(parseEthernet(await guest.take(() => true))!.payload)!;
  expect([formatIp(packet.source), formatIp(packet.destination)]).toEqual([GATEWAY, '10.77.0.5']);
  expect(internetChecksum(packet.payload)).toBe(0);
  expect(hex(packet.payload.subarray(4))).toBe(hex(request.subarray(4)));
  expect(packet.payload[0]).toBe(0);
});
