import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type SwitchHandle, startSwitch } from '../index.ts';
import { fold, sumOf } from '../offload/offload.ts';
import { FakeGuest, macOf } from '../testing/fake-guest.ts';
import { ip6, ip6Bytes, udpBytes } from '../testing/packets.ts';
import { ACK, FIN, type Got, PSH, RST, SYN, TcpGuest } from '../testing/tcp-guest.ts';
import { buildIpv4, PROTOCOL_UDP, parseIpv4 } from '../wire/ipv4.ts';
import { parseIp } from '../wire/address.ts';
import { buildEthernet, ETHERTYPE_IPV4, parseEthernet } from '../wire/ethernet.ts';
import { bytesOf } from '../testing/fake-guest.ts';
import { buildUdp, parseUdp } from '../wire/udp.ts';
import type { NatPolicyOptions } from './policy.ts';
import { AS_THE_USER } from './policy.ts';

const GATEWAY = '10.0.2.2';
const GUEST = '10.0.2.15';
/** Maximum segment size 1460, windows scaled by 7. */
const OPTIONS = [2, 4, 5, 180, 1, 3, 3, 7];

interface Lab {
  readonly handle: SwitchHandle;
  readonly guest: FakeGuest;
  readonly gatewayMac: string;
}

async function lab(nat: NatPolicyOptions = AS_THE_USER): Promise<Lab> {
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  await handle.createNetwork({
    id: 'net',
    name: 'lab',
    subnet: '10.0.2.0/24',
    gateway: GATEWAY,
    uplink: { kind: 'nat' },
    nat,
  });
  const mac = macOf(1);
  const guest = new FakeGuest(mac, await handle.attach({ networkId: 'net', portId: 'a', name: 'a', mac }));
  const gateway = (await handle.ports('net')).find(({ id }) => id === 'gateway')!;
  return { handle, guest, gatewayMac: gateway.mac };
}

/** A server of the host's, whose connections wait in order. */
async function hostServer(): Promise<{ port: number; next: () => Promise<Socket> }> {
  const sockets: Socket[] = [];
  let arrived = Promise.withResolvers<void>();
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    sockets.push(socket);
    arrived.resolve();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  let taken = 0;
  return {
    port: address.port,
    async next() {
      while (sockets.length === taken) {
        arrived = Promise.withResolvers();
        await arrived.promise;
      }
      return sockets[taken++]!;
    },
  };
}

function connection({ guest, gatewayMac }: Lab, toPort: number, to = GATEWAY): TcpGuest {
  return new TcpGuest(guest, { gatewayMac, from: GUEST, to, fromPort: 5000, toPort });
}

interface Open {
  readonly tcp: TcpGuest;
  readonly socket: Socket;
  /** Next number of ours, and the first of theirs. */
  readonly ours: number;
  readonly theirs: number;
}

async function open(network: Lab, options = OPTIONS): Promise<Open> {
  const server = await hostServer();
  const tcp = connection(network, server.port);
  tcp.send({ flags: SYN, sequence: 999, options });
  const answer = await tcp.take(({ flags }) => flags === (SYN | ACK));
  expect(answer.acknowledgment).toBe(1000);
  const theirs = (answer.sequence + 1) >>> 0;
  tcp.send({ flags: ACK, sequence: 1000, acknowledgment: theirs, window: 512 });
  return { tcp, socket: await server.next(), ours: 1000, theirs };
}

/** Whether in order or not. */
function closeOf(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once('close', () => resolve());
  });
}

async function readAll(socket: Socket, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let count = 0;
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk as Buffer);
    count += (chunk as Buffer).length;
    if (count >= bytes) break;
  }
  return Buffer.concat(chunks);
}

test('a connection: options, data both ways, half-close by each side in turn', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  tcp.send({
    flags: ACK | PSH,
    sequence: ours,
    acknowledgment: theirs,
    window: 512,
    data: Buffer.from('hello'),
  });
  expect(String(await readAll(socket, 5))).toBe('hello');
  await tcp.take(({ acknowledgment }) => acknowledgment === ours + 5);
  // The guest has said everything; the host may still speak.
  const ended = once(socket, 'end');
  socket.resume();
  tcp.send({ flags: ACK | FIN, sequence: ours + 5, acknowledgment: theirs, window: 512 });
  await ended;
  await tcp.take(({ acknowledgment }) => acknowledgment === ours + 6);
  socket.end('goodbye');
  const said = await tcp.take(({ data }) => data.length > 0);
  expect(String(said.data)).toBe('goodbye');
  const last = (said.flags & FIN) !== 0 ? said : await tcp.take(({ flags }) => (flags & FIN) !== 0);
  expect(last.sequence + last.data.length).toBe(theirs + 7);
  tcp.send({ flags: ACK, sequence: ours + 6, acknowledgment: theirs + 8, window: 512 });
  // A FIN that comes again is acknowledged again.
  tcp.send({ flags: ACK | FIN, sequence: ours + 5, acknowledgment: theirs + 8, window: 512 });
  expect(await tcp.take()).toMatchObject({ flags: ACK, acknowledgment: ours + 6 });
});

test('what is lost on the way to the guest is sent again; a window that is full is respected', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  const sent = Buffer.from(Array.from({ length: 200_000 }, (_, i) => (i * 7) & 255));
  socket.write(sent);
  const got = Buffer.alloc(sent.length);
  let next = 0;
  let seen = 0;
  while (next < sent.length) {
    const segment = await tcp.take(({ data }) => data.length > 0);
    const at = (segment.sequence - theirs) | 0;
    expect(at + segment.data.length).toBeLessThanOrEqual(next + 512 * 128);
    // Every eleventh segment is lost.
    if (++seen % 11 !== 0 && at <= next) {
      segment.data.copy(got, at);
      next = Math.max(next, at + segment.data.length);
    }
    tcp.send({ flags: ACK, sequence: ours, acknowledgment: theirs + next, window: 512 });
  }
  expect(got.equals(sent)).toBe(true);
});

test('a closed window is asked for, and data goes on when it opens', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  tcp.send({ flags: ACK, sequence: ours, acknowledgment: theirs, window: 0 });
  socket.write('x'.repeat(3000));
  const probe = await tcp.take(({ data }) => data.length === 1);
  expect(probe.sequence).toBe(theirs);
  tcp.send({ flags: ACK, sequence: ours, acknowledgment: theirs, window: 512 });
  let next = 0;
  while (next < 3000) {
    const { sequence, data } = await tcp.take(({ data: bytes }) => bytes.length > 0);
    next = Math.max(next, sequence - theirs + data.length);
    tcp.send({ flags: ACK, sequence: ours, acknowledgment: theirs + next, window: 512 });
  }
});

test('segments out of order and overlapping reach the host in order, once', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  const text = 'abcdefghijklmnopqrstuvwxyz';
  const part = (from: number, to: number): void =>
    tcp.send({
      flags: ACK,
      sequence: ours + from,
      acknowledgment: theirs,
      window: 512,
      data: Buffer.from(text.slice(from, to)),
    });
  part(10, 20);
  expect((await tcp.take()).acknowledgment).toBe(ours);
  part(15, 26);
  part(5, 12);
  part(0, 7);
  part(3, 9);
  expect(String(await readAll(socket, 26))).toBe(text);
  await tcp.take(({ acknowledgment }) => acknowledgment === ours + 26);
});

test('a host that does not read closes the guest’s window, and nothing is lost', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  socket.pause();
  const block = Buffer.alloc(32_768, 0x5a);
  let sequence = ours;
  let edge = ours + 65_535;
  const stopped = (segment: Got): boolean => segment.acknowledgment === sequence;
  let window = 65_535;
  for (let rounds = 0; window > 0 && rounds < 40_000; rounds++) {
    const data = block.subarray(0, Math.min(block.length, edge - sequence));
    tcp.send({ flags: ACK, sequence, acknowledgment: theirs, window: 512, data });
    sequence += data.length;
    const answer = await tcp.take(stopped);
    window = answer.window * 128;
    edge = answer.acknowledgment + window;
  }
  expect(window).toBe(0);
  // Beyond the window, but for less than what its scale can tell: not taken.
  tcp.send({ flags: ACK, sequence, acknowledgment: theirs, window: 512, data: block });
  const { acknowledgment } = await tcp.take();
  expect(acknowledgment - sequence).toBeLessThan(128);
  sequence = acknowledgment;
  const reading = readAll(socket, sequence - ours);
  const opened = await tcp.take((segment) => segment.window > 0);
  expect(opened.acknowledgment).toBe(sequence);
  expect((await reading).length).toBe(sequence - ours);
});

test('resets go through, both ways', async () => {
  const network = await lab();
  const first = await open(network);
  const closed = closeOf(first.socket);
  first.tcp.send({ flags: RST, sequence: first.ours, acknowledgment: 0 });
  await closed;
  const second = await open(network);
  second.socket.resetAndDestroy();
  expect((await second.tcp.take()).flags & RST).toBe(RST);
});

test('a forged reset within the window, and a SYN, are answered and change nothing', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  tcp.send({ flags: RST, sequence: ours + 100 });
  expect(await tcp.take()).toMatchObject({ flags: ACK, acknowledgment: ours });
  tcp.send({ flags: SYN, sequence: ours + 50 });
  expect(await tcp.take()).toMatchObject({ flags: ACK, acknowledgment: ours });
  tcp.send({
    flags: ACK,
    sequence: ours,
    acknowledgment: theirs + 5000,
    data: Buffer.from('acks the future'),
  });
  expect(await tcp.take()).toMatchObject({ flags: ACK, acknowledgment: ours });
  tcp.send({
    flags: ACK,
    sequence: ours,
    acknowledgment: theirs,
    window: 512,
    data: Buffer.from('still here'),
  });
  expect(String(await readAll(socket, 10))).toBe('still here');
});

test('nobody listens: refused; a segment of no connection: reset; a place that is not allowed: reset', async () => {
  const network = await lab({ allow: [], hostLoopback: true });
  const server = await hostServer();
  const refused = connection(network, 1);
  refused.send({ flags: SYN, sequence: 1, options: OPTIONS });
  expect(await refused.take()).toMatchObject({ flags: RST | ACK, acknowledgment: 2 });
  const stray = connection(network, server.port);
  stray.send({ flags: ACK, sequence: 7, acknowledgment: 4242, data: Buffer.from('?') });
  expect(await stray.take()).toMatchObject({ flags: RST, sequence: 4242 });
  for (const to of ['127.0.0.1', '192.168.1.1', '169.254.169.254', '224.0.0.1']) {
    const denied = connection(network, server.port, to);
    denied.send({ flags: SYN, sequence: 1, options: OPTIONS });
    expect((await denied.take()).flags, to).toBe(RST | ACK);
  }
});

test('without permission the gateway is not the host’s loopback', async () => {
  const network = await lab({ allow: ['private'], hostLoopback: false });
  const server = await hostServer();
  const tcp = connection(network, server.port);
  tcp.send({ flags: SYN, sequence: 1, options: OPTIONS });
  expect((await tcp.take()).flags).toBe(RST | ACK);
});

test('a guest that leaves takes its connections along', async () => {
  const network = await lab();
  const { socket } = await open(network);
  const closed = closeOf(socket);
  await network.guest.attachment.detach();
  await closed;
});

test('broken segments are dropped, and the connection lives', async () => {
  const network = await lab();
  const { tcp, socket, ours, theirs } = await open(network);
  const frame = (change: (bytes: Buffer) => void): void => {
    const bytes = Buffer.from(
      buildEthernet({
        destination: bytesOf(network.gatewayMac),
        source: bytesOf(network.guest.mac),
        type: ETHERTYPE_IPV4,
        payload: buildIpv4({
          source: parseIp(GUEST)!,
          destination: parseIp(GATEWAY)!,
          protocol: 6,
          payload: Buffer.alloc(40, 0x55),
        }),
      }),
    );
    change(bytes);
    network.guest.nic.send([bytes]);
  };
  frame(() => undefined);
  frame((bytes) => bytes.writeUInt16BE(4000, 16));
  frame((bytes) => bytes.writeUInt8(0x4f, 14));
  frame((bytes) => bytes.writeUInt8(0xf0, 46));
  frame((bytes) => bytes.writeUInt16BE(0x2000, 20));
  tcp.send({ flags: ACK, sequence: ours, acknowledgment: theirs, window: 512, data: Buffer.from('alive') });
  expect(String(await readAll(socket, 5))).toBe('alive');
});

test('UDP: an answer comes back, also one that is larger than a frame; a stranger’s does not', async () => {
  const network = await lab();
  const echo = createSocket('udp4');
  const stranger = createSocket('udp4');
  onTestFinished(() => {
    echo.close();
    stranger.close();
  });
  let hostPort = 0;
  echo.on('message', (payload, { address, port }) => {
    hostPort = port;
    echo.send(payload.length === 4 ? Buffer.alloc(4000, payload) : payload, port, address);
  });
  echo.bind(0, '127.0.0.1');
  await once(echo, 'listening');
  const to = {
    toMac: network.gatewayMac,
    from: GUEST,
    to: GATEWAY,
    fromPort: 700,
    toPort: echo.address().port,
  };
  const reply = await network.guest.ask({ ...to, payload: Buffer.from('ping!') });
  expect(Buffer.from(reply.payload).toString()).toBe('ping!');
  stranger.bind(0, '127.0.0.2');
  await once(stranger, 'listening');
  stranger.send('forged', hostPort, '127.0.0.1');
  network.guest.sendUdp({ ...to, payload: Buffer.from('abcd') });
  const whole = Buffer.alloc(4008);
  for (let got = 0; got < whole.length; ) {
    const bytes = await network.guest.take((candidate) => parseEthernet(candidate)?.type === ETHERTYPE_IPV4);
    const packet = Buffer.from(bytes.subarray(14));
    expect(String(packet)).not.toContain('forged');
    const at = (packet.readUInt16BE(6) & 0x1fff) * 8;
    got += packet.copy(whole, at, 20, packet.readUInt16BE(2));
  }
  const datagram = parseUdp(whole)!;
  expect(datagram.payload.length).toBe(4000);
  expect(Buffer.from(datagram.payload.subarray(0, 8)).toString()).toBe('abcdabcd');
});

test('UDP of a guest in fragments arrives whole', async () => {
  const network = await lab();
  const host = createSocket('udp4');
  onTestFinished(() => void host.close());
  host.bind(0, '127.0.0.1');
  await once(host, 'listening');
  const [source, destination] = [parseIp(GUEST)!, parseIp(GATEWAY)!];
  const payload = Buffer.from(Array.from({ length: 3000 }, (_, i) => i & 255));
  const udp = buildUdp({ sourcePort: 9, destinationPort: host.address().port, payload }, source, destination);
  const message = once(host, 'message');
  for (const [from, more] of [
    [2960, 0],
    [0, 0x2000],
    [1480, 0x2000],
  ] as const) {
    const packet = Buffer.from(
      buildIpv4({ source, destination, protocol: PROTOCOL_UDP, payload: udp.subarray(from, from + 1480) }),
    );
    packet.writeUInt16BE(77, 4);
    packet.writeUInt16BE((from / 8) | more, 6);
    packet.writeUInt16BE(0, 10);
    let sum = 0;
    for (let i = 0; i < 20; i += 2) sum += packet.readUInt16BE(i);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    packet.writeUInt16BE(~sum & 0xffff, 10);
    const [to, mac] = [bytesOf(network.gatewayMac), bytesOf(network.guest.mac)];
    const frame = { destination: to, source: mac, type: ETHERTYPE_IPV4, payload: packet };
    network.guest.nic.send([buildEthernet(frame)]);
  }
  const [received] = (await message) as [Buffer];
  expect(received.equals(payload)).toBe(true);
});

test('a datagram to a place that is not allowed is answered: prohibited', async () => {
  const network = await lab({ allow: [], hostLoopback: false });
  network.guest.sendUdp({
    toMac: network.gatewayMac,
    from: GUEST,
    to: '192.168.3.4',
    fromPort: 5,
    toPort: 6,
    payload: Buffer.from('x'),
  });
  const frame = await network.guest.take((bytes) => parseEthernet(bytes)?.type === ETHERTYPE_IPV4);
  const packet = parseIpv4(frame.subarray(14))!;
  expect([packet.protocol, packet.payload[0], packet.payload[1]]).toEqual([1, 3, 13]);
});

test('UDP over IPv6: an answer comes back', async () => {
  const network = await lab();
  const echo = createSocket('udp6');
  onTestFinished(() => void echo.close());
  echo.on('message', (payload, { address, port }) => echo.send(payload, port, address));
  echo.bind(0, '::1');
  await once(echo, 'listening');
  const [from, to] = ['fd00::2', '::1'];
  const udp = Buffer.from(udpBytes(900, echo.address().port, 'sixth'));
  const packet = ip6({ from, to, next: PROTOCOL_UDP, payload: [...udp] });
  const sum = ~fold(sumOf(packet, 8, 32) + PROTOCOL_UDP + udp.length + sumOf(udp, 0, udp.length)) & 0xffff;
  Buffer.from(packet.buffer, packet.byteOffset + 40).writeUInt16BE(sum, 6);
  const mac = bytesOf(network.guest.mac);
  const frame = { destination: bytesOf(network.gatewayMac), source: mac, type: 0x86dd, payload: packet };
  network.guest.nic.send([buildEthernet(frame)]);
  const answer = Buffer.from(await network.guest.take((bytes) => parseEthernet(bytes)?.type === 0x86dd));
  expect([...answer.subarray(22, 54)]).toEqual([...ip6Bytes(to), ...ip6Bytes(from)]);
  expect([answer.readUInt16BE(54), answer.readUInt16BE(56)]).toEqual([echo.address().port, 900]);
  expect(answer.toString('latin1', 62)).toBe('sixth');
  const all = fold(
    sumOf(answer, 22, 32) + PROTOCOL_UDP + (answer.length - 54) + sumOf(answer, 54, answer.length - 54),
  );
  expect(all).toBe(0xffff);
});

test('names that are not the network’s are asked of the host’s name servers, also by TCP', async () => {
  const server = createSocket('udp4');
  onTestFinished(() => void server.close());
  server.on('message', (query, { address, port }) => {
    const answer = Buffer.concat([query, Buffer.alloc(query.includes('large') ? 2000 : 0, 7)]);
    answer.writeUInt16BE(0x8180, 2);
    // A stray answer of another number comes first, and is not taken.
    const stray = Buffer.from(answer);
    stray.writeUInt16BE((query.readUInt16BE(0) + 1) & 0xffff, 0);
    server.send(stray, port, address);
    server.send(answer, port, address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  const tcpServer = createServer((socket) => socket.on('error', () => undefined).end('by tcp')).listen(
    port,
    '127.0.0.1',
  );
  onTestFinished(() => void tcpServer.close());
  await once(tcpServer, 'listening');
  const resolvers = [`127.0.0.1:${port}`];
  const network = await lab({ allow: [], hostLoopback: false, resolvers });
  const ask = async (name: string, id: number): Promise<Buffer> => {
    const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
    const payload = Uint8Array.from([
      id >> 8,
      id & 255,
      1,
      0,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      0,
      ...labels,
      0,
      0,
      1,
      0,
      1,
    ]);
    const to = { toMac: network.gatewayMac, from: GUEST, to: GATEWAY, fromPort: 4000, toPort: 53 };
    return Buffer.from((await network.guest.ask({ ...to, payload })).payload);
  };
  const known = await ask('example.com', 77);
  expect([known.readUInt16BE(0), known.readUInt16BE(2)]).toEqual([77, 0x8180]);
  const cut = await ask('large.example.com', 78);
  expect([cut.readUInt16BE(0), cut.readUInt16BE(2) & 0x8200]).toEqual([78, 0x8200]);
  expect(cut.length).toBeLessThan(60);
  // Our own names stay our own: there is no such name, which the server has not been asked for.
  expect((await ask('nobody.lab.internal', 79)).readUInt16BE(2) & 15).toBe(3);
  expect((await ask('nobody', 80)).readUInt16BE(2) & 15).toBe(3);
  const tcp = connection(network, 53);
  tcp.send({ flags: SYN, sequence: 1, options: OPTIONS });
  const answer = await tcp.take(({ flags }) => flags === (SYN | ACK));
  tcp.send({ flags: ACK, sequence: 2, acknowledgment: answer.sequence + 1, window: 512 });
  expect(String((await tcp.take(({ data }) => data.length > 0)).data)).toBe('by tcp');
});

test('a name server that is not there is passed over', async () => {
  const server = createSocket('udp4');
  onTestFinished(() => void server.close());
  server.on('message', (query, { address, port }) => {
    query.writeUInt16BE(0x8180, 2);
    server.send(query, port, address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  // Nobody listens on port 1 of UDP.
  const resolvers = ['127.0.0.1:1', `127.0.0.1:${server.address().port}`];
  const network = await lab({ allow: [], hostLoopback: false, resolvers });
  const payload = Uint8Array.from([0, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 97, 1, 98, 0, 0, 1, 0, 1]);
  const to = { toMac: network.gatewayMac, from: GUEST, to: GATEWAY, fromPort: 4000, toPort: 53 };
  const reply = Buffer.from((await network.guest.ask({ ...to, payload })).payload);
  expect([reply.readUInt16BE(0), reply.readUInt16BE(2)]).toEqual([9, 0x8180]);
});
