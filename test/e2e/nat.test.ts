/** A guest behind NAT and the host, both ways, with the daemon as its users run it. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect, createServer as createTcpServer, type Socket } from 'node:net';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConsoleSession } from '../support/console-session.ts';
import { Daemon } from '../support/daemon.ts';
import { imageObstacle } from '../support/test-image.ts';
import { skipTest } from '../support/tools.ts';

const MINUTE_MS = 60_000;
const BYTES = 3_000_000;
const HAS_ADDRESS = 'until ip -4 addr show dev eth0 | grep -q inet; do usleep 200000; done';

const content = randomBytes(BYTES);
const digest = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');
let home: string;
let daemon: Daemon;
let server: Server;
let guest: ConsoleSession;
/** Why there is no image to boot. */
let obstacle: string | undefined;

beforeAll(async () => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-nat-'));
  server = createServer((_request, response) => response.end(content));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  daemon = await Daemon.start(home, ['--nat-allow', 'host']);
  try {
    await daemon.importTestImage();
  } catch (error) {
    obstacle = imageObstacle(error);
    if (obstacle === undefined) throw error;
    return;
  }
  const { client } = daemon;
  await client.createNetwork({ name: 'out', subnet: '10.11.0.0/24', uplink: { kind: 'nat' } });
  await client.createVm({ name: 'web', memory_bytes: 128 << 20, nics: [{ network: 'out' }] });
  guest = await daemon.boot('web');
  await guest.check(HAS_ADDRESS);
}, 10 * MINUTE_MS);

afterAll(async () => {
  guest?.close();
  await daemon?.stop();
  server?.close();
  fs.rmSync(home, { recursive: true, force: true });
}, MINUTE_MS);

test('a guest fetches from and sends to a server of the host, and every byte is right', {
  timeout: 5 * MINUTE_MS,
}, async () => {
  if (obstacle !== undefined) skipTest(obstacle);
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

test('a port of the host leads to the guest, also after the daemon was killed', {
  timeout: 8 * MINUTE_MS,
}, async () => {
  if (obstacle !== undefined) skipTest(obstacle);
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
  await daemon.startAgain();
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
