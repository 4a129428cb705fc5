/** Real User Mode Linux on our switch (Debian packages user-mode-linux and busybox-static). */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { UML_BOOT_MS, UmlGuests } from '../../../test/support/linux-uml.ts';
import { skipTest } from '../../../test/support/tools.ts';
import { AppError } from '../../contracts/errors.ts';
import { startSwitch } from '../index.ts';
import { UmlSwitch } from './control-server.ts';

let folder: string;
let ethernet: UmlSwitch;
let guests: UmlGuests;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-uml-'));
  guests = new UmlGuests(folder);
  ethernet = await UmlSwitch.start({
    path: join(folder, 'ctl'),
    onError: (error) => {
      throw error;
    },
  });
});
afterEach(async () => {
  await guests.end();
  await ethernet.close();
  rmSync(folder, { recursive: true });
});

test('two machines of linux.uml with eth0=daemon ping each other', { timeout: 3 * UML_BOOT_MS }, async () => {
  const eth = `daemon,,unix,${join(folder, 'ctl')}`;
  await guests.boot('one', 'GUEST-UP', ['ip=10.9.0.1'], eth);
  const said = await guests.boot('two', 'GUEST-DONE', ['ip=10.9.0.2', 'ping=10.9.0.1'], eth);
  expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  expect(await ethernet.ports()).toHaveLength(2);
});

test('linux.uml joins a network and pings its gateway', { timeout: 3 * UML_BOOT_MS }, async () => {
  const umlSocket = join(folder, 'net.ctl');
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  await handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.77.0.0/24', umlSocket });
  const said = await guests.boot(
    'three',
    'GUEST-DONE',
    ['ip=10.77.0.50', 'ping=10.77.0.1'],
    `daemon,,unix,${umlSocket}`,
  );
  expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
});

test.each(['daemon', 'mcast'] as const)(
  'a network whose uplink is %s is reached by linux.uml on the same',
  { timeout: 3 * UML_BOOT_MS },
  async (kind) => {
    const handle = await startSwitch({
      onError: (error) => {
        throw error;
      },
    });
    onTestFinished(() => handle.close());
    const socket = join(folder, 'ctl');
    const [group, port, ttl] = ['239.192.168.78', 20_000 + (process.pid % 20_000), 0];
    const uplink = kind === 'daemon' ? ({ kind, socket } as const) : ({ kind, group, port, ttl } as const);
    try {
      const network = { id: 'net', name: 'lab', subnet: '10.77.0.0/24' };
      await handle.createNetwork({ ...network, uplink, uplinkRequired: true });
    } catch (error) {
      if (error instanceof AppError && error.code === 'unreachable') skipTest(`no ${kind} on this host`);
      throw error;
    }
    const eth = kind === 'daemon' ? `daemon,,unix,${socket}` : `mcast,,${group},${port},${ttl}`;
    const said = await guests.boot(`by-${kind}`, 'GUEST-DONE', ['ip=10.77.0.50', 'ping=10.77.0.1'], eth);
    expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  },
);
