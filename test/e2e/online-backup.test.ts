/**
 * An online backup has all disks as they were at one moment, while the guest writes in a loop: a log of what it has done on
 * its root file system, and numbered blocks on a second disk. What the copy has of both must fit together.
 */
import { execFile } from 'node:child_process';
import * as path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { findTool } from '../../src/images/tools.ts';
import type { ConsoleSession } from '../support/console-session.ts';
import { useImageDaemon } from '../support/e2e-daemon.ts';

const run = promisify(execFile);
const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;
/** Blocks that the guest writes in turn, a MiB apart: the copy passes some before and some after their next writing. */
const SLOTS = 32;
const STEP = 13;

/**
 * Number i goes to its slot of the second disk, then to the log on the root file system, each flushed before the next
 * write. So at any moment the disk has at most one number that the log does not have, and lacks none.
 */
const WRITER = `
i=0
while :; do
  i=$((i+1))
  printf '%-4096d' $i | dd of=/dev/vdb bs=4096 seek=$((i * ${STEP} % ${SLOTS} * 256)) conv=notrunc,fsync 2>/dev/null
  echo $i > /root/log.new && sync && mv /root/log.new /root/log && sync
done
`;
const READER = `for s in $(seq 0 ${SLOTS - 1}); do dd if=/dev/vdb bs=4096 skip=$((s * 256)) count=1 2>/dev/null | tr -d ' '; echo; done`;

const daemon = useImageDaemon();

async function progress(session: ConsoleSession): Promise<number> {
  return Number(await session.check('cat /root/log'));
}

/** The number that each slot has when all up to `last` have been written. */
function slotsAfter(last: number): number[] {
  const slots = Array.from({ length: SLOTS }, () => 0);
  for (let i = 1; i <= last; i++) slots[(i * STEP) % SLOTS] = i;
  return slots;
}

test(
  'a backup of a writing guest is consistent to one moment',
  async () => {
    const { client } = daemon;
    await client.createVm({ name: 'writer', memory_bytes: 128 * MIB });
    await client.createDisk({ name: 'slots', size_bytes: SLOTS * MIB });
    await client.mconsole('writer', 'config ubd1=slots');
    const writer = await daemon.boot('writer');
    // Data all over, so that the copy takes a while.
    await writer.check('dd if=/dev/urandom of=/tmp/piece bs=65536 count=16');
    await writer.check(
      `i=0; while [ $i -lt ${SLOTS} ]; do cat /tmp/piece; i=$((i+1)); done > /dev/vdb && sync`,
      2 * MINUTE_MS,
    );
    for (const line of WRITER.trim().split('\n'))
      await writer.check(`echo '${line.replaceAll("'", "'\\''")}' >> /tmp/writer`);
    await writer.check('echo 0 > /root/log; sh /tmp/writer > /dev/null 2>&1 & sleep 1');
    await writer.check(`until [ "$(cat /root/log)" -gt ${SLOTS} ]; do usleep 100000; done`, 2 * MINUTE_MS);

    const before = await progress(writer);
    const backup = await daemon.finish(await client.createBackup('writer', { name: 'moment' }), 'backup');
    const after = await progress(writer);
    expect(after).toBeGreaterThan(before);
    await writer.check(
      `until [ "$(cat /root/log)" -gt ${after + SLOTS} ]; do usleep 100000; done`,
      2 * MINUTE_MS,
    );
    writer.close();
    await client.mconsole('writer', 'halt');

    await daemon.finish(await client.restoreBackup(backup, { name: 'copy', full_copy: true }));
    await checkFileSystem();
    const copy = await daemon.boot('copy');
    const last = await progress(copy);
    // As it is read without restoring it: with what only the journal has.
    const logged = await client.readBackupFile(backup, { path: '/root/log' });
    expect(Number(await logged.text())).toBe(last);
    // The guest shows a number once it is renamed, the disk has it for certain after the sync behind that.
    expect(last).toBeGreaterThanOrEqual(before - 1);
    expect(last).toBeLessThanOrEqual(after);
    const slots = (await copy.check(READER)).split(/\s+/).map(Number);
    const expected = slotsAfter(last);
    const next = slotsAfter(last + 1);
    expect(slots).toSatisfy((found: number[]) => [expected, next].some((one) => one.join() === found.join()));
    expect(await copy.run('dmesg | grep "EXT4-fs error"')).toMatchObject({ status: 1 });
    copy.close();
  },
  10 * MINUTE_MS,
);

/** The root file system of the restored VM, once its journal is replayed as its kernel would, has no error. */
async function checkFileSystem(): Promise<void> {
  const e2fsck = findTool('e2fsck');
  if (e2fsck === undefined) return;
  const { id } = await daemon.client.getVm('copy');
  const root = path.join(daemon.home, 'vms', id, 'ubd0.img');
  await run(e2fsck, ['-y', '-E', 'journal_only', root]);
  await run(e2fsck, ['-f', '-n', root]);
}
