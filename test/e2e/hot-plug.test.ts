/** Disks, network cards and memory that come and go while a stock Debian guest runs, over the API. */
import { connect } from 'node:net';
import { describe, expect, test } from 'vitest';
import { windowSizeMessage } from '../../src/vmm/channels/telnet.ts';
import type { ConsoleSession } from '../support/console-session.ts';
import { useImageDaemon } from '../support/e2e-daemon.ts';
import { until } from '../support/mconsole-client.ts';

const MINUTE_MS = 60_000;
const DISK_BYTES = 16 * 1024 * 1024;

let session: ConsoleSession;
const daemon = useImageDaemon({
  async prepare({ client }) {
    await client.createVm({ name: 'web', memory_bytes: 160 * 1024 * 1024 });
    await client.createDisk({ name: 'data', size_bytes: DISK_BYTES });
    session = await daemon.boot('web');
  },
});

const appears = (file: string): string => `until [ -e ${file} ]; do usleep 100000; done`;
const goes = (file: string): string => `while [ -e ${file} ]; do usleep 100000; done`;
const say = (command: string) => daemon.client.mconsole('web', command);

describe('a guest that runs', () => {
  test(
    'finds a disk, uses it, and lets it go; it comes back with its data',
    async () => {
      expect((await daemon.client.attachDisk('web', { disk: 'data' })).disks).toHaveLength(2);
      await session.check(appears('/dev/vdb'));
      expect(await session.check('cat /sys/block/vdb/serial')).toBe('ubd1');
      await session.check(
        'mke2fs -q /dev/vdb && mount /dev/vdb /mnt && echo kept > /mnt/file && umount /mnt',
      );
      // Linux would let go of it while it is mounted.
      await session.check('mount /dev/vdb /mnt');
      expect(await say('remove ubd1')).toMatchObject({ err: -16, text: 'Device is currently open' });
      await expect(daemon.client.detachDisk('web', 'ubd1')).rejects.toMatchObject({
        code: 'in_use',
        field: 'device',
        remedy: expect.stringContaining('unmount it there first'),
      });
      expect((await say('proc mounts')).text).toContain('/dev/vdb /mnt ');
      await session.check('echo kept > /mnt/file && umount /mnt && [ -e /dev/vdb ]');
      expect((await daemon.client.detachDisk('web', 'ubd1')).disks).toHaveLength(1);
      await session.check(goes('/dev/vdb'));
      expect(await say('config ubd1=data')).toMatchObject({ ok: true, err: 0, text: '' });
      await session.check(appears('/dev/vdb'));
      expect(await session.check('mount /dev/vdb /mnt && cat /mnt/file; umount /mnt')).toBe('kept');
      expect(await say('remove ubd1')).toMatchObject({ ok: true, err: 0 });
      await session.check(goes('/dev/vdb'));
      expect(await say('remove ubd1')).toMatchObject({ err: -19 });
      expect(await say('remove ubd0')).toMatchObject({ err: -16, text: 'Device is currently open' });
    },
    5 * MINUTE_MS,
  );

  test(
    'finds a network card and lets it go',
    async () => {
      const before = (await daemon.client.getNetwork('default')).ports;
      const { nics } = await daemon.client.attachNic('web', { network: 'default' });
      expect(nics.map(({ device }) => device)).toEqual(['eth0', 'eth1']);
      await session.check(appears('/sys/class/net/eth1'));
      expect(await session.check('cat /sys/class/net/eth1/address')).toBe(nics[1]!.mac);
      // The default image asks for an address by itself.
      await session.check('until ip addr show eth1 | grep -q "inet "; do usleep 100000; done');
      expect(await session.check('ip addr show eth1')).toContain(`inet ${nics[1]!.addresses[0]}/`);
      expect((await daemon.client.getVmStats('web')).nics[1]!.tx_frames).toBeGreaterThan(0);
      expect((await daemon.client.detachNic('web', 'eth1')).nics).toHaveLength(1);
      await session.check(goes('/sys/class/net/eth1'));
      await session.check('while pgrep -f "udhcpc.*eth1" > /dev/null; do usleep 100000; done');
      expect((await daemon.client.getNetwork('default')).ports).toBe(before);
      expect(await say('config eth1=default')).toMatchObject({ ok: true });
      await session.check(appears('/sys/class/net/eth1'));
      expect(await say('remove eth1')).toMatchObject({ ok: true });
    },
    3 * MINUTE_MS,
  );

  test(
    'is not left with half of it: what was plugged in is there after a reboot',
    async () => {
      await daemon.client.attachDisk('web', { disk: 'data' });
      await daemon.finish(await daemon.client.rebootVm('web'));
      await session.login();
      await session.check(appears('/dev/vdb'));
      expect((await daemon.client.detachDisk('web', 'ubd1')).disks).toHaveLength(1);
      await session.check(goes('/dev/vdb'));
    },
    3 * MINUTE_MS,
  );

  test(
    'gets consoles: con3 is hvc3, a telnet client is at its other end, and its size arrives',
    async () => {
      expect(await say('config con3')).toMatchObject({ text: 'none' });
      expect(await say('config con3=port:0')).toMatchObject({ ok: true });
      const port = Number(/^port:(\d+)$/.exec((await say('config con3')).text)![1]);
      await session.check('until stty -F /dev/hvc3 raw -echo 2>/dev/null; do usleep 100000; done');
      const client = connect(port, '127.0.0.1');
      let seen = '';
      client.on('data', (bytes: Buffer) => (seen += bytes.toString('latin1')));
      client.write(windowSizeMessage(132, 43));
      await session.check('echo over the port > /dev/hvc3');
      await until(() => (seen.includes('over the port') ? true : undefined), 'output of con3');
      await session.check('until stty -F /dev/hvc3 size | grep -q "^43 132"; do usleep 100000; done');
      client.write('typed by telnet\n');
      expect(await session.check('head -n 1 /dev/hvc3')).toBe('typed by telnet');
      expect((await daemon.client.getVm('web')).consoles).toContain('hvc3');
      client.destroy();
      expect(await say('remove con3')).toMatchObject({ ok: true });
      await session.check('while stty -F /dev/hvc3 2>/dev/null; do usleep 100000; done');
      expect((await daemon.client.getVm('web')).consoles).not.toContain('hvc3');
    },
    2 * MINUTE_MS,
  );

  test(
    'gives memory back, and gets it again',
    async () => {
      const total = async () => Number(await session.check("awk '/MemTotal/ { print $2 }' /proc/meminfo"));
      const before = await total();
      expect(await say('config mem=-64M')).toMatchObject({ ok: true });
      await session.check(
        `until [ $(awk '/MemTotal/ { print $2 }' /proc/meminfo) -le ${before - 65536} ]; do usleep 100000; done`,
      );
      expect((await daemon.client.getVm('web')).memory_bytes).toBe(96 * 1024 * 1024);
      expect(await say('config mem=+64M')).toMatchObject({ ok: true });
      await session.check(
        `until [ $(awk '/MemTotal/ { print $2 }' /proc/meminfo) -ge ${before} ]; do usleep 100000; done`,
      );
      expect(await say('config mem=+64M')).toMatchObject({ ok: false });
    },
    2 * MINUTE_MS,
  );
});
