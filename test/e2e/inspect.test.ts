/** What is told of stock Debian kernels from outside is what happens in them. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { TraceRecord } from '../../src/contracts/ports.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';

const TIMEOUT_MS = 300_000;

const SCRIPT = `
sh -c 'sleep 100000; :' &
until pidof sleep >/dev/null; do :; done
echo secret > /tmp/opened; cat /tmp/opened > /dev/null
cat /tmp/missing 2>/dev/null; /tmp/nothing 'an argument' 2>/dev/null; sh -c 'exec 9< /tmp/opened'
nc -w 1 127.0.0.1 77 < /dev/null 2>/dev/null
mkdir -p /etc && echo 'u:x:1234:1234::/:/bin/sh' > /etc/passwd
su -s /bin/sh u -c 'sleep 0.1'
echo READY $!
wait
`;

/** Boots the script; what the guest has printed when it is ready, and the machine. */
async function boot(suite: 'bookworm' | 'trixie') {
  const debian = await debianKernel(suite);
  const folder = scratchFolder();
  const initrd = join(folder, 'initrd');
  fs.writeFileSync(initrd, initrdWith(debian, SCRIPT));
  const ready = Promise.withResolvers<void>();
  let output = '';
  const config = {
    ...guestConfig(debian, initrd),
    trace: ['exec', 'open', 'connect'] as const,
  };
  const records: TraceRecord[] = [];
  const host = new MachineHost({ config, nicRings: [] }, fs.readFileSync, (message) => {
    if (message.type === 'trace') records.push(...message.records);
    if (message.type !== 'console-output') return;
    output += Buffer.from(message.bytes).toString('latin1').replaceAll('\r\n', '\n');
    if (/READY \d+\n/.test(output)) ready.resolve();
  });
  onTestFinished(async () => host.close());
  const ended = host.run();
  await Promise.race([ready.promise, ended]);
  return { host, records, pid: Number(/READY (\d+)/.exec(output)?.[1]) };
}

describe.each(['bookworm', 'trixie'] as const)('the kernel of %s', (suite) => {
  test(
    'is read from outside',
    async () => {
      const { host, records, pid } = await boot(suite);
      const stack = host.request({ type: 'stack', pid }) as string;
      expect(stack).toMatch(/^Stack:\n( [0-9a-f]{16}){4}\n/);
      expect(stack).toMatch(/Call Trace:\n \[<[0-9a-f]{16}>\] \? \w+\+0x[0-9a-f]+\/0x[0-9a-f]+\n/);
      expect(stack).toContain('do_wait');
      expect(() => host.request({ type: 'stack', pid: 999_999 })).toThrow(/no process/);

      // The log of what was done, from the first program on.
      host.request({ type: 'trace', kinds: [] });
      await host.close();
      const execs = records.filter(({ kind }) => kind === 'exec');
      expect(execs[0]).toMatchObject({ pid: 1, uid: 0, path: '/init' });
      const cat = execs.find((record) => record.arguments?.[1] === '/tmp/opened');
      // busybox's shell starts its own commands from the file that it is.
      expect(cat).toMatchObject({
        path: '/proc/self/exe',
        arguments: ['cat', '/tmp/opened'],
        ppid: 1,
        uid: 0,
      });
      expect(execs.find((record) => record.uid === 1234)).toMatchObject({ euid: 1234, path: '/bin/sh' });
      const opens = records.filter(({ kind, path }) => kind === 'open' && path === '/tmp/opened');
      expect(opens.map((record) => record.pid === cat?.pid)).toEqual([false, true, false]);
      // The shell moves its descriptor away; what open answered is 3.
      for (const { result } of opens) expect(result).toBe(3);
      expect(execs[0]?.result).toBe(0);
      expect(records.find(({ path }) => path === '/tmp/missing')).toMatchObject({ kind: 'open', result: -2 });
      expect(execs.find(({ path }) => path === '/tmp/nothing')).toMatchObject({
        arguments: ['/tmp/nothing', 'an argument'],
        result: -2,
      });
      expect(records.filter(({ kind, result }) => kind !== 'open' && result === undefined)).toEqual([]);
      expect(records.find(({ kind }) => kind === 'connect')).toMatchObject({
        address: '127.0.0.1',
        port: 77,
        comm: 'nc',
        result: -101,
      });
    },
    TIMEOUT_MS,
  );
});
