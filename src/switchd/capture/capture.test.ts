/** Captures of a running switch, read by tcpdump (Debian package tcpdump). */
import { spawnSync } from 'node:child_process';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { requireTool } from '../../../test/support/tools.ts';
import type { CaptureOptions, SwitchHandle } from '../index.ts';
import { BROADCAST, type FakeGuest, labSwitch, plugIn } from '../testing/fake-guest.ts';

const OPEN: CaptureOptions = { filter: '', snapBytes: 60_000, maxSeconds: 60, maxBytes: 1e7 };

let handle: SwitchHandle;
let a: FakeGuest;
let b: FakeGuest;
beforeEach(async () => {
  handle = await labSwitch();
  a = await plugIn(handle, 1, 'net', { protection: {}, addresses: ['10.77.0.50'] });
  b = await plugIn(handle, 2, 'net', { protection: {}, addresses: ['10.77.0.51'] });
});
afterEach(() => handle.close());

/** What tcpdump says of a capture, a line per frame. */
function read(bytes: Uint8Array, ...options: string[]): string[] {
  const tcpdump = requireTool('tcpdump', 'tcpdump');
  const { stdout, stderr } = spawnSync(tcpdump, ['-n', '-t', ...options, '-r', '-'], { input: bytes });
  expect(stderr.toString()).toContain('EN10MB');
  expect(stderr.toString()).not.toMatch(/truncated|bogus|error/);
  return stdout.toString().split('\n').filter(Boolean);
}

const ask = (text: string): void =>
  a.sendUdp({
    toMac: b.mac,
    from: '10.77.0.50',
    to: '10.77.0.51',
    fromPort: 1000,
    toPort: 2000,
    payload: Buffer.from(text),
  });

/** Ends when the network has nothing more to say, which its port's end does not. */
async function ended(stream: Readable, then: () => Promise<void>): Promise<Buffer> {
  const bytes = buffer(stream);
  await then();
  await handle.close();
  return bytes;
}

test('a network’s frames are there once each, also what was dropped, and tcpdump reads them', async () => {
  const stream = await handle.capture('net', OPEN);
  const bytes = await ended(stream, async () => {
    ask('hello');
    a.say(BROADCAST, 'spoofed', '02:00:00:00:00:99');
    a.say(BROADCAST, 'end');
    await b.hear('end');
    await handle.deleteNetwork('net').catch(() => undefined);
  });
  const lines = read(bytes, '-e').filter((line) => line.includes(' > '));
  expect(lines).toHaveLength(3);
  expect(lines[0]).toContain('10.77.0.50.1000 > 10.77.0.51.2000: UDP, length 5');
  expect(lines[1]).toContain('02:00:00:00:00:99 > ff:ff:ff:ff:ff:ff');
  expect(Buffer.from(bytes).toString('latin1')).toContain('port-1');
});

test('a port’s frames are there in both directions, and only those that the filter wants', async () => {
  const stream = await handle.capture('net', { ...OPEN, portId: 'port-2', filter: 'udp port 2000' });
  const bytes = await ended(stream, async () => {
    ask('one');
    b.sendUdp({
      toMac: a.mac,
      from: '10.77.0.51',
      to: '10.77.0.50',
      fromPort: 2000,
      toPort: 1000,
      payload: Buffer.from('two'),
    });
    b.say(a.mac, 'end');
    await a.hear('end');
  });
  expect(read(bytes)).toEqual([
    'IP 10.77.0.50.1000 > 10.77.0.51.2000: UDP, length 3',
    'IP 10.77.0.51.2000 > 10.77.0.50.1000: UDP, length 3',
  ]);
});

test('frames are cut to the snap length, and the capture ends before its size', async () => {
  const stream = await handle.capture('net', { ...OPEN, snapBytes: 60, maxBytes: 4000 });
  const bytes = buffer(stream);
  for (let i = 0; i < 100; i++) ask('x'.repeat(1000));
  const whole = await bytes;
  expect(whole.length).toBeLessThan(4100);
  const lines = read(whole);
  expect(lines.length).toBeGreaterThan(20);
  expect(lines[0]).toContain('length 1000');
});

test('it ends after its time, and when nobody listens any more', async () => {
  await buffer(await handle.capture('net', { ...OPEN, maxSeconds: 0.05 }));
  for (let i = 0; i < 40; i++) (await handle.capture('net', OPEN)).destroy();
  const streams = [];
  for (;;) {
    const stream = await handle.capture('net', OPEN).catch((error: unknown) => error as { code: string });
    if ('code' in stream) {
      expect(stream.code).toBe('quota_exceeded');
      break;
    }
    streams.push(stream);
    expect(streams.length).toBeLessThan(20);
  }
  for (const stream of streams) stream.destroy();
  await vi.waitFor(async () => {
    const wrong = handle.capture('net', { ...OPEN, filter: 'what' });
    await expect(wrong).rejects.toMatchObject({ field: 'filter' });
  });
  await expect(handle.capture('net', { ...OPEN, portId: 'none' })).rejects.toMatchObject({
    code: 'not_found',
  });
});

test('a reader that does not read costs nobody anything: frames are left out, and counted', async () => {
  const stream = await handle.capture('net', { ...OPEN, maxBytes: 1e9 });
  stream.pause();
  const frame = new Uint8Array(60_000);
  frame.set([...Buffer.from('0200000000020200000000010800', 'hex')]);
  frame.set([0x45, 0, 0xea, 0x52, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 50, 10, 77, 0, 51], 14);
  for (let i = 0; i < 150; i++) {
    a.nic.send([frame]);
    await b.take((got) => got.length === frame.length);
  }
  ask('end');
  await b.take((got) => got.length < 60);
  const bytes = await ended(stream, async () => undefined);
  expect(bytes.length).toBeLessThan(6e6);
  expect(bytes.length).toBeGreaterThan(3e6);
  expect(read(bytes).length).toBeGreaterThan(50);
});
