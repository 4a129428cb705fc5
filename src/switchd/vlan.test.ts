/** Access and trunk ports by IEEE 802.1Q, over real rings. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { SwitchHandle } from './index.ts';
import { BROADCAST, labSwitch, plugIn, TEST_ETHERTYPE } from './testing/fake-guest.ts';
import { ethernet, tagged } from './testing/packets.ts';

let handle: SwitchHandle;
beforeEach(async () => {
  handle = await labSwitch();
});
afterEach(() => handle.close());

const access = (id: number) => ({ vlan: { mode: 'access', id } as const });
const trunk = (allowed: [number, number][], native?: number) => ({
  vlan: { mode: 'trunk', allowed, native } as const,
});

test('access ports hear their own VLAN only, and a trunk all that it is in, with tags', async () => {
  const [a, b] = [await plugIn(handle, 1, 'net', access(10)), await plugIn(handle, 2, 'net', access(10))];
  const c = await plugIn(handle, 3, 'net', access(20));
  const router = await plugIn(handle, 4, 'net', trunk([[10, 20]]));
  const partial = await plugIn(handle, 5, 'net', trunk([[20, 20]], 10));
  a.say(BROADCAST, 'to ten');
  await b.hear('to ten');
  const frame = ethernet(BROADCAST, a.mac, TEST_ETHERTYPE, Buffer.from('to ten'));
  expect(await router.take((got) => got.length === frame.length + 4)).toEqual(tagged(frame, 10));
  await partial.hear('to ten');
  c.say(BROADCAST, 'to twenty');
  await partial.take((got) => got[12] === 0x81);
  a.say(BROADCAST, 'end');
  expect(await b.hear('end')).toEqual([]);
  expect(c.inbox).toEqual([]);
});

test('what a trunk sends with a tag comes out of access ports without, and large frames come whole', async () => {
  const a = await plugIn(handle, 1, 'net', access(10));
  const router = await plugIn(handle, 4, 'net', trunk([[10, 20]]));
  const frame = ethernet(BROADCAST, router.mac, TEST_ETHERTYPE, new Uint8Array(1504).fill(7));
  router.nic.send([tagged(frame, 10)]);
  expect(await a.take((got) => got.length === frame.length)).toEqual(frame);
  a.say(router.mac, 'answer');
  const answer = ethernet(router.mac, a.mac, TEST_ETHERTYPE, Buffer.from('answer'));
  expect(await router.take((got) => got.length === answer.length + 4)).toEqual(tagged(answer, 10));
  const large = ethernet(BROADCAST, a.mac, TEST_ETHERTYPE, new Uint8Array(65_550 - 14));
  a.nic.send([large]);
  a.say(router.mac, 'end');
  await router.take((got) => got.length === 14 + 3 + 4);
  const ports = await handle.ports('net');
  // With a tag it would be longer than any frame.
  expect(ports.find(({ id }) => id === 'port-4')!.drops.queueFull).toBe(1);
});

test('tags that a port may not use are dropped, and the same station may be in two VLANs', async () => {
  const a = await plugIn(handle, 1, 'net', access(10));
  const c = await plugIn(handle, 3, 'net', access(20));
  const router = await plugIn(handle, 4, 'net', trunk([[10, 20]]));
  const to = (vlan: number, text: string): boolean =>
    router.nic.send([tagged(ethernet(BROADCAST, router.mac, TEST_ETHERTYPE, Buffer.from(text)), vlan)]);
  to(30, 'elsewhere');
  router.say(BROADCAST, 'no tag');
  to(10, 'ten');
  to(20, 'twenty');
  await a.hear('ten');
  await c.hear('twenty');
  a.nic.send([tagged(ethernet(BROADCAST, a.mac, TEST_ETHERTYPE, Buffer.from('hop')), 20)]);
  a.say(BROADCAST, 'end');
  await router.take((got) => got.length === 14 + 3 + 4);
  expect(c.inbox).toEqual([]);
  const ports = await handle.ports('net');
  const drops = (id: string): number => ports.find((port) => port.id === id)!.drops.vlan;
  expect([drops('port-1'), drops('port-4')]).toEqual([1, 2]);
  const known = (await handle.macTable('net')).filter(({ portId }) => portId === 'port-4');
  expect(known.map(({ vlan }) => vlan).sort()).toEqual([10, 20]);
});
