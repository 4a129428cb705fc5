/** What `proc` and `stack` tell of stock Debian kernels from outside is what the guest itself says. */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { TraceRecord } from '../../src/contracts/ports.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';

const TIMEOUT_MS = 300_000;

/** What does not change while nobody does anything. */
const SAME = ['version', 'cmdline', 'filesystems', 'modules', 'sys/kernel/hostname', 'sys/kernel/osrelease'];

const SCRIPT = `
hostname kiwi
WORD=value sh -c 'sleep 100000; :' 'an argument' &
until pidof sleep >/dev/null; do :; done
mkdir -p '/tmp/a b#c' && mount -t tmpfs -o ro,nosuid,noexec,relatime 'a device' '/tmp/a b#c'
echo sleeping $(pidof sleep)
for file in ${SAME.join(' ')} uptime loadavg meminfo mounts $!/mounts $!/maps $(pidof sleep)/maps $!/status $!/comm; do echo "<$file>"; cat /proc/$file; echo "</$file>"; done
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
  return { host, records, output: output.replaceAll('\r', ''), pid: Number(/READY (\d+)/.exec(output)?.[1]) };
}

/** What the guest printed of a file. */
function printed(output: string, file: string): string {
  return new RegExp(`<${file}>\n([^]*?)</${file}>`).exec(output)?.[1] ?? '';
}

describe.each(['bookworm', 'trixie'] as const)('the kernel of %s', (suite) => {
  test(
    'is read from outside',
    async () => {
      const { host, records, output, pid } = await boot(suite);
      const read = (file: string): string =>
        Buffer.from(host.request({ type: 'proc', file }) as Uint8Array).toString();
      for (const file of SAME) {
        expect(printed(output, file).length, output).toBeGreaterThan(0);
        expect(read(file)).toBe(printed(output, file));
      }
      const uptime = Number(read('uptime').split(' ')[0]);
      const then = Number(printed(output, 'uptime').split(' ')[0]);
      expect(uptime - then).toBeGreaterThanOrEqual(0);
      expect(uptime - then).toBeLessThan(120);
      expect(read('loadavg')).toMatch(/^\d+\.\d\d \d+\.\d\d \d+\.\d\d \d+\/\d+ \d+\n$/);
      const total = /^MemTotal: +\d+ kB$/m;
      expect(total.exec(read('meminfo'))?.[0]).toBe(total.exec(printed(output, 'meminfo'))?.[0]);
      expect(read(`${pid}/comm`)).toBe('sh\n');
      expect(read(`${pid}/cmdline`)).toBe('sh\0-c\0sleep 100000; :\0an argument\0');
      expect(read(`${pid}/environ`)).toContain('WORD=value\0');
      // Options of their own file systems have only for the guest.
      const generic = (text: string): string[] =>
        text
          .split('\n')
          .map((line) => line.replace(/,(size|mode|nr_inodes|inode64|gid|uid|ptmxmode)\b[^ ]*/, ''));
      for (const file of ['mounts', `${pid}/mounts`])
        expect(generic(read(file))).toEqual(generic(printed(output, file)));
      expect(read('mounts')).toContain('a\\040device /tmp/a\\040b#c tmpfs ro,nosuid,noexec,relatime 0 0\n');
      const sleeping = /sleeping (\d+)/.exec(output)?.[1];
      for (const file of [`${pid}/maps`, `${sleeping}/maps`]) {
        expect(printed(output, file)).toContain('[stack]');
        expect(read(file)).toBe(printed(output, file));
      }
      expect(read('2/maps')).toBe('');
      const lines = printed(output, `${pid}/status`).split('\n');
      for (const line of read(`${pid}/status`).trimEnd().split('\n')) expect(lines).toContain(line);
      const stack = host.request({ type: 'stack', pid }) as string;
      expect(stack).toMatch(/^Stack:\n( [0-9a-f]{16}){4}\n/);
      expect(stack).toMatch(/Call Trace:\n \[<[0-9a-f]{16}>\] \? \w+\+0x[0-9a-f]+\/0x[0-9a-f]+\n/);
      expect(stack).toContain('do_wait');
      for (const file of ['cpuinfo', `${pid}/smaps`, 'self/status']) {
        expect(() => read(file)).toThrow(expect.objectContaining({ code: 'unsupported', field: 'file' }));
      }
      for (const file of ['nothing', '999999/status', `${pid}/x`, '../etc/passwd', '']) {
        expect(() => read(file)).toThrow(expect.objectContaining({ code: 'not_found' }));
      }
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
