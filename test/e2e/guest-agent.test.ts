/** Backups and snapshots of a guest that runs Debian's qemu-guest-agent, and of guests whose agents hang. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConsoleSession } from '../support/console-session.ts';
import { Daemon } from '../support/daemon.ts';
import { guestAgentDisk } from '../support/guest-agent-disk.ts';
import { imageObstacle } from '../support/test-image.ts';
import { skipTest } from '../support/tools.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

/** Called by the agent with `freeze` before it freezes, and with `thaw` once it has thawed. */
const HOOK = `#!/bin/sh
echo "$1" >> /run/hook.log
`;
/** An agent that freezes for real and is not heard of again. */
const BAD_AGENT = `#!/bin/sh
exec 3<>"$1"
while read -r line <&3; do
  case "$line" in
    *guest-sync-delimited*) id=\${line##*:}; printf '\\377{"return": %s}\\n' "\${id%%\\}*}" >&3 ;;
    *fsfreeze-freeze*) fsfreeze --freeze / && echo frozen > /run/bad.log; echo '{"return": 1}' >&3; exec sleep 100000 ;;
  esac
done
`;

let home: string;
let daemon: Daemon;
let disk: string;
let obstacle: string | undefined;

beforeAll(async () => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-agent-'));
  daemon = await Daemon.start(home);
  try {
    await daemon.importTestImage();
    disk = await guestAgentDisk();
  } catch (error) {
    obstacle = imageObstacle(error);
    if (obstacle === undefined) throw error;
  }
}, 10 * MINUTE_MS);

afterAll(async () => {
  await daemon?.stop();
  fs.rmSync(home, { recursive: true, force: true });
}, MINUTE_MS);

async function writeScript(session: ConsoleSession, file: string, text: string): Promise<void> {
  await session.check(`: > ${file}`);
  for (const line of text.trim().split('\n')) {
    await session.check(`echo '${line.replaceAll("'", "'\\''")}' >> ${file}`);
  }
  await session.check(`chmod +x ${file}`);
}

async function withAgentDisk(): Promise<ConsoleSession> {
  const { client } = daemon;
  const { id } = await client.createDisk({ name: 'agent', size_bytes: fs.statSync(disk).size });
  fs.copyFileSync(disk, path.join(home, 'disks', `${id}.img`));
  await client.createVm({ name: 'guest', memory_bytes: 160 * MIB, disks: [{ disk: 'agent' }] });
  const guest = await daemon.boot('guest');
  // The kernel's answers to SysRq are to be seen.
  await guest.check('dmesg -n 7');
  await guest.check('mkdir -p /agent && mount -o ro /dev/vdb /agent');
  await guest.check(
    'for p in /sys/class/virtio-ports/*; do grep -q org.qemu.guest_agent.0 $p/name && echo /dev/$(basename $p) > /run/port; done; cat /run/port',
  );
  await guest.check("find /agent -name '*.so*' | sed 's|/[^/]*$||' | sort -u | tr '\\n' ':' > /run/libs");
  return guest;
}

/** Waits, in the guest, until a command succeeds. */
const until = (guest: ConsoleSession, condition: string): Promise<string> =>
  guest.check(`until ${condition}; do usleep 50000; done`, 2 * MINUTE_MS);

test(
  "a guest's file systems are frozen by its agent for a backup and a snapshot, and by an agent that hangs not for longer",
  async () => {
    if (obstacle !== undefined) skipTest(obstacle);
    const { client } = daemon;
    const guest = await withAgentDisk();
    const consistencyOf = async (name: string): Promise<string | null> => {
      const id = await daemon.finish(await client.createBackup('guest', { name }), 'backup');
      return (await client.getBackup(id)).consistency;
    };
    /** The guest writes, durably. */
    const writes = async (text: string): Promise<void> => {
      await guest.check(`echo ${text} > /root/after && sync && cat /root/after`, 2 * MINUTE_MS);
    };

    expect(await consistencyOf('without')).toBe('synced');

    await writeScript(guest, '/run/hook', HOOK);
    await guest.check(
      '$(find /agent -name ld-linux-x86-64.so.2 -type f | head -n 1)' +
        ' --library-path "$(cat /run/libs)" /agent/usr/sbin/qemu-ga -m virtio-serial -p "$(cat /run/port)" -t /run' +
        ' -f /run/qga.pid -F/run/hook -d',
    );
    await until(guest, 'test -s /run/qga.pid');
    // Nobody but the freeze makes it durable.
    await guest.check('echo precious > /root/fresh');
    expect(await consistencyOf('frozen')).toBe('guest-agent');
    expect(await guest.check('cat /run/hook.log')).toBe('freeze\nthaw');
    await writes('one');
    const fresh = await client.readBackupFile('frozen', { path: '/root/fresh', disk: 'ubd0' });
    expect(await fresh.text()).toBe('precious\n');

    const snapshot = await client.createSnapshot('guest', { name: 'quiet', quiesce: true });
    expect(snapshot.consistency).toBe('guest-agent');
    expect((await client.createSnapshot('guest', { name: 'plain' })).consistency).toBe('crash');
    expect(await guest.check('cat /run/hook.log')).toBe('freeze\nthaw\nfreeze\nthaw');
    await writes('two');

    // One that does not answer at all.
    await guest.check('kill -STOP $(cat /run/qga.pid)');
    expect(await consistencyOf('stopped')).toBe('synced');
    await writes('three');
    // What it was asked meanwhile does it no harm.
    await guest.check('kill -CONT $(cat /run/qga.pid)');
    expect(await consistencyOf('again')).toBe('guest-agent');
    await writes('four');

    // One that freezes, and then does not thaw.
    await guest.check('kill $(cat /run/qga.pid)');
    await until(guest, '! test -e /run/qga.pid');
    await writeScript(guest, '/run/bad', BAD_AGENT);
    await guest.check('(/run/bad "$(cat /run/port)" > /dev/null 2>&1 &)');
    await until(guest, 'ls -l /proc/[0-9]*/fd 2>/dev/null | grep -q "$(cat /run/port)"');
    expect(await consistencyOf('hung')).toBe('guest-agent');
    expect(await guest.check('cat /run/bad.log')).toBe('frozen');
    await writes('five');
    guest.close();
    await daemon.finish(await client.haltVm('guest'));
  },
  12 * MINUTE_MS,
);
