/** A guest behind NAT and the host, both ways, with the daemon as its users run it. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import type { ConsoleSession } from '../support/console-session.ts';
import { useImageDaemon } from '../support/e2e-daemon.ts';

const MINUTE_MS = 60_000;
const BYTES = 3_000_000;
const HAS_ADDRESS = 'until ip -4 addr show dev eth0 | grep -q inet; do usleep 200000; done';

const content = randomBytes(BYTES);
const digest = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');
let server: Server;
let guest: ConsoleSession;
// The server is the host's own, which tenants may not reach as it is.
const daemon = useImageDaemon({
  options: ['--nat-allow', 'host'],
  async prepare({ client }) {
    const ipv6 = { prefix: 'fd00:11::/64' };
    await client.createNetwork({ name: 'out', subnet: '10.11.0.0/24', uplink: { kind: 'nat' }, ipv6 });
    await client.createVm({ name: 'web', memory_bytes: 128 << 20, nics: [{ network: 'out' }] });
    guest = await daemon.boot('web');
    await guest.check(HAS_ADDRESS);
  },
});

beforeAll(async () => {
  server = createServer((_request, response) => response.end(content));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
}, MINUTE_MS);

afterAll(() => {
  guest?.close();
  server?.close();
});

test('a guest fetches from and sends to a server of the host, and every byte is right', {
  timeout: 5 * MINUTE_MS,
}, async () => {
  const { port } = server.address() as AddressInfo;
  const url = `http://10.11.0.1:${port}/`;
  expect(await guest.check(`wget -q -O /tmp/got ${url} && md5sum /tmp/got`)).toContain(digest(content));
  const upload = createTcpServer().listen(0, '127.0.0.1');
  await once(upload, 'listening');
  const received = once(upload, 'connection').then(async ([socket]: Socket[]) => {
    const chunks: Buffer[] = [];
    for await (const chunk of socket!) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  });
  // The guest says all it has and goes on listening: nc ends when the host has closed too.
  await guest.check(`nc 10.11.0.1 ${(upload.address() as AddressInfo).port} < /tmp/got`);
  upload.close();
  expect(digest(await received)).toBe(digest(content));
  // Private networks are not allowed, and the guest is told at once.
  expect(await guest.check('wget -T 20 -q -O /dev/null http://192.168.77.1/ 2>&1 || echo refused')).toContain(
    'refused',
  );
});

test('a guest that knows nothing has IPv6 by router advertisements, and goes out by it', {
  timeout: 5 * MINUTE_MS,
}, async () => {
  const server6 = createServer((_request, response) => response.end('by IPv6')).listen(0, '::1');
  await once(server6, 'listening');
  onTestFinished(() => void server6.close());
  await guest.check('until ip -6 route show default | grep -q "via fe80"; do usleep 200000; done');
  await guest.check(
    'until ip -6 addr show dev eth0 | grep -v tentative | grep -q fd00:11::; do usleep 200000; done',
  );
  const { port } = server6.address() as AddressInfo;
  // The gateway's address is the host's loopback.
  expect(await guest.check(`wget -q -O - 'http://[fd00:11::1]:${port}/'`)).toBe('by IPv6');
  expect(await guest.check('ping6 -c 1 fd00:11::1')).toContain('1 packets received');
  // One of nowhere is told at once: the way leads out.
  expect(
    await guest.check('wget -T 20 -q -O /dev/null "http://[fd00:99::1]/" 2>&1 || echo refused'),
  ).toContain('refused');
});

test('a port of the host leads to the guest, also after the daemon was killed', {
  timeout: 8 * MINUTE_MS,
}, async () => {
  const { client } = daemon;
  const free = createTcpServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const hostPort = (free.address() as AddressInfo).port;
  free.close();
  await once(free, 'close');
  const forward = await client.createForward('out', { host_port: hostPort, vm: 'web', port: 7777 });
  const serve = 'while :; do md5sum /etc/passwd | nc -l -p 7777; done >/dev/null 2>&1 &';
  const sum = await guest.check(`${serve} md5sum /etc/passwd`);
  /** Asks until somebody listens: whoever connects before that is reset. */
  const ask = async (): Promise<string> => {
    let text = '';
    while (text === '') {
      const socket = connect({ port: hostPort, host: '127.0.0.1' });
      socket.on('data', (chunk) => {
        text += String(chunk);
      });
      socket.on('error', () => undefined);
      await new Promise((resolve) => socket.once('close', resolve));
    }
    return text;
  };
  expect(sum).toContain((await ask()).trim());
  guest.close();
  await daemon.kill();
  await daemon.start();
  const [kept] = await client.listForwards('out');
  expect(kept).toEqual(forward);
  // The VM boots again by itself.
  guest = await daemon.console('web');
  await guest.login();
  await guest.check(`${HAS_ADDRESS}; ${serve} true`);
  expect(sum).toContain((await ask()).trim());
  await client.deleteForward('out', forward.id);
  const [error] = (await once(connect({ port: hostPort, host: '127.0.0.1' }), 'error')) as [
    NodeJS.ErrnoException,
  ];
  expect(error.code).toBe('ECONNREFUSED');
});
