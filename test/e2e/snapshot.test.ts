/** A guest whose disks are frozen, merged and rolled back under it while it writes. */
import { expect, test } from 'vitest';
import { useImageDaemon } from '../support/e2e-daemon.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

const daemon = useImageDaemon();

test(
  'snapshots of a writing guest are deleted while it runs, and what is left is gone back to',
  async () => {
    const { client } = daemon;
    await client.createVm({ name: 'web', memory_bytes: 128 * MIB });
    await client.createDisk({ name: 'data', size_bytes: 16 * MIB });
    await client.attachDisk('web', { disk: 'data' });
    const guest = await daemon.boot('web');
    await guest.check('echo first > /root/file && sync');
    await client.createSnapshot('web', { name: 'first' });
    await guest.check('echo second > /root/file && sync');
    // Writes all the time, on both disks, until it is told to stop.
    await guest.check(
      'i=0; (while [ ! -e /root/stop ]; do i=$((i+1)); echo $i > /root/count; echo $i | dd of=/dev/vdb conv=notrunc,fsync 2>/dev/null; done; sync; echo done > /root/stopped) > /dev/null 2>&1 & true',
    );
    await client.createSnapshot('web', { name: 'second' });
    await client.createSnapshot('web', { name: 'third' });
    await daemon.finish(await client.deleteSnapshot('web', 'second'));
    await daemon.finish(await client.deleteSnapshot('web', 'third'));
    await guest.check('touch /root/stop; until [ -e /root/stopped ]; do usleep 100000; done', MINUTE_MS);
    const count = await guest.check('cat /root/count');
    expect(await guest.check('dd if=/dev/vdb bs=512 count=1 2>/dev/null | head -n 1')).toBe(count);
    expect(await guest.check('cat /root/file')).toBe('second');
    expect(await guest.run('dmesg | grep -E "I/O error|EXT4-fs error"')).toMatchObject({ status: 1 });
    expect((await client.listSnapshots('web')).map(({ name }) => name)).toEqual(['first']);

    await daemon.finish(await client.rollbackSnapshot('web', 'first', { force: true }));
    await guest.login();
    expect(await guest.check('cat /root/file')).toBe('first');
    expect(await guest.run('ls /root/stopped')).toMatchObject({ status: 1 });
    guest.close();
  },
  6 * MINUTE_MS,
);
