/** Real User Mode Linux on our switch (Debian packages user-mode-linux and busybox-static). */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { UML_BOOT_MS, UmlGuests } from '../../../test/support/linux-uml.ts';
import { skipTest } from '../../../test/support/tools.ts';
import { checkTransport, type TransportInput } from '../../contracts/api/transport.ts';
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
  const eth = `eth0=daemon,,unix,${join(folder, 'ctl')}`;
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
    `eth0=daemon,,unix,${umlSocket}`,
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
    const eth = kind === 'daemon' ? `eth0=daemon,,unix,${socket}` : `eth0=mcast,,${group},${port},${ttl}`;
    const said = await guests.boot(`by-${kind}`, 'GUEST-DONE', ['ip=10.77.0.50', 'ping=10.77.0.1'], eth);
    expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  },
);

/** Of the host's own addresses, so that nothing leaves it. */
const [OURS, THEIRS] = ['127.0.0.1', '127.0.0.2'];
const isRoot = process.getuid?.() === 0;

test.each<[what: string, settings: string, uplink: TransportInput]>([
  [
    'l2tpv3 with UDP',
    `l2tpv3,udp=1,src=${THEIRS},dst=${OURS},srcport=17012,dstport=17011,rx_session=7,tx_session=0x55667788,rx_cookie=0xa1a2a3a4,tx_cookie=2,counter=1`,
    {
      kind: 'l2tpv3',
      local: OURS,
      remote: THEIRS,
      local_port: 17011,
      remote_port: 17012,
      receive_session: 0x55667788,
      send_session: 7,
      receive_cookie: '00000002',
      send_cookie: 'a1a2a3a4',
      counter: 'counts',
    },
  ],
  [
    'l2tpv3 with UDP of IPv6',
    'l2tpv3,v6=1,udp=1,src=::1,dst=::1,srcport=17014,dstport=17013,rx_session=7,tx_session=8',
    {
      kind: 'l2tpv3',
      local: '::1',
      remote: '::1',
      local_port: 17013,
      remote_port: 17014,
      receive_session: 8,
      send_session: 7,
      counter: 'none',
    },
  ],
  [
    'l2tpv3 by IP',
    `l2tpv3,src=${THEIRS},dst=${OURS},rx_session=7,tx_session=8,cookie64=1,rx_cookie=0xa1a2a3a4a5a6a7a8,tx_cookie=3,counter=1,pin_counter=1`,
    {
      kind: 'l2tpv3',
      local: OURS,
      remote: THEIRS,
      receive_session: 8,
      send_session: 7,
      receive_cookie: '0000000000000003',
      send_cookie: 'a1a2a3a4a5a6a7a8',
      counter: 'zero',
    },
  ],
  [
    'gre',
    `gre,src=${THEIRS},dst=${OURS},rx_key=0x0a0b0c0d,tx_key=9,sequence=1`,
    { kind: 'gre', local: OURS, remote: THEIRS, receive_key: 9, send_key: 0x0a0b0c0d, sequence: 'counts' },
  ],
])(
  'a network whose uplink is %s is reached by vec0 of linux.uml',
  { timeout: 3 * UML_BOOT_MS },
  async (_what, settings, uplink) => {
    if (!isRoot && !('local_port' in uplink)) skipTest('raw sockets need CAP_NET_RAW');
    const handle = await startSwitch({
      onError: (error) => {
        throw error;
      },
    });
    onTestFinished(() => handle.close());
    const network = { id: 'net', name: 'lab', subnet: '10.77.0.0/24' };
    const transport = checkTransport(uplink, 'uplink');
    await handle.createNetwork({ ...network, uplink: transport, uplinkRequired: true });
    const words = ['ip=10.77.0.50', 'ping=10.77.0.1'];
    const said = await guests.boot('by-vec', 'GUEST-DONE', words, `vec0:transport=${settings}`);
    expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  },
);
