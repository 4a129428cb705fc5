/** Networks that are joined by a transport, with the real programs where it is theirs. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { requireTool, skipTest } from '../../../test/support/tools.ts';
import type { Transport } from '../../contracts/api/transport.ts';
import { AppError } from '../../contracts/errors.ts';
import { startSwitch, type SwitchHandle } from '../index.ts';
import { BROADCAST, FakeGuest, macOf } from '../testing/fake-guest.ts';
import { tcp4Frame } from '../testing/tcp-frame.ts';
import { UmlSwitch } from '../uml/control-server.ts';
import { checksumWord, GSO, segmentationWord } from '../offload/offload.ts';
import { encodeSlip } from './slip-codec.ts';

const WAIT_MS = 20_000;

function folder(): string {
  const made = mkdtempSync(join(tmpdir(), 'umlaut-link-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

async function switchHandle(): Promise<SwitchHandle> {
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  return handle;
}

/** A guest on a network of its own with this uplink. */
async function guestBehind(handle: SwitchHandle, number: number, uplink: Transport): Promise<FakeGuest> {
  const id = `net-${number}`;
  const network = { id, name: id, subnet: '10.0.0.0/24', services: false };
  await handle.createNetwork({ ...network, uplink, uplinkRequired: true });
  const mac = macOf(number);
  return new FakeGuest(
    mac,
    await handle.attach({ networkId: id, portId: `p${number}`, name: `g${number}`, mac }),
  );
}

/** Says it again until the other has heard it: what is sent before both are joined is lost. */
async function reaches(from: FakeGuest, to: FakeGuest, text: string): Promise<void> {
  let heard = false;
  const hearing = to.hear(text).then(() => {
    heard = true;
  });
  while (!heard) {
    from.say(to.mac, text);
    await Promise.race([hearing, new Promise((resolve) => setTimeout(resolve, 50))]);
  }
}

async function stateOf(handle: SwitchHandle, id: string, up: boolean): Promise<void> {
  const end = Date.now() + WAIT_MS;
  while ((await handle.uplink(id))?.up !== up) {
    if (Date.now() > end) throw new Error(`the uplink of ${id} is not ${up ? 'up' : 'down'}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A switch program, once its control socket is there. */
async function program(
  tool: string,
  pkg: string,
  args: readonly string[],
  control: string,
): Promise<ChildProcess> {
  const child = spawn(requireTool(tool, pkg), args, { stdio: ['pipe', 'ignore', 'ignore'] });
  const end = Date.now() + WAIT_MS;
  while (!existsSync(control)) {
    if (Date.now() > end || child.exitCode !== null) throw new Error(`${tool} does not serve ${control}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test('daemon: guests talk through a real uml_switch, and again when it was killed and restarted', {
  timeout: 60_000,
}, async () => {
  const control = join(folder(), 'ctl');
  const args = ['-unix', control];
  const first = await program('uml_switch', 'uml-utilities', args, control);
  const handle = await switchHandle();
  const transport = { kind: 'daemon', socket: control } as const;
  const a = await guestBehind(handle, 1, transport);
  const b = await guestBehind(handle, 2, transport);
  await reaches(a, b, 'hello');
  await reaches(b, a, 'hello back');
  // A large segment arrives in pieces that the other switch takes.
  a.nic.send([tcp4Frame(4000)], checksumWord(34, 16), segmentationWord(GSO.TCP4, 1460));
  for (const length of [1514, 1514, 1134])
    expect((await b.take((frame) => frame.length > 1000)).length).toBe(length);
  await end(first);
  await stateOf(handle, 'net-1', false);
  a.say(b.mac, 'lost');
  rmSync(control, { force: true });
  await program('uml_switch', 'uml-utilities', args, control);
  await stateOf(handle, 'net-1', true);
  await stateOf(handle, 'net-2', true);
  await reaches(a, b, 'here again');
});

test('daemon: a switch of ours that was killed joins again, and leaves nothing of itself behind', {
  timeout: 60_000,
}, async () => {
  const path = join(folder(), 'ctl');
  const other = await UmlSwitch.start({
    path,
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => other.close());
  const started = once(process, 'worker') as Promise<[Worker]>;
  const handle = await switchHandle();
  let [worker] = await started;
  const a = await guestBehind(handle, 1, { kind: 'daemon', socket: path });
  const b = await guestBehind(handle, 2, { kind: 'daemon', socket: path });
  await reaches(a, b, 'before');
  const open = (): number => readdirSync('/proc/self/fd').length;
  let before = 0;
  for (let round = 1; round <= 3; round++) {
    const next = once(process, 'worker') as Promise<[Worker]>;
    void worker.terminate();
    [worker] = await next;
    await stateOf(handle, 'net-1', true);
    await stateOf(handle, 'net-2', true);
    await reaches(a, b, `after ${round}`);
    await reaches(b, a, `answer ${round}`);
    await expect.poll(async () => (await other.ports()).length, { timeout: WAIT_MS }).toBe(2);
    if (round === 1) before = open();
  }
  expect(open()).toBeLessThanOrEqual(before);
});

test('vde: guests talk through a real vde_switch', { timeout: 60_000 }, async () => {
  const sockets = join(folder(), 'vde');
  await program('vde_switch', 'vde2', ['-s', sockets], join(sockets, 'ctl'));
  const handle = await switchHandle();
  const transport = { kind: 'vde', folder: sockets, description: 'test' } as const;
  const a = await guestBehind(handle, 1, { ...transport, port: 0 });
  const b = await guestBehind(handle, 2, { ...transport, port: 7 });
  await reaches(a, b, 'hello');
  await reaches(b, a, 'hello back');
});

test('mcast: all of a group hear each other, and nobody hears itself', { timeout: 60_000 }, async () => {
  const handle = await switchHandle();
  const port = 20_000 + (process.pid % 20_000);
  const transport = { kind: 'mcast', group: '239.192.168.77', port, ttl: 0 } as const;
  let a: FakeGuest;
  try {
    a = await guestBehind(handle, 1, transport);
  } catch (error) {
    if (error instanceof AppError && error.code === 'unreachable') skipTest('no multicast on this host');
    throw error;
  }
  const b = await guestBehind(handle, 2, transport);
  const c = await guestBehind(handle, 3, transport);
  await reaches(a, b, 'hello');
  await reaches(b, c, 'and you');
  a.inbox.length = 0;
  a.say(BROADCAST, 'to all');
  await b.hear('to all');
  await reaches(b, a, 'mark');
  const own = a.inbox.filter((frame) => Buffer.from(frame).includes('to all'));
  expect(own).toEqual([]);
});

test('ucast: two peers', { timeout: 60_000 }, async () => {
  const handle = await switchHandle();
  const port = 40_000 + (process.pid % 10_000);
  const peer = (local_port: number, remote_port: number) =>
    ({ kind: 'ucast', remote: '127.0.0.1', local_port, remote_port }) as const;
  const a = await guestBehind(handle, 1, peer(port, port + 1));
  const b = await guestBehind(handle, 2, peer(port + 1, port));
  await reaches(a, b, 'hello');
  await reaches(b, a, 'hello back');
});

test('slip: IP packets on a pseudo-terminal, whose other end has all addresses', {
  timeout: 60_000,
}, async () => {
  const handle = await switchHandle();
  const guest = await guestBehind(handle, 1, { kind: 'slip' });
  await stateOf(handle, 'net-1', true);
  const path = (await handle.uplink('net-1'))?.path;
  expect(path).toMatch(/^\/dev\/pts\/\d+$/);
  const terminal = openSync(path!, 'r+');
  onTestFinished(() => closeSync(terminal));
  const ask = Buffer.from(
    `ffffffffffff${guest.mac.replaceAll(':', '')}08060001080006040001${guest.mac.replaceAll(':', '')}0a0000010000000000000a000002`,
    'hex',
  );
  guest.nic.send([ask]);
  const answer = Buffer.from(await guest.take((frame) => frame[12] === 8 && frame[13] === 6));
  expect(answer.subarray(28, 32)).toEqual(Buffer.from([10, 0, 0, 2]));
  const packet = Buffer.from([
    0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0xc0, 0xdb, 0xdc, 0xdd,
  ]);
  guest.nic.send([
    Buffer.concat([
      answer.subarray(6, 12),
      Buffer.from(guest.mac.replaceAll(':', ''), 'hex'),
      Buffer.from([8, 0]),
      packet,
    ]),
  ]);
  const sent = Buffer.from(encodeSlip(packet));
  const got = Buffer.alloc(sent.length);
  for (let at = 0; at < got.length; ) at += readSync(terminal, got, at, got.length - at, null);
  expect(got.toString('hex')).toBe(sent.toString('hex'));
  writeSync(terminal, encodeSlip(packet));
  const received = Buffer.from(await guest.take((frame) => frame[12] === 8 && frame[13] === 0));
  expect(received.subarray(14).toString('hex')).toBe(packet.toString('hex'));
});

test('bess: guests talk through a program that passes packets on, and again when it was restarted', {
  timeout: 60_000,
}, async () => {
  const [one, other] = ['one', 'other'].map((name) => join(folder(), name)) as [string, string];
  const own = join(folder(), 'own');
  const relay = async (): Promise<ChildProcess> => {
    for (const socket of [one, other]) rmSync(socket, { force: true });
    // Of packets (SOCK_SEQPACKET), that it makes as one connects after the other.
    const listeners = [one, other].map((socket) => `UNIX-LISTEN:${socket},type=5`);
    return await program('socat', 'socat', ['-b', '65536', ...listeners], one);
  };
  const handle = await switchHandle();
  let child = await relay();
  const a = await guestBehind(handle, 1, { kind: 'bess', socket: one, local: own });
  expect(existsSync(own)).toBe(true);
  await handle.createNetwork({
    ...{ id: 'net-2', name: 'net-2', subnet: '10.0.0.0/24', services: false },
    uplink: { kind: 'bess', socket: other },
  });
  const mac = macOf(2);
  const b = new FakeGuest(mac, await handle.attach({ networkId: 'net-2', portId: 'p2', name: 'g2', mac }));
  await reaches(a, b, 'hello');
  await reaches(b, a, 'hello back');
  a.nic.send([tcp4Frame(4000)], checksumWord(34, 16), segmentationWord(GSO.TCP4, 1460));
  for (const length of [1514, 1514, 1134])
    expect((await b.take((frame) => frame.length > 1000)).length).toBe(length);
  await end(child);
  await stateOf(handle, 'net-1', false);
  child = await relay();
  await stateOf(handle, 'net-1', true);
  await reaches(b, a, 'here again');
  await a.attachment.detach();
  await handle.deleteNetwork('net-1');
  expect(existsSync(own)).toBe(false);
});

test.each([
  ['UDP', { local_port: 17_021, remote_port: 17_022 }, { local_port: 17_022, remote_port: 17_021 }],
  ['IP', {}, {}],
] as const)(
  'l2tpv3 by %s: two of ours, and frames of others are not taken',
  { timeout: 60_000 },
  async (what, first, second) => {
    if (what === 'IP' && process.getuid?.() !== 0) skipTest('raw sockets need CAP_NET_RAW');
    const handle = await switchHandle();
    const tunnel = { kind: 'l2tpv3', receive_session: 1, send_session: 1, counter: 'counts' } as const;
    const ends = [
      { local: '127.0.0.1', remote: '127.0.0.2' },
      { local: '127.0.0.2', remote: '127.0.0.1' },
    ] as const;
    const a = await guestBehind(handle, 1, { ...tunnel, ...ends[0], ...first });
    const b = await guestBehind(handle, 2, { ...tunnel, ...ends[1], ...second });
    await reaches(a, b, 'hello');
    await reaches(b, a, 'hello back');
    a.nic.send([tcp4Frame(4000)], checksumWord(34, 16), segmentationWord(GSO.TCP4, 1460));
    for (const length of [1514, 1514, 1134])
      expect((await b.take((frame) => frame.length > 1000)).length).toBe(length);
    // Another session, and one that says it again: the second is heard, so the first was there before.
    await a.attachment.detach();
    await handle.deleteNetwork('net-1');
    const c = await guestBehind(handle, 3, { ...tunnel, ...ends[0], ...first, send_session: 2 });
    for (let n = 0; n < 20; n++) c.say(b.mac, 'of another session');
    await c.attachment.detach();
    await handle.deleteNetwork('net-3');
    const d = await guestBehind(handle, 4, { ...tunnel, ...ends[0], ...first });
    await reaches(d, b, 'of this one');
    expect(b.inbox.filter((frame) => Buffer.from(frame).includes('of another session'))).toEqual([]);
  },
);

test('what cannot be opened is an error that says why, or is tried again', { timeout: 60_000 }, async () => {
  const handle = await switchHandle();
  const socket = join(folder(), 'ctl');
  const transport = { kind: 'daemon', socket } as const;
  await expect(guestBehind(handle, 1, transport)).rejects.toMatchObject({
    code: 'unreachable',
    field: 'uplink',
  });
  await expect(guestBehind(handle, 1, { kind: 'tuntap', device: 'nosuchtap0' })).rejects.toMatchObject({
    code: 'not_found',
    remedy: expect.stringContaining('umlaut tap create'),
  });
  await expect(
    guestBehind(handle, 1, { kind: 'pcap', interface: 'nosuch0', filter: '', promiscuous: true }),
  ).rejects.toMatchObject({ code: 'not_found' });
  const network = { id: 'late', name: 'late', subnet: '10.0.0.0/24', services: false };
  await handle.createNetwork({ ...network, uplink: transport });
  await program('uml_switch', 'uml-utilities', ['-unix', socket], socket);
  await stateOf(handle, 'late', true);
  await handle.deleteNetwork('late');
});
