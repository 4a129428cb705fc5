/** TAP devices and network interfaces, in network namespaces that the tests make themselves. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { beforeAll, expect, test } from 'vitest';
import { requireTool, skipTest } from '../../../test/support/tools.ts';
import type { Transport } from '../../contracts/api/transport.ts';

const PROBE = fileURLToPath(new URL('../testing/link-probe.ts', import.meta.url));
const PING = fileURLToPath(new URL('../testing/ping-probe.ts', import.meta.url));
const UMLAUT = fileURLToPath(new URL('../../cli/main.ts', import.meta.url));
const NODE = process.execPath;
const RUN_MS = 60_000;

/** Runs a shell script as root of a user namespace with a network of its own, and its own /sys. */
function inNamespace(script: string): {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
} {
  const unshare = requireTool('unshare', 'util-linux');
  requireTool('ip', 'iproute2');
  const whole = `set -e; mount -t sysfs sys /sys; ip link set lo up; ${script}`;
  return spawnSync(unshare, ['-rnm', 'sh', '-c', whole], { encoding: 'utf8', timeout: RUN_MS });
}

const probe = (transport: Transport, kills = 0): string =>
  `${NODE} ${PROBE} '${JSON.stringify(transport)}' ${kills}`;

beforeAll(() => {
  const tried = inNamespace('ip tuntap add dev try0 mode tap; ip link add va type veth peer name vb');
  if (tried.status !== 0)
    skipTest(`no network namespace with devices may be made here: ${tried.stderr.trim()}`);
});

test('tuntap: a device that `umlaut tap create` has made leads to the host; and it is listed and deleted', {
  timeout: RUN_MS,
}, () => {
  const tap = `${NODE} ${UMLAUT} tap`;
  const { stdout, stderr } = inNamespace(
    `${tap} create tap7 --owner 0; ${tap} create --brief; ${tap} list;
     ip address add 10.8.0.1/24 dev tap7; ip link set tap7 up;
     ${probe({ kind: 'tuntap', device: 'tap7' })};
     ${tap} delete tap7; ${tap} delete tap0; ${tap} list; ${tap} delete tap7 || echo status $?`,
  );
  expect(stderr).toContain('there is no TAP device tap7');
  expect(stdout.split('\n')).toEqual([
    "Set 'tap7' persistent and owned by uid 0",
    'tap0',
    expect.stringMatching(/^NAME +PERSISTENT +UID +GID/),
    expect.stringMatching(/^tap0 +yes +0/),
    expect.stringMatching(/^tap7 +yes +0/),
    'answer from 0a080001',
    "Set 'tap7' nonpersistent",
    "Set 'tap0' nonpersistent",
    expect.stringMatching(/^NAME/),
    'status 3',
    '',
  ]);
});

test('tuntap: a switch that was killed has its device again', { timeout: RUN_MS }, () => {
  const { stdout } = inNamespace(
    `ip tuntap add dev tap8 mode tap; ip address add 10.8.0.1/24 dev tap8; ip link set tap8 up;
     ${probe({ kind: 'tuntap', device: 'tap8' }, 3)}`,
  );
  expect(stdout).toBe('answer from 0a080001\n');
});

test('pcap: frames of an interface come in and go out, as far as the filter lets them', {
  timeout: RUN_MS,
}, () => {
  requireTool('tcpdump', 'tcpdump');
  const devices =
    'ip link add va type veth peer name vb; ip link set va up; ip link set vb up; ip address add 10.8.0.1/24 dev vb';
  const through = (filter: string): Transport => ({
    kind: 'pcap',
    interface: 'va',
    filter,
    promiscuous: true,
  });
  const { stdout, stderr } = inNamespace(
    `${devices}; ${probe(through(''))}; ${probe(through('arp and host 10.8.0.1'))}; ${probe(through('tcp port 80'))};
     ${probe(through('no such filter'))}`,
  );
  expect(stderr).toBe('');
  expect(stdout.split('\n')).toEqual([
    'answer from 0a080001',
    'answer from 0a080001',
    'internal',
    'invalid_input',
    '',
  ]);
});

test('nat: pings go through where the host permits them; what cannot go on is answered at once', {
  timeout: RUN_MS,
}, () => {
  // A new namespace permits them to nobody.
  const permit = "echo '0 0' >/proc/sys/net/ipv4/ping_group_range";
  const { stdout, stderr } = inNamespace(`${NODE} ${PING}; ${permit}; ${NODE} ${PING}`);
  expect(stderr).toBe('');
  const noWay = 'type 3 code 1: 10.0.2.15 to 198.51.100.1, 5000 to 9, 77';
  const pings = [
    ['type 3 other', 'type 1 other'],
    ['type 0 ours', 'type 129 ours'],
  ];
  expect(stdout.split('\n')).toEqual([...pings[0]!, noWay, ...pings[1]!, noWay, '']);
});
