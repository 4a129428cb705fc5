/** Other programs on a network's control socket, together with VMs of ours: vde_plug (vdeplug), QEMU by its boot ROM, tcpdump. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { requireTool, skipTest } from '../../../test/support/tools.ts';
import { startSwitch, type SwitchHandle } from '../index.ts';
import { BROADCAST, type FakeGuest, plugIn, TEST_ETHERTYPE } from '../testing/fake-guest.ts';
import { ethernet } from '../testing/packets.ts';

const WAIT_MS = 20_000;
const QEMU_MS = 120_000;
const QEMU_MAC = '52:54:00:12:34:56';
const PLUG_MAC = '02:00:00:00:00:77';

let folder: string;
let handle: SwitchHandle;
let guest: FakeGuest;
const children: ChildProcess[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-interop-'));
  handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  await handle.createNetwork({
    id: 'net',
    name: 'lab',
    subnet: '10.77.0.0/24',
    umlSocket: join(folder, 'ctl'),
  });
  guest = await plugIn(handle, 1, 'net', { protection: {}, addresses: ['10.77.0.50'] });
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await handle.close();
  rmSync(folder, { recursive: true });
});

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  children.push(child);
  return child;
}

/** With its length before it, as vde_plug has frames. */
function framed(frame: Uint8Array): Buffer {
  return Buffer.concat([Buffer.of(frame.length >> 8, frame.length & 255), frame]);
}

test('vde_plug and a VM of ours talk, both ways', async () => {
  const plug = start(requireTool('vde_plug', 'vdeplug'), [`vde://${folder}`]);
  const hello = ethernet(BROADCAST, PLUG_MAC, TEST_ETHERTYPE, Buffer.from('hello from vde'));
  const received: Buffer[] = [];
  plug.stdout!.on('data', (bytes: Buffer) => received.push(bytes));
  await vi.waitFor(
    async () => {
      plug.stdin!.write(framed(hello));
      await vi.waitFor(() =>
        expect(guest.inbox.some((frame) => Buffer.from(frame).equals(hello))).toBe(true),
      );
    },
    { timeout: WAIT_MS },
  );
  guest.say(PLUG_MAC, 'hello from a guest');
  const answer = ethernet(PLUG_MAC, guest.mac, TEST_ETHERTYPE, Buffer.from('hello from a guest'));
  await vi.waitFor(() => expect(Buffer.concat(received).includes(framed(answer))).toBe(true), {
    timeout: WAIT_MS,
  });
  const stations = await handle.macTable('net');
  expect(stations).toContainEqual(expect.objectContaining({ mac: PLUG_MAC, portId: 'uml' }));
});

test('QEMU gets an address by DHCP, and tcpdump reads of it in a capture', {
  timeout: QEMU_MS + WAIT_MS,
}, async () => {
  const qemu = requireTool('qemu-system-x86_64', 'qemu-system-x86');
  const netdevs = spawnSync(qemu, ['-netdev', 'help']).stdout.toString();
  if (!/^vde$/m.test(netdevs)) skipTest('this QEMU has no vde');
  if (!existsSync('/usr/lib/ipxe/qemu/pxe-virtio.rom')) skipTest('QEMU has no boot ROMs (ipxe-qemu)');
  const stream = await handle.capture('net', {
    ...{ filter: `ether host ${QEMU_MAC} and udp portrange 67-68`, snapBytes: 2000 },
    ...{ maxSeconds: QEMU_MS / 1000, maxBytes: 1e6 },
  });
  const bytes = buffer(stream);
  const card = ['-netdev', `vde,id=n,sock=${folder}`, '-device', `virtio-net-pci,netdev=n,mac=${QEMU_MAC}`];
  start(qemu, ['-accel', 'tcg', '-m', '64', '-display', 'none', '-monitor', 'none', ...card]);
  const lease = await vi.waitFor(
    async () => {
      const [found] = await handle.leases('net');
      if (found === undefined) throw new Error('QEMU has no lease yet');
      return found;
    },
    { timeout: QEMU_MS, interval: 200 },
  );
  expect(lease).toMatchObject({ mac: QEMU_MAC, portId: 'uml' });
  expect(lease.address).not.toBe('10.77.0.50');
  await handle.close();
  const tcpdump = requireTool('tcpdump', 'tcpdump');
  const said = spawnSync(tcpdump, ['-n', '-r', '-'], { input: await bytes }).stdout.toString();
  expect(said).toContain(`BOOTP/DHCP, Request from ${QEMU_MAC}`);
  expect(said).toMatch(/10\.77\.0\.1\.67 > .*BOOTP\/DHCP, Reply/);
});
