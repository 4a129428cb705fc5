/** Disks under a guest that runs: what it discards, a full host disk, and limits. */
import * as path from 'node:path';
import { expect, test } from 'vitest';
import type { ConsoleSession } from '../support/console-session.ts';
import { useImageDaemon } from '../support/e2e-daemon.ts';
import { resizeFileSystem, smallFileSystem } from '../support/storage.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

const daemon = useImageDaemon();

async function allocated(disk: string): Promise<number> {
  return (await daemon.client.getDisk(disk)).allocated_bytes;
}

async function statsOf(vm: string, device: string) {
  const stats = (await daemon.client.getVmStats(vm)).disks.find((disk) => disk.device === device);
  if (stats === undefined) throw new Error(`${vm} has no ${device}`);
  return stats;
}

async function bootWith(name: string, disks: readonly string[]): Promise<ConsoleSession> {
  await daemon.client.createVm({
    name,
    memory_bytes: 128 * MIB,
    nics: [],
    disks: disks.map((disk) => ({ disk })),
  });
  return daemon.boot(name);
}

test(
  'fstrim in the guest makes the files of its disks on the host smaller',
  async () => {
    const { client } = daemon;
    await client.createDisk({ name: 'trimmed', size_bytes: 96 * MIB });
    const session = await bootWith('trim', ['trimmed']);
    const root = (await client.getVm('trim')).disks[0]!.id;
    await session.check('mke2fs -q /dev/vdb || mkfs.ext2 /dev/vdb', MINUTE_MS);
    await session.check('mkdir -p /mnt && mount -t ext4 /dev/vdb /mnt || mount -t ext2 /dev/vdb /mnt');
    for (const [disk, folder] of [
      [root, '/root'],
      ['trimmed', '/mnt'],
    ] as const) {
      const before = await allocated(disk);
      await session.check(`dd if=/dev/urandom of=${folder}/big bs=1M count=24 && sync`, 2 * MINUTE_MS);
      const full = await allocated(disk);
      expect(full - before).toBeGreaterThan(20 * MIB);
      await session.check(`echo kept > ${folder}/small; rm ${folder}/big; sync`);
      await session.check(`fstrim ${folder === '/root' ? '/' : folder} && sync`, 2 * MINUTE_MS);
      expect(full - (await allocated(disk))).toBeGreaterThan(20 * MIB);
      expect(await session.check(`cat ${folder}/small`)).toBe('kept');
    }
    const stats = await statsOf('trim', 'ubd0');
    expect(stats.discards).toBeGreaterThan(0);
    expect(stats.discarded_bytes).toBeGreaterThan(20 * MIB);
    expect(stats).toMatchObject({ errors: 0, held: 0, throttled: 0 });
    // What was discarded from over the image reads as zeros, not as the image's content.
    await session.check(
      'dd if=/dev/zero bs=1M count=8 2>/dev/null | tr "\\0" x > /root/x && sync && rm /root/x',
    );
    await session.check('umount /mnt; blkdiscard /dev/vdb');
    expect(await session.check('tr -d "\\0" < /dev/vdb | wc -c')).toBe('0');
    expect(await allocated('trimmed')).toBeLessThan(MIB);
    session.close();
    await client.mconsole('trim', 'halt');
  },
  10 * MINUTE_MS,
);

test(
  'a disk becomes larger under a guest that has a file system on it',
  async () => {
    const { client } = daemon;
    await client.createDisk({ name: 'grows', size_bytes: 16 * MIB });
    const session = await bootWith('grow', ['grows']);
    await session.check('mke2fs -q /dev/vdb || mkfs.ext2 /dev/vdb', MINUTE_MS);
    await session.check('mkdir -p /mnt && mount -t ext4 /dev/vdb /mnt || mount -t ext2 /dev/vdb /mnt');
    await session.check('echo kept > /mnt/small; sync');
    expect((await client.resizeDisk('grows', { size_bytes: 48 * MIB })).size_bytes).toBe(48 * MIB);
    await session.check(`until [ $(cat /sys/block/vdb/size) = ${(48 * MIB) / 512} ]; do sleep 0.1; done`);
    await session.check('dd if=/dev/urandom of=/dev/vdb bs=1M seek=40 count=8 conv=fsync,notrunc');
    expect(await session.check('cat /mnt/small')).toBe('kept');
    const { id } = (await client.getVm('grow')).disks[0]!;
    await expect(client.resizeDisk(id, { size_bytes: 2 ** 40 })).rejects.toMatchObject({
      code: 'unsupported',
    });
    session.close();
    await client.mconsole('grow', 'halt');
    expect((await client.getDisk('grows')).size_bytes).toBe(48 * MIB);
  },
  10 * MINUTE_MS,
);

test(
  'a full host disk is an error in the guest, or stops the VM until there is space',
  async () => {
    const { client } = daemon;
    const folder = smallFileSystem('8m', path.join(daemon.home, 'disks'));
    await client.createDisk({ name: 'reports', size_bytes: 24 * MIB });
    await client.createDisk({ name: 'pauses', size_bytes: 24 * MIB, on_error: 'pause' });
    const session = await bootWith('full', ['reports', 'pauses']);

    const failed = await session.run('dd if=/dev/zero of=/dev/vdb bs=1M count=16 conv=fsync');
    expect(failed.status).not.toBe(0);
    expect(failed.output).toContain('Input/output error');
    expect((await client.getVm('full')).state).toBe('running');
    expect((await statsOf('full', 'ubd1')).errors).toBeGreaterThan(0);

    await session.check('blkdiscard /dev/vdb');
    session.send(
      'dd if=/dev/zero bs=1M count=16 2>/dev/null | tr "\\0" y | dd of=/dev/vdc bs=1M conv=fsync; echo @"wrote $?"\n',
    );
    const stopped = await client.waitVm('full', 'stopped', 120);
    expect(stopped).toMatchObject({ state: 'stopped', cause: { code: 'disk_full' } });
    expect((await statsOf('full', 'ubd2')).held).toBeGreaterThan(0);
    // Nothing has been done about it.
    await expect(client.goVm('full')).rejects.toMatchObject({ code: 'disk_full' });
    expect((await client.getVm('full')).state).toBe('stopped');
    resizeFileSystem(folder, '64m');
    expect(await client.goVm('full')).toMatchObject({ state: 'running', cause: null });
    await session.expect(/@wrote 0/);
    await session.check('echo 3 > /proc/sys/vm/drop_caches');
    expect(await session.check('dd if=/dev/vdc bs=1M count=16 2>/dev/null | tr -d y | wc -c')).toBe('0');
    const types = (await client.listEvents({ type: 'disk.error' })).items.map(({ data }) => data);
    expect(types).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ device: 'ubd1', vm_stopped: false, code: 'ENOSPC' }),
        expect.objectContaining({ device: 'ubd2', vm_stopped: true, code: 'ENOSPC' }),
      ]),
    );
    session.close();
    await client.mconsole('full', 'halt');
  },
  10 * MINUTE_MS,
);

test(
  'a limit that is set on a running VM slows the guest down, and goes when it is taken away',
  async () => {
    const { client } = daemon;
    await client.createDisk({ name: 'limited', size_bytes: 16 * MIB });
    const session = await bootWith('slow', ['limited']);
    await client.updateDisk('limited', { limits: { bytes_per_second: 2 * MIB, bytes_burst: MIB } });
    const begun = performance.now();
    await session.check('dd if=/dev/zero of=/dev/vdb bs=64k count=112 conv=fsync', 2 * MINUTE_MS);
    // 7 MiB, of which one may go at once.
    expect(performance.now() - begun).toBeGreaterThan(2500);
    const limited = await statsOf('slow', 'ubd1');
    expect(limited.throttled).toBeGreaterThan(0);
    expect(limited.throttled_seconds).toBeGreaterThan(1);
    await client.updateDisk('limited', { limits: { bytes_per_second: null, bytes_burst: null } });
    await session.check('dd if=/dev/zero of=/dev/vdb bs=64k count=112 conv=fsync', 2 * MINUTE_MS);
    expect((await statsOf('slow', 'ubd1')).throttled).toBe(limited.throttled);
    session.close();
    await client.mconsole('slow', 'halt');
  },
  10 * MINUTE_MS,
);
