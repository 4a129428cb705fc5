import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type SwitchHandle, startSwitch } from '../index.ts';
import { bytesOf, FakeGuest, macOf } from '../testing/fake-guest.ts';
import { ACK, FIN, PSH, SYN, TcpGuest } from '../testing/tcp-guest.ts';
import { parseIp6 } from '../wire/address6.ts';
import { buildEthernet } from '../wire/ethernet.ts';
import { buildUdp6 } from '../wire/ipv6.ts';

const GUEST = '10.0.2.15';
const GATEWAY = '10.0.2.2';

async function lab(): Promise<{ handle: SwitchHandle; guest: FakeGuest; gatewayMac: string }> {
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  const mac = macOf(1);
  await handle.createNetwork({
    ...{ id: 'net', name: 'lab', subnet: '10.0.2.0/24', gateway: GATEWAY },
    uplink: { kind: 'nat' },
  });
  const attachment = await handle.attach({
    networkId: 'net',
    portId: 'a',
    name: 'a',
    mac,
    addresses: [GUEST],
  });
  const gateway = (await handle.ports('net')).find(({ id }) => id === 'gateway')!;
  return { handle, guest: new FakeGuest(mac, attachment), gatewayMac: gateway.mac };
}

/** A port of the host that nobody has now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

const forwardTo = (hostPort: number, protocol: 'tcp' | 'udp' = 'tcp', id = 'f') => ({
  ...{ id, protocol, hostAddress: '127.0.0.1', hostPort, address: GUEST, port: 80 },
});

test('TCP: a client of the host talks to the guest', async () => {
  const { handle, guest, gatewayMac } = await lab();
  const hostPort = await freePort();
  await handle.forward('net', forwardTo(hostPort));
  const client = connect({ port: hostPort, host: '127.0.0.1', allowHalfOpen: true });
  onTestFinished(() => void client.destroy());
  client.write('hello');
  const asked = new Promise<number>((resolve) => {
    void guest.take((frame) => {
      const packet = Buffer.from(frame);
      const isSyn = packet.length > 47 && packet[23] === 6 && packet[47] === SYN;
      if (isSyn) resolve(packet.readUInt16BE(34));
      return isSyn;
    });
  });
  const fromPort = 80;
  const toPort = await asked;
  const tcp = new TcpGuest(guest, { gatewayMac, from: GUEST, to: GATEWAY, fromPort, toPort });
  // The SYN that was taken comes again.
  const syn = await tcp.take(({ flags }) => flags === SYN);
  const next = (syn.sequence + 1) >>> 0;
  tcp.send({ flags: SYN | ACK, sequence: 100, acknowledgment: next, options: [2, 4, 5, 180, 1, 3, 3, 7] });
  const hello = await tcp.take(({ data }) => data.length > 0);
  expect([String(hello.data), hello.acknowledgment]).toEqual(['hello', 101]);
  const answer = once(client, 'data');
  const ended = once(client, 'end');
  tcp.send({
    flags: ACK | PSH,
    sequence: 101,
    acknowledgment: next + 5,
    window: 512,
    data: Buffer.from('world'),
  });
  tcp.send({ flags: ACK | FIN, sequence: 106, acknowledgment: next + 5, window: 512 });
  expect(String((await answer)[0])).toBe('world');
  await ended;
  client.end();
  await tcp.take(({ flags, acknowledgment }) => (flags & FIN) !== 0 && acknowledgment === 107);
  // From now on nobody listens there.
  await handle.unforward('net', 'f');
  const [error] = (await once(connect({ port: hostPort, host: '127.0.0.1' }), 'error')) as [
    NodeJS.ErrnoException,
  ];
  expect(error.code).toBe('ECONNREFUSED');
});

test('UDP: each client of the host gets the guest’s answers to it', async () => {
  const { handle, guest, gatewayMac } = await lab();
  const hostPort = await freePort();
  await handle.forward('net', forwardTo(hostPort, 'udp'));
  const clients = [createSocket('udp4'), createSocket('udp4')];
  onTestFinished(() => {
    for (const client of clients) client.close();
  });
  for (const [index, client] of clients.entries()) {
    client.send(`from ${index}`, hostPort, '127.0.0.1');
    const frame = Buffer.from(await guest.take((bytes) => Buffer.from(bytes).includes(`from ${index}`)));
    const reply = once(client, 'message');
    const [toPort, payload] = [frame.readUInt16BE(34), Buffer.from(`to ${index}`)];
    guest.sendUdp({ toMac: gatewayMac, from: GUEST, to: GATEWAY, fromPort: 80, toPort, payload });
    const [message, sender] = (await reply) as [Buffer, { port: number }];
    expect([String(message), sender.port]).toEqual([`to ${index}`, hostPort]);
  }
});

test('over IPv6: UDP is answered, TCP arrives, both from the gateway’s address', async () => {
  const { handle, guest, gatewayMac } = await lab();
  const prefix = 'fd00:2::/64';
  const network = { id: 'net', name: 'lab', subnet: '10.0.2.0/24', gateway: GATEWAY };
  await handle.configureNetwork({
    ...{ ...network, uplink: { kind: 'nat' } },
    ipv6: { prefix, addressing: 'slaac' },
  });
  // The one that it makes of its MAC address.
  const own = parseIp6('fd00:2::ff:fe00:1')!;
  const gateway6 = parseIp6('fd00:2::1')!;
  const hostPort = await freePort();
  const there = { hostAddress: '::1', hostPort, address: 'fd00:2::ff:fe00:1', port: 80 };
  await handle.forward('net', { ...there, id: 'u', protocol: 'udp' });
  await handle.forward('net', { ...there, id: 't', protocol: 'tcp' });
  const client = createSocket('udp6');
  onTestFinished(() => void client.close());
  const answered = once(client, 'message');
  client.send('ask', hostPort, '::1');
  const isIp6 = (bytes: Uint8Array, protocol: number): boolean =>
    bytes[12] === 0x86 && bytes[13] === 0xdd && bytes[20] === protocol;
  const asked = Buffer.from(await guest.take((bytes) => isIp6(bytes, 17)));
  expect([...asked.subarray(22, 54)]).toEqual([...gateway6, ...own]);
  expect(asked.subarray(62).toString()).toBe('ask');
  const payload = buildUdp6({
    ...{ source: own, destination: gateway6, sourcePort: 80, destinationPort: asked.readUInt16BE(54) },
    payload: Buffer.from('answer'),
  });
  const frame = { destination: bytesOf(gatewayMac), source: bytesOf(guest.mac), type: 0x86dd, payload };
  guest.nic.send([buildEthernet(frame)]);
  expect(String((await answered)[0])).toBe('answer');
  const tcp = connect({ port: hostPort, host: '::1' });
  tcp.on('error', () => undefined);
  onTestFinished(() => void tcp.destroy());
  const syn = Buffer.from(await guest.take((bytes) => isIp6(bytes, 6)));
  expect([...syn.subarray(22, 54)]).toEqual([...gateway6, ...own]);
  expect([syn.readUInt16BE(56), syn[67]]).toEqual([80, SYN]);
  const other = { ...there, id: 'o', protocol: 'udp', address: 'fd00:3::1' } as const;
  await expect(handle.forward('net', other)).rejects.toMatchObject({ field: 'address' });
});

test('a port that is taken, and a network without NAT, are told; a guest that is not there resets', async () => {
  const { handle } = await lab();
  const server = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const taken = handle.forward('net', forwardTo(address.port));
  await expect(taken).rejects.toMatchObject({ code: 'in_use', field: 'host_port' });
  await handle.createNetwork({ id: 'other', name: 'other', subnet: '10.0.2.0/24' });
  const hostPort = await freePort();
  await expect(handle.forward('other', forwardTo(hostPort))).rejects.toMatchObject({ code: 'conflict' });
  await handle.forward('net', { ...forwardTo(hostPort), address: '10.0.2.99' });
  const [error] = (await once(connect({ port: hostPort, host: '127.0.0.1' }), 'error')) as [
    NodeJS.ErrnoException,
  ];
  expect(error.code).toBe('ECONNRESET');
});
