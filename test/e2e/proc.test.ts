/** What `proc` tells of stock Debian kernels from outside is what the guest's own cat reads; the guest stays as it is. */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { CharPort } from '../../src/engine/backends.ts';
import { Machine } from '../../src/engine/machine/machine.ts';
import { CpuReplica } from '../../src/engine/replica.ts';
import { createCpu } from '../../src/engine/vcpu.ts';
import { Inspector } from '../../src/inspect/index.ts';
import { createPortRings } from '../../src/switchd/port-rings.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { writePartitioned } from '../support/partition-table.ts';
import { scratchFolder } from '../support/storage.ts';

const TIMEOUT_MS = 300_000;
const SUITES = ['bookworm', 'trixie'] as const;

/** Of what does not change while nobody does anything; PID is a process that sleeps. */
const SAME =
  `version cmdline cpuinfo partitions diskstats swaps filesystems devices modules iomem ioports mounts misc consoles
crypto locks net/dev net/route net/arp net/tcp net/unix net/snmp sys/kernel/hostname sys/kernel/osrelease sys/vm/swappiness
bus/pci/devices PID/status PID/stat PID/statm PID/cmdline PID/environ PID/maps PID/comm PID/limits PID/mountinfo PID/fdinfo/1 PID/auxv
PID/cgroup PID/oom_score_adj PID/net/dev 1/cmdline 1/maps 2/maps`.split(/\s+/);
/** Where only numbers change, which never become smaller, but for the lines that begin with `procs`. */
const COUNTING = ['stat', 'interrupts', 'softirqs', 'schedstat', 'uptime'];
/** Where only numbers change. */
const VARYING = ['meminfo', 'vmstat', 'loadavg', '1/status', '1/stat', 'zoneinfo', 'PID/smaps'];

const SCRIPT = `
hostname kiwi
echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
ifconfig lo up && ifconfig eth0 10.9.0.2 netmask 255.255.255.0 up
route add default gw 10.9.0.1 && arp -s 10.9.0.9 02:00:00:00:00:99
httpd -p 10.9.0.2:77 -h /tmp
mkswap /dev/vdb > /dev/null && swapon /dev/vdb
mkdir -p '/tmp/a b#c' && mount -t tmpfs -o ro,nosuid,noexec,relatime,size=64k 'a device' '/tmp/a b#c'
WORD=value sh -c 'exec sleep 100000' 'an argument' &
until grep -q sleep /proc/$!/comm; do :; done
echo PROCESS $!
for file in ${[...COUNTING, ...VARYING, ...SAME].map((file) => file.replace('PID', '$!')).join(' ')}; do
  echo "<$file>"; cat /proc/$file | base64; echo "</$file>"
done
echo READY
wait
`;

const consolePort = (output: (text: string) => void): CharPort => ({
  output: (bytes) => output(Buffer.from(bytes).toString('latin1')),
  input: () => new Uint8Array(0),
  onReadable: () => undefined,
});

/** Boots the script with two disks and a network card that leads nowhere. */
async function boot(suite: (typeof SUITES)[number]) {
  const debian = await debianKernel(suite);
  const folder = scratchFolder();
  const [initrd, content, partitioned, swap] = ['initrd', 'content', 'partitioned', 'swap'].map((name) =>
    join(folder, name),
  );
  fs.writeFileSync(initrd!, initrdWith(debian, SCRIPT));
  fs.writeFileSync(content!, Buffer.alloc(1 << 20, 'x'));
  writePartitioned(partitioned!, content!, { table: 'gpt', number: 2 });
  fs.writeFileSync(swap!, Buffer.alloc(1 << 20));
  const config = {
    ...guestConfig(debian, initrd!),
    disks: [
      { device: 'ubd0', file: partitioned!, readOnly: true },
      { device: 'ubd1', file: swap!, readOnly: false },
    ],
    nics: [{ device: 'eth0', mac: '02:00:00:00:00:10', network: 'net' }],
  };
  const ready = Promise.withResolvers<void>();
  let output = '';
  const host = new MachineHost({ config, nicRings: [createPortRings()] }, fs.readFileSync, (message) => {
    if (message.type !== 'console-output') return;
    output += Buffer.from(message.bytes).toString('latin1').replaceAll('\r', '');
    if (output.includes('READY\n')) ready.resolve();
  });
  onTestFinished(async () => host.close());
  await Promise.race([ready.promise, host.run()]);
  // The script's shell has printed that, and waits a moment later.
  host.request({ type: 'stop' });
  const isRunning = (): boolean =>
    Buffer.from(host.request({ type: 'proc', file: '1/wchan' }) as Uint8Array).toString() === '0';
  while (isRunning()) {
    host.request({ type: 'go' });
    await new Promise((resolve) => setImmediate(resolve));
    host.request({ type: 'stop' });
  }
  return { host, output, pid: /PROCESS (\d+)/.exec(output)?.[1] ?? '' };
}

/** What the guest read of a file. */
function printed(output: string, file: string): string {
  const dump = new RegExp(`<${file}>\n([^]*?)</${file}>`).exec(output)?.[1] ?? '';
  return Buffer.from(dump, 'base64').toString('latin1');
}

const shape = (text: string): string => text.replace(/\d+(\.\d+)?/g, '#').replace(/ +/g, ' ');
const counters = (text: string): number[] =>
  (text.replace(/^procs.*$/gm, '').match(/\d+(\.\d+)?/g) ?? []).map(Number);

describe.each(SUITES)('the kernel of %s', (suite) => {
  test('has the same in its files as a program of it reads', { timeout: TIMEOUT_MS }, async () => {
    const { host, output, pid } = await boot(suite);
    const read = (file: string): string =>
      Buffer.from(host.request({ type: 'proc', file }) as Uint8Array).toString('latin1');
    for (const file of SAME.map((name) => name.replace('PID', pid))) {
      expect(`${file}\n${read(file)}`).toBe(`${file}\n${printed(output, file)}`);
    }
    for (const file of [...COUNTING, ...VARYING].map((name) => name.replace('PID', pid))) {
      expect(`${file}\n${shape(read(file))}`).toBe(`${file}\n${shape(printed(output, file))}`);
    }
    for (const file of COUNTING) {
      const before = counters(printed(output, file));
      for (const [n, now] of counters(read(file)).entries())
        expect(now, file).toBeGreaterThanOrEqual(before[n]!);
    }
    // What the lines of the script must have left, so that nothing empty is compared with nothing.
    expect(read('partitions')).toMatch(/vda2\n.*vdb\n/);
    expect(read('swaps')).toContain('/dev/vdb');
    expect(read('net/arp')).toContain('02:00:00:00:00:99');
    expect(read('net/route')).toMatch(/^eth0\t00000000\t0100090A/m);
    expect(read('net/tcp')).toContain(':004D 00000000:0000 0A');
    expect(read('interrupts')).toMatch(/virtio/);
    expect(read('mounts')).toContain('a\\040device /tmp/a\\040b#c tmpfs ro,nosuid,noexec,relatime,size=64k');
    expect(read(`${pid}/cmdline`)).toBe('sleep\x00100000\x00');
    expect(read(`${pid}/environ`)).toContain('WORD=value\0');
    expect(read('self/comm')).toBe('init\n');
    expect(read('1/wchan')).toMatch(/^sigsuspend/);
    expect(read('1/stack')).toContain('sigsuspend');

    for (const file of [
      'nothing',
      '999999/status',
      `${pid}/x`,
      '../etc/passwd',
      '',
      'x'.repeat(300),
      'cpu\0info',
      `${'1/'.repeat(2000)}x`,
    ]) {
      expect(() => read(file), file).toThrow(expect.objectContaining({ code: 'not_found', field: 'file' }));
    }
    for (const [file, why] of [
      ['net', 'it is a folder'],
      ['kmsg', 'it would wait for something'],
      ['driver/rtc', 'a device would be asked'],
      ['1/exe', 'it leads out of /proc'],
      ['1/root/init', 'it leads out of /proc'],
      [`${pid}/pagemap`, 'more than'],
      ['sysrq-trigger', 'E'],
    ]) {
      expect(() => read(file!), file).toThrow(
        expect.objectContaining({
          code: 'unsupported',
          field: 'file',
          message: expect.stringContaining(why!),
        }),
      );
      // What ended in the middle leaves nothing to the next one.
      expect(read('version')).toMatch(/^Linux version/);
    }
  });

  test('is as it was when it has been read', { timeout: TIMEOUT_MS }, async () => {
    const debian = await debianKernel(suite);
    const ready = Promise.withResolvers<void>();
    let output = '';
    const initrd = initrdWith(debian, 'echo READY; while :; do echo turn; done');
    const machine = new Machine({
      ...{ memoryBytes: 256 << 20, kernel: () => fs.readFileSync(debian.kernel), initrd: () => initrd },
      commandLine: 'console=ttyS0 quiet panic=-1',
      serials: [
        consolePort((text) => {
          output += text;
          if (output.includes('turn')) ready.resolve();
        }),
      ],
      virtio: { disks: [], nics: [], consoles: [], shares: [], rng: false },
      createCpu,
    });
    onTestFinished(() => machine.halt());
    machine.start();
    await Promise.race([ready.promise, machine.ended]);
    const { view } = machine;
    const state = () => {
      const { cr3, lstar, rsp, rip, gsBase, kernelGsBase, cpl, tsc } = view;
      return {
        cr3,
        lstar,
        rsp,
        rip,
        gsBase,
        kernelGsBase,
        cpl,
        tsc,
        ram: createHash('sha256').update(view.ram).digest('hex'),
      };
    };
    const inspector = new Inspector(view, () => new CpuReplica(view));
    // Wherever it is stopped: in a program, in the kernel, in an interrupt.
    for (let turn = 0; turn < 8; turn++) {
      machine.stop();
      const before = state();
      const { instructions } = machine;
      for (const file of [
        'cpuinfo',
        'stat',
        'interrupts',
        '1/status',
        '1/maps',
        'mounts',
        'net/dev',
        'locks',
      ]) {
        expect(inspector.proc(file).length, file).toBeGreaterThan(file === 'locks' ? -1 : 0);
      }
      expect(state()).toEqual(before);
      expect(machine.instructions).toBe(instructions);
      const length = output.length;
      machine.go();
      while (output.length === length) await new Promise((resolve) => setImmediate(resolve));
    }
  });
});
