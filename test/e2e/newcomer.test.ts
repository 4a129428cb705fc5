/**
 * What a newcomer does first, against the running daemon over HTTP and WebSocket, in this order.
 * Each test goes on from where the one before left off.
 */
import { describe, expect, test } from 'vitest';
import type { ConsoleSession } from '../support/console-session.ts';
import { useImageDaemon } from '../support/e2e-daemon.ts';

const MINUTE_MS = 60_000;
const MEMORY_BYTES = 128 * 1024 * 1024;
const SECOND_DISK_BYTES = 16 * 1024 * 1024;
const HAS_ADDRESS = 'until ip -4 addr show dev eth0 | grep -q inet; do usleep 200000; done';

const daemon = useImageDaemon();
let alpha: ConsoleSession;
let beta: ConsoleSession;

async function halt(vm: string, session: ConsoleSession): Promise<void> {
  session.close();
  expect(await daemon.client.mconsole(vm, 'halt')).toMatchObject({ ok: true });
  expect((await daemon.client.waitVm(vm, 'halted', 60)).state).toBe('halted');
}

describe('a newcomer', () => {
  test(
    'creates two VMs from the default image, starts them and logs in',
    async () => {
      for (const name of ['alpha', 'beta']) {
        const vm = await daemon.client.createVm({ name, memory_bytes: MEMORY_BYTES });
        expect(vm).toMatchObject({ name, state: 'created', image_name: 'default' });
      }
      [alpha, beta] = await Promise.all([daemon.boot('alpha'), daemon.boot('beta')]);
      expect(await alpha.check('hostname')).toBe('alpha');
      expect(await beta.check('hostname')).toBe('beta');
      const states = (await daemon.client.listVms()).map(({ name, state }) => [name, state]);
      expect(states.sort()).toEqual([
        ['alpha', 'running'],
        ['beta', 'running'],
      ]);
    },
    5 * MINUTE_MS,
  );

  test(
    'pings one from the other, by name',
    async () => {
      await Promise.all([alpha.check(HAS_ADDRESS), beta.check(HAS_ADDRESS)]);
      expect(await alpha.check('ping -c 3 -W 5 beta')).toContain('3 packets received');
      const [nic] = (await daemon.client.getVm('beta')).nics;
      expect(nic?.addresses).toHaveLength(1);
      expect(await beta.check('ip -4 addr show dev eth0')).toContain(`inet ${nic?.addresses[0]}/24`);
      expect(await beta.check(`ping -c 1 -W 5 alpha`)).toContain('1 packets received');
    },
    MINUTE_MS,
  );

  test(
    'writes a file, backs up, breaks the file, restores and reads the old content',
    async () => {
      await alpha.check('echo the old content > /root/precious && sync');
      const backup = await daemon.finish(
        await daemon.client.createBackup('alpha', { name: 'before' }),
        'backup',
      );
      expect((await daemon.client.listBackups()).map(({ id, name }) => [id, name])).toEqual([
        [backup, 'before'],
      ]);
      await alpha.check('echo broken > /root/precious && sync');
      await daemon.finish(await daemon.client.restoreBackup('before', { name: 'restored' }));
      const restored = await daemon.boot('restored');
      expect(await restored.check('cat /root/precious')).toBe('the old content');
      expect(await alpha.check('cat /root/precious')).toBe('broken');
      await halt('restored', restored);
    },
    5 * MINUTE_MS,
  );

  test(
    'sees the guest’s own SysRq handler answer on the console',
    async () => {
      expect(await daemon.client.mconsole('alpha', 'sysrq h')).toMatchObject({ ok: true });
      await alpha.expect(/sysrq: HELP : .*reboot\(b\)/);
      const { status } = await daemon.request('POST', '/v1/vms/alpha/mconsole/sysrq', { letter: 'm' });
      expect(status).toBe(200);
      await alpha.expect(/sysrq: Show Memory/);
      expect(await daemon.request('POST', '/v1/vms/alpha/mconsole/sysrq', { letter: 'no' })).toMatchObject({
        status: 400,
        body: { code: 'invalid_input', field: 'letter' },
      });
    },
    MINUTE_MS,
  );

  test(
    'stops and goes: in between the guest makes no progress',
    async () => {
      await alpha.check(
        '(i=0; while :; do i=$((i+1)); echo $i > /tmp/count; done) & sleep 1; cat /tmp/count',
      );
      expect(await daemon.client.mconsole('alpha', 'stop')).toMatchObject({ ok: true, text: 'stopped' });
      expect((await daemon.client.getVm('alpha')).state).toBe('stopped');
      const before = (await daemon.client.getVmStats('alpha')).instructions;
      alpha.send('echo "a"wake\n');
      // Time passes meanwhile: the other VM runs on.
      await beta.check('sleep 1');
      expect((await daemon.client.getVmStats('alpha')).instructions).toBe(before);
      expect(await daemon.client.mconsole('alpha', 'stop')).toMatchObject({
        ok: false,
        text: 'Already stopped',
      });
      expect(await daemon.client.mconsole('alpha', 'go')).toMatchObject({ ok: true });
      await alpha.expect(/awake/);
      expect((await daemon.client.getVmStats('alpha')).instructions).toBeGreaterThan(before);
      expect(await daemon.client.mconsole('alpha', 'go')).toMatchObject({ ok: false, text: 'Not stopped' });
      await alpha.check('kill %1 || kill $!');
    },
    MINUTE_MS,
  );

  test(
    'halts, configures a second disk, uses it, and removes it',
    async () => {
      await halt('alpha', alpha);
      await daemon.client.createDisk({ name: 'data', size_bytes: SECOND_DISK_BYTES });
      expect(await daemon.client.mconsole('alpha', 'config ubd1=data')).toMatchObject({ ok: true, text: '' });
      expect((await daemon.client.mconsole('alpha', 'config ubd1')).text).toContain('data');
      alpha = await daemon.boot('alpha');
      expect(await alpha.check('cat /sys/block/vdb/size')).toBe(String(SECOND_DISK_BYTES / 512));
      await alpha.check('echo kept on the second disk > /dev/vdb && sync');
      await halt('alpha', alpha);
      expect(await daemon.client.mconsole('alpha', 'remove ubd1')).toMatchObject({ ok: true });
      expect((await daemon.client.getVm('alpha')).disks.map(({ device }) => device)).toEqual(['ubd0']);
      expect(await daemon.client.getDisk('data')).toMatchObject({
        vm_id: null,
        size_bytes: SECOND_DISK_BYTES,
      });
    },
    5 * MINUTE_MS,
  );

  test(
    'restarts the daemon and finds everything',
    async () => {
      await beta.check('echo still here > /root/kept && sync');
      beta.close();
      const before = await inventory();
      await daemon.stop();
      await daemon.start();
      await expectEverything(before);
    },
    5 * MINUTE_MS,
  );

  test(
    'finds everything after the daemon was killed',
    async () => {
      const before = await inventory();
      await daemon.kill();
      await daemon.start();
      await expectEverything(before);
      expect(await daemon.client.mconsole('alpha', 'config ubd1=data')).toMatchObject({ ok: true });
      alpha = await daemon.boot('alpha');
      expect(await alpha.check('head -n 1 /dev/vdb')).toBe('kept on the second disk');
      expect(await alpha.check('cat /root/precious')).toBe('broken');
    },
    5 * MINUTE_MS,
  );
});

/** Everything that has to be there again, without what changes when a VM boots. */
async function inventory() {
  const { client } = daemon;
  const vms = (await client.listVms()).map(({ id, name, disks, nics }) => ({
    id,
    name,
    disks: disks.map((disk) => disk.id),
    macs: nics.map(({ mac }) => mac),
  }));
  const ids = (items: readonly { readonly id: string }[]): string[] => items.map(({ id }) => id).sort();
  return {
    vms: vms.sort((a, b) => a.name.localeCompare(b.name)),
    disks: ids(await client.listDisks()),
    images: ids(await client.listImages()),
    networks: ids(await client.listNetworks()),
    backups: ids(await client.listBackups()),
  };
}

/** Beta was running and does so again by itself, with what it had written; the others are as they were. */
async function expectEverything(before: Awaited<ReturnType<typeof inventory>>): Promise<void> {
  expect(await inventory()).toEqual(before);
  expect((await daemon.client.waitVm('beta', 'running', 60)).state).toBe('running');
  for (const vm of ['alpha', 'restored']) expect((await daemon.client.getVm(vm)).state).toBe('halted');
  const session = await daemon.console('beta');
  await session.login();
  expect(await session.check('cat /root/kept')).toBe('still here');
  session.close();
}
