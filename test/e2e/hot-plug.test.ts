/** Disks, network cards and memory that come and go while a stock Debian guest runs, over the API. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ConsoleSession } from '../support/console-session.ts';
import { Daemon } from '../support/daemon.ts';
import { imageObstacle } from '../support/test-image.ts';
import { skipTest } from '../support/tools.ts';

const MINUTE_MS = 60_000;
const DISK_BYTES = 16 * 1024 * 1024;

let home: string;
let daemon: Daemon;
let session: ConsoleSession;
let obstacle: string | undefined;

beforeAll(async () => {
  home = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-hotplug-'));
  daemon = await Daemon.start(home);
  try {
    await daemon.importTestImage();
    await daemon.client.createVm({ name: 'web', memory_bytes: 160 * 1024 * 1024 });
    await daemon.client.createDisk({ name: 'data', size_bytes: DISK_BYTES });
    session = await daemon.boot('web');
  } catch (error) {
    obstacle = imageObstacle(error);
    if (obstacle === undefined) throw error;
  }
}, 10 * MINUTE_MS);

beforeEach(() => {
  if (obstacle !== undefined) skipTest(obstacle);
});

afterAll(async () => {
  await daemon?.stop();
  fs.rmSync(home, { recursive: true, force: true });
}, MINUTE_MS);

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
      await session.check('ip link set eth1 up; udhcpc -i eth1 -q -n -t 10 -s /bin/true || true');
      expect((await daemon.client.getVmStats('web')).nics[1]!.tx_frames).toBeGreaterThan(0);
      expect((await daemon.client.detachNic('web', 'eth1')).nics).toHaveLength(1);
      await session.check(goes('/sys/class/net/eth1'));
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
});
