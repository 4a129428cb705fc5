import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { abstractName, answerTo, openControl, UmlClient } from '../testing/uml-client.ts';
import { encodeRequest } from './control-request.ts';
import { UmlSwitch, type UmlSwitchEvent } from './control-server.ts';
import { FrameTransfer } from './frame-slots.ts';
import { connectSocket, Epoll, EPOLLIN, libc, openDatagramSocket, unixAddress } from './libc.ts';

let folder: string;
let path: string;
let ethernet: UmlSwitch;
let clients: UmlClient[];
const events: UmlSwitchEvent[] = [];
let onEvent: (() => void) | undefined;

const start = (hub = false): Promise<UmlSwitch> =>
  UmlSwitch.start({
    path,
    hub,
    onEvent: (event) => {
      events.push(event);
      onEvent?.();
    },
    onError: (error) => {
      throw error;
    },
  });

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-switch-'));
  path = join(folder, 'ctl');
  events.length = 0;
  clients = [];
  ethernet = await start();
});
afterEach(async () => {
  await Promise.all(clients.map((client) => client.die()));
  await ethernet.close();
  rmSync(folder, { recursive: true });
});

async function joined(): Promise<UmlClient> {
  const client = await UmlClient.join(path);
  clients.push(client);
  return client;
}

const ALL = 0xff;

/** `to` and `from`: last byte of an address; ALL is everybody. */
function frame(to: number, from: number, text: string, bytes = 0): Buffer {
  const header = to === ALL ? Array(6).fill(ALL) : [2, 0, 0, 0, 0, to];
  const made = Buffer.from([...header, 2, 0, 0, 0, 0, from, 0x88, 0xb5, ...Buffer.from(text)]);
  return Buffer.concat([made, Buffer.alloc(Math.max(0, bytes - made.length))]);
}

const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes && Buffer.from(bytes.subarray(14)).toString();

async function until(isTrue: () => boolean): Promise<void> {
  while (!isTrue()) await new Promise<void>((resolve) => (onEvent = resolve));
}

const disconnects = (): number => events.filter(({ type }) => type === 'disconnected').length;

test('floods until a station has spoken, and then does not', async () => {
  const [a, b, c] = [await joined(), await joined(), await joined()];
  a.send(frame(ALL, 1, 'hello'));
  expect([text(b.receive()), text(c.receive())]).toEqual(['hello', 'hello']);
  b.send(frame(1, 2, 'for a'));
  expect(text(a.receive())).toBe('for a');
  a.send(frame(ALL, 1, 'end'));
  expect(text(c.receive())).toBe('end');
  await until(() => events.some((event) => event.type === 'station' && event.report.mac.endsWith(':02')));
});

test('cuts at 1514 bytes, as uml_switch does, and drops what is no frame', async () => {
  const [a, b] = [await joined(), await joined()];
  for (const length of [0, 1, 13]) a.send(frame(ALL, 1, 'x').subarray(0, length));
  for (const [length, arrives] of [
    [14, 14],
    [1514, 1514],
    [1515, 1514],
    [1518, 1514],
    [1522, 1514],
    [65_550, 1514],
  ] as const) {
    const sent = Buffer.alloc(length, length & 255);
    frame(ALL, 1, '').copy(sent);
    a.send(sent);
    expect(Buffer.from(b.receive()!).equals(sent.subarray(0, arrives))).toBe(true);
  }
  const [sender] = await ethernet.ports();
  expect(sender).toMatchObject({ drops: { runt: 3 }, receivedFrames: 9 });
});

test('an answer of version 1 is the same', async () => {
  const v1 = (name: Uint8Array): Uint8Array => {
    const v3 = encodeRequest(name);
    return Buffer.concat([v3.subarray(0, 4), Buffer.alloc(10), v3.subarray(12)]);
  };
  const [a, b] = [await UmlClient.join(path, v1), await joined()];
  clients.push(a);
  a.send(frame(ALL, 1, 'old'));
  expect(text(b.receive())).toBe('old');
});

test('a request of version 0 makes a port that gets frames, and no answer', async () => {
  const name = abstractName();
  const old = Buffer.alloc(120);
  old.set(encodeRequest(name).subarray(12, 122), 10);
  const fd = openDatagramSocket(unixAddress(name));
  const control = await openControl(path);
  const answered = answerTo(control);
  control.write(old);
  const a = await joined();
  while ((await ethernet.ports()).length < 2) await new Promise((resolve) => setImmediate(resolve));
  a.send(frame(ALL, 1, 'to the old'));
  const epoll = new Epoll();
  epoll.add(fd, EPOLLIN);
  const transfer = new FrameTransfer();
  epoll.wait(3000, () => undefined);
  expect(transfer.receive(fd)).toBe(1);
  const { bytes, offset, length } = transfer.arena.select(0);
  expect(text(bytes.subarray(offset, offset + length))).toBe('to the old');
  epoll.close();
  libc().close(fd);
  control.destroy();
  expect(await answered).toBeUndefined();
});

test('requests of any bytes and any length leave the switch as it is', async () => {
  let state = 1;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >>> 8) % below;
  };
  const good = Buffer.from(encodeRequest(abstractName()));
  const controls = [];
  for (let round = 0; round < 300; round++) {
    const request = Buffer.from(good.subarray(0, 1 + random(good.length)));
    for (let change = random(6); change > 0; change--) request[random(request.length)] = random(256);
    const control = await openControl(path);
    control.write(round % 50 === 0 ? Buffer.alloc(5000, round) : request);
    controls.push(control);
  }
  const [a, b] = [await joined(), await joined()];
  for (const control of controls) control.destroy();
  await until(() => disconnects() >= controls.length);
  a.send(frame(ALL, 1, 'still here'));
  expect(text(b.receive())).toBe('still here');
  expect(await ethernet.ports()).toHaveLength(2);
});

test.each([14, 60, 1514, 1515, 1518, 1522])(
  'a datagram of %i bytes comes out as uml_switch has it',
  async (length) => {
    const [a, b] = [await joined(), await joined()];
    for (const short of [0, 1, 13]) a.send(frame(ALL, 1, '').subarray(0, short));
    a.send(frame(ALL, 1, '', length));
    expect(b.receive()?.length).toBe(Math.min(length, 1514));
    expect(b.receive(0)).toBeUndefined();
    expect((await ethernet.ports())[0]!.drops.runt).toBeGreaterThanOrEqual(2);
  },
);

test('one more byte closes the port, and all its stations are forgotten', async () => {
  const [a, b, c] = [await joined(), await joined(), await joined()];
  b.send(frame(ALL, 2, 'here'));
  b.send(frame(ALL, 3, 'here too'));
  expect([text(a.receive()), text(a.receive())]).toEqual(['here', 'here too']);
  expect([text(c.receive()), text(c.receive())]).toEqual(['here', 'here too']);
  b.control.write('x');
  await until(() => disconnects() === 1);
  expect(await ethernet.ports()).toHaveLength(2);
  for (const station of [2, 3]) {
    a.send(frame(station, 1, `to ${station}`));
    expect(text(c.receive())).toBe(`to ${station}`);
  }
  expect(b.receive(0)).toBeUndefined();
});

test('a client that is killed leaves the others alone', async () => {
  const [a, b, c] = [await joined(), await joined(), await joined()];
  clients.splice(1, 1);
  await b.die();
  a.send(frame(ALL, 1, 'still here'));
  expect(text(c.receive())).toBe('still here');
  await until(() => disconnects() === 1);
  expect(await ethernet.ports()).toHaveLength(2);
});

test('a client that never reads loses frames, which are counted; the others lose none', async () => {
  const [a, b, silent] = [await joined(), await joined(), await joined()];
  const total = 3000;
  for (let sent = 0; sent < total; sent++) {
    while (!a.send(frame(ALL, 1, String(sent), 1000)));
    expect(text(b.receive())?.replaceAll('\0', '')).toBe(String(sent));
  }
  const [, reader, sleeper] = await ethernet.ports();
  expect(reader).toMatchObject({ sentFrames: total, drops: { queueFull: 0 } });
  expect(sleeper!.drops.queueFull).toBeGreaterThan(total / 2);
  expect(sleeper!.drops.queueFull + sleeper!.sentFrames).toBe(total);
  expect(text(silent.receive())?.replaceAll('\0', '')).toBe('0');
});

test('who sends to a client that never reads is not held up for ever', async () => {
  const [a, b, silent] = [await joined(), await joined(), await joined()];
  silent.send(frame(ALL, 3, 'here'));
  expect([text(a.receive()), text(b.receive())]).toEqual(['here', 'here']);
  const total = 2000;
  for (let sent = 0; sent < total; sent++) while (!a.send(frame(3, 1, 'are you there', 1000)));
  while (!a.send(frame(ALL, 1, 'end')));
  expect(text(b.receive())).toBe('end');
  const [, , sleeper] = await ethernet.ports();
  expect(sleeper!.drops.queueFull).toBeGreaterThan(total / 2);
});

test('nobody but the client can send to its port', async () => {
  const a = await joined();
  const stranger = openDatagramSocket(unixAddress(abstractName()));
  expect(() => connectSocket(stranger, a.peer)).toThrow('EPERM');
  libc().close(stranger);
});

test('wrong requests are closed, an unknown version is left waiting, and the switch goes on', async () => {
  const good = encodeRequest(abstractName());
  const wrong = [Buffer.from('GET / HTTP/1.0\r\n\r\n'), good.subarray(0, 60), Buffer.alloc(120, 0xff), good];
  for (const request of wrong) {
    const control = await openControl(path);
    control.write(request);
    expect(await answerTo(control)).toBeUndefined();
  }
  const later = Buffer.from(good);
  later[4] = 7;
  const control = await openControl(path);
  control.write(later);
  await until(() => events.some(({ type }) => type === 'unknown-version'));
  expect(control.destroyed).toBe(false);
  control.destroy();
  const [a, b] = [await joined(), await joined()];
  a.send(frame(ALL, 1, 'fine'));
  expect(text(b.receive())).toBe('fine');
});

test('joins and leaves leave nothing behind', async () => {
  const count = 200;
  for (let i = 0; i < count; i++) await (await UmlClient.join(path)).die();
  await until(() => disconnects() === count);
  expect(await ethernet.ports()).toEqual([]);
});

test('a hub sends to all, also what is for one', async () => {
  await ethernet.close();
  ethernet = await start(true);
  const [a, b, c] = [await joined(), await joined(), await joined()];
  b.send(frame(ALL, 2, 'here'));
  expect([text(a.receive()), text(c.receive())]).toEqual(['here', 'here']);
  a.send(frame(2, 1, 'for b'));
  expect([text(b.receive()), text(c.receive())]).toEqual(['for b', 'for b']);
});

test('refuses a path that is served or is no socket, and replaces a socket that nobody serves', async () => {
  await expect(start()).rejects.toMatchObject({ code: 'already_exists' });
  await ethernet.close();
  expect(existsSync(path)).toBe(false);
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  expect(existsSync(path)).toBe(true);
  ethernet = await start();
  await ethernet.close();
  writeFileSync(path, 'precious');
  await expect(start()).rejects.toMatchObject({ code: 'already_exists' });
  expect(existsSync(path)).toBe(true);
  rmSync(path);
  const other = createServer().listen(path);
  await expect(start()).rejects.toMatchObject({ code: 'already_exists' });
  await new Promise((resolve) => other.close(resolve));
  ethernet = await start();
});
