import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PortFault, PortInfo, SwitchHandle } from './index.ts';
import { HEAD, ringViews, WAITING } from './ring/layout.ts';
import { BROADCAST, bytesOf, FakeGuest, labSwitch, macOf, plugIn } from './testing/fake-guest.ts';

let handle: SwitchHandle;
const faults: PortFault[] = [];
let onFault: (() => void) | undefined;

beforeEach(async () => {
  faults.length = 0;
  const onPortFault = (fault: PortFault): void => {
    faults.push(fault);
    onFault?.();
  };
  handle = await labSwitch({ onPortFault });
});
afterEach(() => handle.close());

async function counters(portId: string, networkId = 'net'): Promise<PortInfo> {
  const port = (await handle.ports(networkId)).find(({ id }) => id === portId);
  if (port === undefined) throw new Error(`no port ${portId}`);
  return port;
}

test('floods to unknown stations and stops flooding when they have spoken', async () => {
  const [a, b, c] = [await plugIn(handle, 1), await plugIn(handle, 2), await plugIn(handle, 3)];
  a.say(b.mac, 'who are you');
  await b.hear('who are you');
  await c.hear('who are you');
  b.say(a.mac, 'here');
  await a.hear('here');
  a.say(b.mac, 'for b only');
  await b.hear('for b only');
  a.say(BROADCAST, 'to all');
  expect(await c.hear('to all')).toEqual([]);
  expect(a.inbox).toEqual([]);
});

test('delivers to a station at its new port after it moved', async () => {
  const [a, b, c] = [await plugIn(handle, 1), await plugIn(handle, 2), await plugIn(handle, 3)];
  const station = '02:aa:00:00:00:01';
  b.say(BROADCAST, 'at b', station);
  await a.hear('at b');
  a.say(station, 'first');
  await b.hear('first');
  c.say(BROADCAST, 'moved to c', station);
  await a.hear('moved to c');
  a.say(station, 'second');
  await c.hear('second');
  a.say(BROADCAST, 'end');
  expect(await b.hear('end')).toEqual(['moved to c']);
  expect(await handle.macTable('net')).toContainEqual(
    expect.objectContaining({ mac: station, portId: 'port-3', fixed: false }),
  );
});

test('keeps networks apart, also for broadcasts and the same MAC address', async () => {
  await handle.createNetwork({ id: 'other', name: 'other', subnet: '10.77.0.0/24' });
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const [x, y] = [await plugIn(handle, 1, 'other'), await plugIn(handle, 3, 'other')];
  a.say(BROADCAST, 'in net');
  a.say(y.mac, 'to a station elsewhere');
  await b.hear('to a station elsewhere');
  x.say(BROADCAST, 'in other');
  expect(await y.hear('in other')).toEqual([]);
  b.say(a.mac, 'still here');
  await a.hear('still here');
});

test('hub mode sends everything to every port', async () => {
  await handle.createNetwork({ id: 'hub', name: 'hub', subnet: '10.78.0.0/24', hub: true });
  const [a, b, c] = [
    await plugIn(handle, 1, 'hub'),
    await plugIn(handle, 2, 'hub'),
    await plugIn(handle, 3, 'hub'),
  ];
  b.say(BROADCAST, 'hello');
  await a.hear('hello');
  a.say(b.mac, 'heard by all');
  await b.hear('heard by all');
  await c.hear('heard by all');
});

test('drops what is no frame and carries the smallest and the largest', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const header = [...bytesOf(b.mac), ...bytesOf(a.mac), 0x88, 0xb5];
  for (const length of [0, 1, 13]) a.nic.send([Uint8Array.from(header).subarray(0, length)]);
  for (const length of [14, 1518, 1522, 65_550]) {
    const frame = new Uint8Array(length).fill(length & 255);
    frame.set(header);
    a.nic.send([frame.subarray(0, 7), frame.subarray(7)]);
    expect(await b.take((got) => got.length === length)).toEqual(frame);
  }
  a.nic.send([Uint8Array.from(header), new Uint8Array(65_550 - 13)]);
  a.say(b.mac, 'group source', '03:00:00:00:00:01');
  a.say(b.mac, 'end');
  expect(await b.hear('end')).toEqual([]);
  expect(await counters('port-1')).toMatchObject({
    drops: expect.objectContaining({ runt: 3, groupSource: 1 }),
    droppedBeforeSwitch: 1,
    receivedFrames: 9,
  });
});

test('a station cannot take the gateway’s MAC address', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const gateway = await counters('gateway');
  a.say(BROADCAST, 'I am the gateway', gateway.mac);
  a.say(BROADCAST, 'end');
  expect(await b.hear('end')).toEqual([]);
  expect((await counters('port-1')).drops.forged).toBe(1);
  expect(await handle.macTable('net')).toContainEqual(
    expect.objectContaining({ mac: gateway.mac, portId: 'gateway', fixed: true }),
  );
});

test('a station that does not read loses its own frames only', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  const deaf = await handle.attach({ networkId: 'net', portId: 'deaf', name: 'deaf', mac: macOf(9) });
  const rounds = 100;
  const frame = new Uint8Array(30_000);
  frame.set([...bytesOf(BROADCAST), ...bytesOf(a.mac), 0x88, 0xb5]);
  for (let round = 0; round < rounds; round++) {
    a.nic.send([frame]);
    await b.take((got) => got.length === frame.length);
  }
  const lost = (await counters('deaf')).drops.queueFull;
  expect(lost).toBeGreaterThan(50);
  expect((await counters('deaf')).sentFrames + lost).toBe(rounds);
  expect(await counters('port-2')).toMatchObject({ sentFrames: rounds, drops: { queueFull: 0 } });
  await deaf.detach();
});

test('a broken ring costs its own port and nobody else', async () => {
  const [a, b, bad] = [await plugIn(handle, 1), await plugIn(handle, 2), await plugIn(handle, 3)];
  const reported = new Promise<void>((resolve) => {
    onFault = resolve;
  });
  const { header } = ringViews(bad.attachment.ring, 'vm');
  Atomics.store(header, HEAD, 12_345);
  Atomics.store(header, WAITING, 0);
  Atomics.notify(header, WAITING);
  await reported;
  expect(faults).toEqual([
    { networkId: 'net', portId: 'port-3', detail: expect.stringContaining('corrupt') },
  ]);
  a.say(BROADCAST, 'alive');
  await b.hear('alive');
  expect((await handle.ports('net')).map(({ id }) => id)).toEqual(['gateway', 'port-1', 'port-2']);
});

test('an unplugged port gets nothing, its stations are forgotten, and its place can be taken', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  b.say(BROADCAST, 'last words');
  await b.attachment.detach();
  await b.attachment.detach();
  await a.hear('last words');
  expect((await handle.macTable('net')).map(({ mac }) => mac)).not.toContain(b.mac);
  const again = await plugIn(handle, 2);
  a.say(again.mac, 'welcome back');
  await again.hear('welcome back');
});

test('a reopened end goes on where the first left off', async () => {
  const [a, b] = [await plugIn(handle, 1), await plugIn(handle, 2)];
  a.say(BROADCAST, 'one');
  await b.hear('one');
  b.nic.close();
  a.say(BROADCAST, 'two');
  const reopened = new FakeGuest(b.mac, b.attachment);
  expect(await reopened.hear('two')).toEqual([]);
  reopened.say(a.mac, 'three');
  await a.hear('three');
});

test('refuses what cannot be, naming the field', async () => {
  const attach = { networkId: 'net', portId: 'p', name: 'vm', mac: macOf(1) };
  const cases: [Promise<unknown>, string, string | undefined][] = [
    [handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.0.0.0/24' }), 'already_exists', 'id'],
    [handle.createNetwork({ id: 'x', name: 'x', subnet: '10.0.0.1/24' }), 'invalid_input', 'subnet'],
    [handle.createNetwork({ id: 'x', name: 'x', subnet: '10.0.0.0/31' }), 'invalid_input', 'subnet'],
    [handle.createNetwork({ id: 'x', name: 'No', subnet: '10.0.0.0/24' }), 'invalid_input', 'name'],
    [
      handle.createNetwork({ id: 'x', name: 'x', subnet: '10.0.0.0/24', gateway: '10.0.0.255' }),
      'invalid_input',
      'gateway',
    ],
    [
      handle.createNetwork({
        id: 'x',
        name: 'x',
        subnet: '10.0.0.0/24',
        pool: { first: '10.0.0.1', last: '10.0.0.9' },
      }),
      'invalid_input',
      'pool',
    ],
    [
      handle.createNetwork({ id: 'x', name: 'x', subnet: '10.0.0.0/24', leaseSeconds: 5 }),
      'invalid_input',
      'leaseSeconds',
    ],
    [handle.attach({ ...attach, networkId: 'nope' }), 'not_found', undefined],
    [handle.attach({ ...attach, mac: '01:00:00:00:00:01' }), 'invalid_input', 'mac'],
    [handle.attach({ ...attach, portId: 'gateway' }), 'already_exists', 'portId'],
    [handle.ports('nope'), 'not_found', undefined],
  ];
  for (const [promise, code, field] of cases) await expect(promise).rejects.toMatchObject({ code, field });
  await handle.attach(attach);
  await expect(handle.attach({ ...attach, portId: 'q' })).rejects.toMatchObject({
    code: 'already_exists',
    field: 'mac',
  });
  await expect(handle.deleteNetwork('net')).rejects.toMatchObject({ code: 'in_use' });
});
