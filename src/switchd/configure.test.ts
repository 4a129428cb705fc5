/** Networks that get other settings while stations are plugged in. */
import { mkdtempSync, rmSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { SwitchHandle } from './index.ts';
import type { NetworkOptions } from './protocol.ts';
import { BROADCAST, type FakeGuest, labSwitch, macOf, plugIn } from './testing/fake-guest.ts';

const NET: NetworkOptions = { id: 'net', name: 'lab', subnet: '10.77.0.0/24' };
const ROUTER_ADVERTISEMENT = 134;

async function lab(): Promise<SwitchHandle> {
  const handle = await labSwitch();
  onTestFinished(() => handle.close());
  return handle;
}

function advertisement(frame: Uint8Array): boolean {
  return frame[12] === 0x86 && frame[13] === 0xdd && frame[20] === 58 && frame[54] === ROUTER_ADVERTISEMENT;
}

function arpFor(guest: FakeGuest, address: readonly number[]): Buffer {
  const mac = guest.mac.replaceAll(':', '');
  const target = Buffer.from(address).toString('hex');
  return Buffer.from(`ffffffffffff${mac}08060001080006040001${mac}0a4d0002000000000000${target}`, 'hex');
}

test('stations stay plugged in, and the gateway answers by the new settings', async () => {
  const handle = await lab();
  const a = await plugIn(handle, 1);
  const b = await plugIn(handle, 2);
  a.say(BROADCAST, 'here');
  await b.hear('here');
  await handle.configureNetwork({
    ...NET,
    name: 'other',
    ipv6: { prefix: 'fd00:77::/64', addressing: 'slaac' },
  });
  await a.take(advertisement);
  a.say(b.mac, 'hello');
  await b.hear('hello');
  a.nic.send([arpFor(a, [10, 77, 0, 1])]);
  const answer = Buffer.from(await a.take((frame) => frame[12] === 8 && frame[13] === 6));
  expect(answer.subarray(28, 32)).toEqual(Buffer.from([10, 77, 0, 1]));
  const ports = (await handle.ports('net')).map(({ id }) => id).sort();
  expect(ports).toEqual(['gateway', 'port-1', 'port-2']);
  // Without services it is silent: what comes after the question is not an answer.
  await handle.configureNetwork({ ...NET, services: false });
  a.inbox.length = 0;
  a.nic.send([arpFor(a, [10, 77, 0, 1])]);
  b.say(a.mac, 'mark');
  expect(await a.hear('mark')).toEqual([]);
  expect(a.inbox.filter((frame) => frame[13] === 6)).toEqual([]);
});

test('an uplink comes and goes; what cannot be is refused, and all stays as it was', async () => {
  const handle = await lab();
  await plugIn(handle, 1, 'net', { addresses: ['10.77.0.9', 'fd00:77::9'], protection: {} });
  expect(await handle.uplink('net')).toBeUndefined();
  await handle.configureNetwork({ ...NET, uplink: { kind: 'nat' } });
  expect(await handle.uplink('net')).toMatchObject({ up: true });
  const forward = {
    id: 'f',
    protocol: 'udp',
    hostAddress: '127.0.0.1',
    address: '10.77.0.9',
    port: 9,
  } as const;
  await handle.forward('net', { ...forward, hostPort: 0 });
  const socket = { kind: 'daemon', socket: '/nowhere/ctl' } as const;
  await expect(handle.configureNetwork({ ...NET, uplink: socket })).rejects.toMatchObject({
    code: 'unreachable',
  });
  expect(await handle.uplink('net')).toMatchObject({ up: true });
  await expect(handle.configureNetwork({ ...NET, domain: '-' })).rejects.toMatchObject({ field: 'domain' });
  await handle.configureNetwork({ ...NET, uplink: { kind: 'slip' } });
  expect((await handle.uplink('net'))?.path).toMatch(/^\/dev\/pts/);
  await handle.configureNetwork(NET);
  expect(await handle.uplink('net')).toBeUndefined();
  expect((await handle.ports('net')).map(({ id }) => id).sort()).toEqual(['gateway', 'port-1']);
  await expect(handle.configureNetwork({ ...NET, id: 'none' })).rejects.toMatchObject({ code: 'not_found' });
});

test('a control socket comes and goes, and a network becomes a hub and a switch again', async () => {
  const handle = await lab();
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-net-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const umlSocket = join(folder, 'ctl');
  await handle.configureNetwork({ ...NET, umlSocket });
  expect(existsSync(umlSocket)).toBe(true);
  await handle.configureNetwork({ ...NET, umlSocket, hub: true });
  expect((await handle.ports('net')).map(({ id }) => id)).toContain('uml');
  const [a, b, c] = [await plugIn(handle, 1), await plugIn(handle, 2), await plugIn(handle, 3)];
  b.say(BROADCAST, 'b is here');
  await a.hear('b is here');
  a.say(b.mac, 'for all, in a hub');
  await c.hear('for all, in a hub');
  await handle.configureNetwork(NET);
  expect(existsSync(umlSocket)).toBe(false);
  a.say(macOf(2), 'for b');
  a.say(BROADCAST, 'mark');
  await b.hear('for b');
  expect(await c.hear('mark')).toEqual([]);
});
