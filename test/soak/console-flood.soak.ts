/** A gigabyte out of a console that nobody reads, and out of one whose reader has stopped: the VM and the daemon go on. */
import { once } from 'node:events';
import * as fs from 'node:fs';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { useImageDaemon } from '../support/e2e-daemon.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;
const FLOOD_MIB = Number(process.env.UMLAUT_FLOOD_MIB ?? 1024);
/** Of buffers, and what the daemon's heap grows by itself. */
const GROWTH_BYTES_MAX = 96 * MIB;

const daemon = useImageDaemon();

function residentBytes(pid: number): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * 1024;
}

test(
  'a flood takes no memory and stops nobody',
  async () => {
    await daemon.client.createVm({ name: 'web', memory_bytes: 128 * MIB });
    const session = await daemon.boot('web');
    await daemon.client.updateConsole('web', 'con1', 'null');
    await session.check('until stty -F /dev/hvc1 raw -echo 2>/dev/null; do usleep 100000; done');

    const flood = async (mebibytes: number): Promise<void> => {
      const pid = await session.check(
        `(dd if=/dev/zero of=/dev/hvc1 bs=64k count=${mebibytes * 16} 2>/dev/null) & echo $!`,
      );
      // Whoever is at another console sees nothing of it.
      expect(await session.check('echo alive')).toBe('alive');
      await session.check(`while [ -d /proc/${pid.split('\n').at(-1)} ]; do sleep 1; done`, 20 * MINUTE_MS);
    };
    await flood(16);
    const before = residentBytes(daemon.pid);
    await flood(FLOOD_MIB);
    expect(residentBytes(daemon.pid) - before).toBeLessThan(GROWTH_BYTES_MAX);

    const { channel } = await daemon.client.updateConsole('web', 'con1', 'port:0');
    const reader = connect(Number(channel!.slice('port:'.length)), '127.0.0.1');
    await once(reader, 'data');
    reader.pause();
    await session.check('stty -F /dev/hvc1 raw -echo');
    await flood(FLOOD_MIB);
    expect(residentBytes(daemon.pid) - before).toBeLessThan(GROWTH_BYTES_MAX);
    let seen = '';
    reader.on('data', (bytes: Buffer) => {
      seen = (seen + bytes.toString('latin1')).slice(-100);
    });
    reader.resume();
    while (!seen.includes('the end')) await session.check('echo the end > /dev/hvc1');
    reader.destroy();
  },
  60 * MINUTE_MS,
);
