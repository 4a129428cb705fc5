/** Real User Mode Linux on our switch (Debian packages user-mode-linux and busybox-static). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import { requireTool, skipTest } from '../../../test/support/tools.ts';
import { AppError } from '../../contracts/errors.ts';
import { cpioArchive } from '../../images/cpio.ts';
import { startSwitch } from '../index.ts';
import { UmlSwitch } from './control-server.ts';

const BOOT_MS = 60_000;
const INIT = `#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc; $B mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for word in $($B cat /proc/cmdline); do case "$word" in
  ip=*) $B ifconfig eth0 \${word#ip=} up; echo GUEST-UP;;
  ping=*) $B ping -c 3 -i 0.2 -s 1400 \${word#ping=}; echo GUEST-DONE;;
esac; done
while :; do $B sleep 3600; done
`;

let folder: string;
let ethernet: UmlSwitch;
const guests: ChildProcess[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'umlaut-uml-'));
  ethernet = await UmlSwitch.start({
    path: join(folder, 'ctl'),
    onError: (error) => {
      throw error;
    },
  });
});
afterEach(async () => {
  for (const guest of guests.splice(0)) {
    if (guest.exitCode !== null || guest.signalCode !== null) continue;
    // INVARIANT: it is running, so it has a number; its threads are processes of its group.
    process.kill(-guest.pid!, 'SIGKILL');
    await once(guest, 'exit');
  }
  await ethernet.close();
  rmSync(folder, { recursive: true });
});

function writeInitrd(busybox: string): void {
  const entries = ['bin', 'dev', 'proc'].map((path) => ({ kind: 'folder', path }) as const);
  const archive = cpioArchive([
    ...entries,
    { kind: 'file', path: 'bin/busybox', content: readFileSync(busybox), executable: true },
    { kind: 'file', path: 'init', content: Buffer.from(INIT), executable: true },
  ]);
  writeFileSync(join(folder, 'initrd'), archive);
}

/** Boots until the guest says `awaited`; gives all that it said. */
async function boot(
  name: string,
  awaited: string,
  args: readonly string[],
  eth = `daemon,,unix,${join(folder, 'ctl')}`,
): Promise<string> {
  const uml = requireTool('linux.uml', 'user-mode-linux');
  const setarch = requireTool('setarch', 'util-linux');
  const machine = [
    'mem=96M',
    `umid=${name}`,
    `uml_dir=${folder}`,
    `initrd=${join(folder, 'initrd')}`,
    'root=/dev/ram0',
  ];
  const consoles = ['con=null', 'con0=null,fd:1', 'ssl=null', `eth0=${eth}`];
  // Without randomized addresses, with which UML sometimes has no memory.
  const guest = spawn(setarch, ['-R', uml, ...machine, ...consoles, ...args], {
    cwd: folder,
    env: { ...process.env, TMPDIR: folder, HOME: folder },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  guests.push(guest);
  let said = '';
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${awaited}:\n${said}`)), BOOT_MS);
    const hear = (bytes: Uint8Array): void => {
      said += Buffer.from(bytes).toString('latin1');
      if (!said.includes(awaited)) return;
      clearTimeout(timer);
      resolve(said);
    };
    guest.stdout.on('data', hear);
    guest.stderr.on('data', hear);
    guest.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`linux.uml has ended (${code}):\n${said}`));
    });
  });
}

/** The busybox for the initial RAM disk. */
function staticBusybox(): string {
  const busybox = requireTool('busybox', 'busybox-static');
  if (spawnSync('ldd', [busybox]).status === 0) {
    skipTest('busybox is not static (Debian package busybox-static)');
  }
  return busybox;
}

test('two machines of linux.uml with eth0=daemon ping each other', { timeout: 3 * BOOT_MS }, async () => {
  writeInitrd(staticBusybox());
  await boot('one', 'GUEST-UP', ['ip=10.9.0.1']);
  const said = await boot('two', 'GUEST-DONE', ['ip=10.9.0.2', 'ping=10.9.0.1']);
  expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  expect(await ethernet.ports()).toHaveLength(2);
});

test('linux.uml joins a network and pings its gateway', { timeout: 3 * BOOT_MS }, async () => {
  writeInitrd(staticBusybox());
  const umlSocket = join(folder, 'net.ctl');
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  onTestFinished(() => handle.close());
  await handle.createNetwork({ id: 'net', name: 'lab', subnet: '10.77.0.0/24', umlSocket });
  const said = await boot(
    'three',
    'GUEST-DONE',
    ['ip=10.77.0.50', 'ping=10.77.0.1'],
    `daemon,,unix,${umlSocket}`,
  );
  expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
});

test.each(['daemon', 'mcast'] as const)(
  'a network whose uplink is %s is reached by linux.uml on the same',
  { timeout: 3 * BOOT_MS },
  async (kind) => {
    writeInitrd(staticBusybox());
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
    const said = await boot(`by-${kind}`, 'GUEST-DONE', ['ip=10.77.0.50', 'ping=10.77.0.1'], eth);
    expect(said).toContain('3 packets transmitted, 3 packets received, 0% packet loss');
  },
);
