/** IPv6 of a network: advertisements, neighbor discovery, DHCPv6, DNS; and names that other servers are asked for. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { NetworkOptions, SwitchHandle } from '../index.ts';
import { bytesOf, type FakeGuest, labSwitch, plugIn } from '../testing/fake-guest.ts';
import { ETHERTYPE_IPV6, ethernet, ip6, ip6Bytes, neighbor, udpBytes } from '../testing/packets.ts';
import { eui64Address, formatIp6, linkLocalAddress } from '../wire/address6.ts';
import { internetChecksum } from '../wire/checksum.ts';
import { parseIpv6 } from '../wire/ipv6.ts';

const PREFIX = 'fd00:77::/64';
const GATEWAY = 'fd00:77::1';
const LINK_LOCAL = 'fe80::ff:fe00:1';
const [ICMP, UDP] = [58, 17];

let handle: SwitchHandle;
let guest: FakeGuest;
let count = 0;
let net: string;
let gatewayMac: string;

async function open(options: Partial<NetworkOptions> = {}): Promise<void> {
  net = `six-${count++}`;
  const ipv6 = { prefix: PREFIX, addressing: 'slaac' } as const;
  await handle.createNetwork({ id: net, name: 'six', subnet: '10.77.0.0/24', ipv6, ...options });
  guest = await plugIn(handle, 1, net, { protection: {}, addresses: ['10.77.0.50'] });
  gatewayMac = (await handle.ports(net)).find(({ id }) => id === 'gateway')!.mac;
}
beforeEach(async () => {
  handle = await labSwitch();
});
afterEach(() => handle.close());

const group = (last: number): string => `33:33:00:00:00:0${last}`;

function send(to: string, packet: Parameters<typeof ip6>[0]): void {
  const bytes = ip6(packet);
  // The checksum's place: in ICMPv6 at 2, in UDP at 6.
  const at = 40 + (packet.next === ICMP ? 2 : 6);
  bytes.set([0, 0], at);
  const sum = internetChecksum(bytes.subarray(8), packet.payload.length + packet.next);
  bytes.set([sum >> 8, sum & 255], at);
  guest.nic.send([ethernet(to, guest.mac, ETHERTYPE_IPV6, bytes)]);
}

/** The next packet of a protocol whose payload begins as `matches` wants; its checksum has to be right. */
async function receive(protocol: number, matches: (payload: Uint8Array) => boolean) {
  const packetOf = (frame: Uint8Array) => {
    const packet = frame[12] === 0x86 ? parseIpv6(frame.subarray(14)) : undefined;
    return packet?.protocol === protocol && matches(packet.payload) ? packet : undefined;
  };
  const packet = packetOf(await guest.take((frame) => packetOf(frame) !== undefined))!;
  const pseudo = Buffer.concat([packet.source, packet.destination, packet.payload]);
  expect(internetChecksum(pseudo, packet.payload.length + protocol)).toBe(0);
  return packet;
}

test('a solicitation is answered with the prefix, the name server and the domain', async () => {
  await open();
  send(group(2), { from: LINK_LOCAL, to: 'ff02::2', next: ICMP, payload: [133, 0, 0, 0, 0, 0, 0, 0] });
  const { payload, source, hopLimit } = await receive(ICMP, (bytes) => bytes[0] === 134);
  expect(hopLimit).toBe(255);
  expect(Buffer.from(source)).toEqual(Buffer.from(linkLocalAddress(bytesOf(gatewayMac))));
  // Other configuration, and no router: there is no way out.
  expect([payload[5], payload[6], payload[7]]).toEqual([0x40, 0, 0]);
  const hex = Buffer.from(payload).toString('hex');
  expect(hex).toContain(`0101${gatewayMac.replaceAll(':', '')}`);
  expect(hex).toContain(`030440c0000151800000384000000000fd000077${'0'.repeat(24)}`);
  expect(hex).toContain(`1903000000000708${Buffer.from(ip6Bytes(GATEWAY)).toString('hex')}`);
  expect(Buffer.from(payload).toString('latin1')).toContain('\x03six\x08internal\0');
});

test('a managed network with a way out says so, and DHCPv6 gives the station its address', async () => {
  await open({ ipv6: { prefix: PREFIX, addressing: 'dhcp' }, uplink: { kind: 'nat' } });
  send(group(2), { from: LINK_LOCAL, to: 'ff02::2', next: ICMP, payload: [133, 0, 0, 0, 0, 0, 0, 0] });
  const { payload } = await receive(ICMP, (bytes) => bytes[0] === 134);
  expect([payload[5], payload[6]! * 256 + payload[7]!]).toEqual([0xc0, 1800]);
  const hex = Buffer.from(payload).toString('hex');
  expect(hex).toContain('03044080');
  const clientId = [0, 1, 0, 4, 9, 9, 9, 9];
  const ia = [0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0];
  const ask = async (type: number, options: readonly number[]): Promise<Buffer> => {
    const message = [type, 1, 2, 3, ...clientId, ...options];
    const header = udpBytes(546, 547, 'x'.repeat(message.length)).slice(0, 8);
    send('33:33:00:01:00:02', {
      from: LINK_LOCAL,
      to: 'ff02::1:2',
      next: UDP,
      payload: [...header, ...message],
    });
    const packet = await receive(UDP, (bytes) => bytes[1] === 547 - 512);
    return Buffer.from(packet.payload.subarray(8));
  };
  const own = formatIp6(eui64Address(ip6Bytes('fd00:77::'), bytesOf(guest.mac)));
  const given = Buffer.from(ip6Bytes(own)).toString('hex');
  const serverId = `0002000a00030001${gatewayMac.replaceAll(':', '')}`;
  const advertised = (await ask(1, ia)).toString('hex');
  expect(advertised.slice(0, 8)).toBe('02010203');
  expect(advertised).toContain(serverId);
  expect(advertised).toContain(`0003002800000007${'00000708'}${'00000b40'}00050018${given}`);
  const replied = (await ask(3, [...Buffer.from(serverId, 'hex'), ...ia])).toString('hex');
  expect(replied.slice(0, 8)).toBe('07010203');
  expect(replied).toContain(`00170010${Buffer.from(ip6Bytes(GATEWAY)).toString('hex')}`);
  expect((await ask(11, [])).toString('hex')).not.toContain(given);
  // Another server's is not for this one: the next is answered.
  const other = [0, 2, 0, 10, 0, 3, 0, 1, 1, 1, 1, 1, 1, 1];
  send('33:33:00:01:00:02', {
    from: LINK_LOCAL,
    to: 'ff02::1:2',
    next: UDP,
    payload: [...udpBytes(546, 547, 'x'.repeat(26)).slice(0, 8), 3, 9, 9, 9, ...clientId, ...other],
  });
  expect((await ask(11, [])).subarray(1, 4)).toEqual(Buffer.of(1, 2, 3));
});

test('the gateway is a neighbor, and answers pings and questions for names', async () => {
  await open();
  await plugIn(handle, 2, net, { addresses: ['10.77.0.60', 'fd00:77::60'] });
  const solicited = `33:33:ff:00:00:01`;
  send(solicited, {
    from: LINK_LOCAL,
    to: 'ff02::1:ff00:1',
    next: ICMP,
    payload: neighbor(135, GATEWAY, guest.mac),
  });
  const { payload } = await receive(ICMP, (bytes) => bytes[0] === 136);
  expect(formatIp6(payload.subarray(8, 24))).toBe(GATEWAY);
  expect(Buffer.from(payload.subarray(26))).toEqual(Buffer.from(bytesOf(gatewayMac)));
  const own = 'fd00:77::ff:fe00:1';
  send(gatewayMac, { from: own, to: GATEWAY, next: ICMP, payload: [128, 0, 0, 0, 1, 2, 3, 4, 5, 6] });
  const pong = await receive(ICMP, (bytes) => bytes[0] === 129);
  expect([...pong.payload.subarray(4)]).toEqual([1, 2, 3, 4, 5, 6]);
  const question = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4, ...Buffer.from('vm-2'), 0, 0, 28, 0, 1];
  const header = udpBytes(5000, 53, 'x'.repeat(question.length)).slice(0, 8);
  send(gatewayMac, { from: own, to: GATEWAY, next: UDP, payload: [...header, ...question] });
  const answer = await receive(UDP, (bytes) => bytes[1] === 53);
  expect(Buffer.from(answer.payload.subarray(-16))).toEqual(Buffer.from(ip6Bytes('fd00:77::60')));
});

test('names of elsewhere are asked of the servers given, one after the other, and the network’s own are not', async () => {
  const silent = createSocket('udp4').bind(0, '127.0.0.1');
  const server = createSocket('udp4').bind(0, '127.0.0.1');
  await Promise.all([once(silent, 'listening'), once(server, 'listening')]);
  const asked: Buffer[] = [];
  server.on('message', (query, from) => {
    asked.push(query);
    const answer = Buffer.concat([query, Buffer.from('c00c00010001000000050004c0000201', 'hex')]);
    answer.writeUInt16BE(0x8180, 2);
    answer.writeUInt16BE(1, 6);
    // A wrong number first, which is not to be believed.
    const wrong = Buffer.from(answer);
    wrong.writeUInt16BE(wrong.readUInt16BE(0) ^ 1, 0);
    server.send(wrong, from.port, from.address);
    server.send(answer, from.port, from.address);
  });
  const address = (socket: Socket): string => `127.0.0.1:${socket.address().port}`;
  await open({ dnsServers: [address(silent), address(server)] });
  const ask = async (name: string): Promise<Buffer> => {
    const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
    const payload = Uint8Array.from([0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
    const to = { toMac: gatewayMac, from: '10.77.0.50', to: '10.77.0.1', fromPort: 999, toPort: 53 };
    return Buffer.from((await guest.ask({ ...to, payload })).payload);
  };
  const answer = await ask('www.example.org');
  expect(answer.readUInt16BE(0)).toBe(0xabcd);
  expect(answer.subarray(-4)).toEqual(Buffer.of(192, 0, 2, 1));
  expect(asked).toHaveLength(1);
  expect((await ask('vm-1.six.internal')).subarray(-4)).toEqual(Buffer.of(10, 77, 0, 50));
  expect((await ask('nobody.six.internal'))[3]! & 15).toBe(3);
  expect((await ask('nobody'))[3]! & 15).toBe(3);
  expect((await ask('9.0.77.10.in-addr.arpa'))[3]! & 15).toBe(3);
  expect(asked).toHaveLength(1);
  silent.close();
  server.close();
});
