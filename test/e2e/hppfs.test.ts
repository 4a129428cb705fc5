/** Files of /proc that the host replaces and hides, in guests with stock Debian kernels: no program and no system call sees others. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { ProcFileConfig } from '../../src/contracts/machine.ts';
import { MachineHost } from '../../src/vmm/machine-host.ts';
import { debianKernel, guestConfig, initrdWith } from '../support/debian-kernel.ts';
import { scratchFolder } from '../support/storage.ts';
import { requireTool } from '../support/tools.ts';

const TIMEOUT_MS = 300_000;
const SOURCE = fileURLToPath(new URL('hppfs-guest.c', import.meta.url));

/** More than the kernel's buffers, and than a page. */
const CPUINFO = Array.from({ length: 3000 }, (_, n) => `line ${n} of what the host says\n`).join('');
const CMDLINE = 'root=/dev/vda ro quiet\n';

const SCRIPT = `
ln -s /proc/version /tmp/link
cp /bin/busybox /bin/busybox-secretd
mkdir /tmp/other && mount -t proc other /tmp/other
exec 5< /proc/uptime
say() { echo "<$1>"; shift; "$@" 2>&1; echo "</>"; }
step=boot
echo "<cmdline>"; cat /proc/cmdline; echo "</>"
until [ -z "$step" ]; do
  echo "STEP $step END"
  read -r step
  say cmdline cat /proc/cmdline
  say dd dd if=/proc/cmdline bs=1 status=none
  say link cat /tmp/link
  say relative sh -c 'cd /proc/self/../sys/kernel; cat ../../version'
  say other cat /tmp/other/version
  say bound sh -c 'touch /tmp/file; mount --bind /proc/version /tmp/file; cat /tmp/file; umount /tmp/file'
  say socket cat /proc/meminfo
  say command cat /proc/loadavg
  say slow cat /proc/stat
  say broken cat /proc/swaps
  say mounts cat /proc/mounts
  say status sh -c 'cat /proc/self/status /proc/thread-self/status /proc/1/status'
  say hostname cat /proc/sys/kernel/hostname
  say net cat /proc/net/dev
  say modules cat /proc/modules
  say stat stat -c %n /proc/modules
  say test sh -c 'test -e /proc/modules && echo there || echo not there'
  say read-link readlink /proc/mounts
  say in-folder sh -c 'cd /proc; cat modules; ls -d modules; cat /tmp/other/modules'
  say write sh -c 'echo x > /proc/modules'
  say execute /proc/modules
  say folder ls /proc/bus
  say under cat /proc/bus/pci/devices
  say list ls /proc
  say list-root sh -c 'ls /proc/sys/kernel/ | grep -c .'
  say all find /proc/sys/kernel -name 'os*'
  say open-before cat <&5
  say pid sh -c 'sleep 1000 & while cat /proc/$!/comm 2>/dev/null | grep -qx -e sh -e exe; do :; done; cat /proc/$!/comm; ls /proc | grep -cx $!; kill $!'
  say secret sh -c '/bin/busybox-secretd sleep 1000 & while [ -e /proc/$! ] && ! grep -qs secretd /proc/$!/comm; do :; done; ls /proc | grep -cx $!; ls -d /proc/1 /proc/$!; kill $!'
  say namespace unshare -p -f sh -c 'mkdir -p /tmp/ns; mount -t proc ns /tmp/ns; /bin/busybox-secretd sleep 1000 & while [ -e /tmp/ns/$! ] && ! grep -qs secretd /tmp/ns/$!/comm; do :; done; ls /tmp/ns | grep -cx $!; ls -d /tmp/ns/1 /tmp/ns/$!; kill $!; umount /tmp/ns'
  say program /program /proc/cpuinfo ${CPUINFO.length}
  say copy sh -c 'cp /proc/cpuinfo /tmp/copy; wc -c < /tmp/copy'
  say uname uname -r
done < /dev/ttyS1
`;

const HIDDEN = { kind: 'hidden' } as const;

/** What is replaced and hidden in the first step. */
function files(folder: string): ProcFileConfig[] {
  fs.writeFileSync(join(folder, 'cpuinfo'), CPUINFO);
  return [
    { path: 'cpuinfo', source: { kind: 'file', path: join(folder, 'cpuinfo') } },
    { path: 'cmdline', source: { kind: 'text', text: CMDLINE } },
    { path: 'version', source: { kind: 'text', text: 'Linux version 9.9\n' } },
    { path: 'meminfo', source: { kind: 'socket', path: join(folder, 'meminfo') } },
    { path: 'loadavg', source: { kind: 'command', command: ['/bin/echo', 'from', 'a program'] } },
    { path: 'stat', source: { kind: 'command', command: ['/bin/sh', '-c', 'sleep 1; echo slowly made'] } },
    { path: 'swaps', source: { kind: 'file', path: join(folder, 'missing') } },
    { path: 'mounts', source: { kind: 'text', text: 'nothing is mounted\n' } },
    { path: 'pid/status', source: { kind: 'text', text: 'of each process\n' } },
    { path: 'sys/kernel/hostname', source: { kind: 'text', text: 'somebody\n' } },
    { path: 'net/dev', source: { kind: 'text', text: 'no cards\n' } },
    { path: 'modules', source: HIDDEN },
    { path: 'bus', source: HIDDEN },
    { path: 'uptime', source: HIDDEN },
    { path: 'sys/kernel/ostype', source: HIDDEN },
  ];
}

async function boot(suite: 'bookworm' | 'trixie', folder: string, procFiles: readonly ProcFileConfig[]) {
  const gcc = requireTool('gcc', 'gcc');
  const program = join(folder, 'program');
  const built = spawnSync(gcc, ['-O2', '-static', '-o', program, SOURCE], { encoding: 'utf8' });
  expect(built.stderr).toBe('');
  const debian = await debianKernel(suite);
  const initrd = join(folder, 'initrd');
  fs.writeFileSync(initrd, initrdWith(debian, SCRIPT, { program: fs.readFileSync(program) }));
  const config = {
    ...guestConfig(debian, initrd),
    procFiles,
  };
  const failed: string[] = [];
  let output = '';
  let step: { readonly name: string; readonly resolve: (printed: string) => void } | undefined;
  const host = new MachineHost({ config, nicRings: [] }, fs.readFileSync, (message) => {
    if (message.type === 'proc-file-failed') failed.push(message.path);
    if (message.type !== 'console-output' || message.console !== 'ttyS0') return;
    host.outputTaken('ttyS0', message.bytes.length);
    output += Buffer.from(message.bytes).toString('latin1').replaceAll('\r', '');
    if (step === undefined || !output.includes(`STEP ${step.name} END`)) return;
    step.resolve(output);
    output = '';
  });
  onTestFinished(async () => host.close());
  const ended = host.run();
  /** Runs all commands of the script, or waits for the boot; what one of them printed. */
  async function run(name: string): Promise<(command: string) => string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    step = { name, resolve };
    if (name !== 'boot') host.input('ttyS1', Buffer.from(`${name}\n`));
    const died = ended.then(() => Promise.reject(new Error(`the guest died:\n${output}`)));
    const printed = await Promise.race([promise, died]);
    return (command) =>
      new RegExp(`<${command}>\n([^]*?)</>`).exec(printed)?.[1] ?? `no ${command} in ${printed}`;
  }
  return { host, failed, run };
}

/** As the guest's program reports a read. */
function report(bytes: string): string {
  let hash = 5381;
  for (const byte of Buffer.from(bytes)) hash = (Math.imul(hash, 33) + byte) >>> 0;
  return `${bytes.length} ${hash.toString(16).padStart(8, '0')}`;
}

describe.each(['bookworm', 'trixie'] as const)('the kernel of %s', (suite) => {
  test(
    'reads what the host says, and finds nothing that is hidden',
    async () => {
      const folder = scratchFolder();
      const server = createServer((socket) => socket.end('what the socket says\n'));
      await new Promise<void>((resolve) => server.listen(join(folder, 'meminfo'), resolve));
      onTestFinished(() => void server.close());
      const { host, failed, run } = await boot(suite, folder, [
        { path: 'cmdline', source: { kind: 'text', text: 'from the start\n' } },
      ]);
      const booted = await run('boot');
      expect(booted('cmdline')).toBe('from the start\n');
      host.request({ type: 'proc-files', files: files(folder) });

      const replaced = await run('replaced');
      for (const name of ['cmdline', 'dd']) expect(replaced(name)).toBe(CMDLINE);
      for (const name of ['link', 'relative', 'other', 'bound'])
        expect(replaced(name)).toBe('Linux version 9.9\n');
      expect(replaced('socket')).toBe('what the socket says\n');
      expect(replaced('command')).toBe('from a program\n');
      expect(replaced('slow')).toBe('slowly made\n');
      expect(replaced('broken')).toContain('Input/output error');
      expect(failed).toEqual(['swaps']);
      expect(replaced('mounts')).toBe('nothing is mounted\n');
      expect(replaced('status')).toBe('of each process\n'.repeat(3));
      expect(replaced('hostname')).toBe('somebody\n');
      expect(replaced('net')).toBe('no cards\n');
      const GONE = /No such file or directory|nonexistent directory|not found/;
      for (const name of ['modules', 'stat', 'write', 'execute', 'folder', 'under']) {
        expect(replaced(name).trimEnd().split('\n'), name).toEqual([expect.stringMatching(GONE)]);
      }
      expect(replaced('in-folder').match(new RegExp(GONE, 'g')), replaced('in-folder')).toHaveLength(3);
      expect(replaced('test')).toBe('not there\n');
      expect(replaced('read-link')).toBe('self/mounts\n');
      const listed = replaced('list').split(/\s+/);
      expect(listed).toEqual(expect.arrayContaining(['cpuinfo', 'self', '1', 'sys']));
      for (const name of ['modules', 'bus', 'uptime']) expect(listed).not.toContain(name);
      expect(replaced('all')).toBe('/proc/sys/kernel/osrelease\n');
      // It was open before it was looked for.
      expect(replaced('open-before')).toContain('Input/output error');
      const whole = report(CPUINFO);
      const rest = report(CPUINFO.slice(10));
      const EFAULT = -14;
      expect(
        Object.fromEntries(
          replaced('program')
            .trimEnd()
            .split('\n')
            .map((line) => line.split(/ (.*)/)),
        ),
      ).toEqual({
        read: whole,
        end: report(''),
        bytes: whole,
        pread: rest,
        readv: whole,
        preadv: rest,
        untouched: whole,
        mapped: whole,
        constant: `${EFAULT}`,
        nowhere: `${EFAULT}`,
        kernel: `${EFAULT}`,
        edge: report(CPUINFO.slice(0, 96)),
        sendfile: whole,
        splice: expect.anything(),
        copy_file_range: expect.anything(),
        io_uring: whole,
        done: undefined,
      });
      expect(replaced('copy')).toBe(`${CPUINFO.length}\n`);

      // Changed while it runs: everything is the kernel's again, but for a process that is hidden.
      host.request({
        type: 'proc-files',
        files: [
          { path: 'pid/comm', source: HIDDEN },
          { path: 'comm:busybox-secretd', source: HIDDEN },
        ],
      });
      const changed = await run('changed');
      expect(changed('cmdline')).toBe('console=ttyS0 quiet panic=-1\n');
      expect(changed('modules')).toContain('virtio_blk');
      expect(changed('list').split(/\s+/)).toEqual(expect.arrayContaining(['modules', 'bus', 'uptime']));
      expect(changed('pid')).toMatch(GONE);
      expect(changed('secret')).toMatch(/^0\n/);
      expect(changed('secret')).toMatch(GONE);
      expect(changed('secret')).toMatch(/^\/proc\/1$/m);
      // There it has another number, which is another process's elsewhere.
      expect(changed('namespace')).toMatch(/^0\n/);
      expect(changed('namespace')).toMatch(GONE);
      expect(changed('namespace')).toMatch(/^\/tmp\/ns\/1$/m);

      const filter = createServer({ allowHalfOpen: true }, (socket) => {
        const pieces: Buffer[] = [];
        socket.on('data', (bytes: Buffer) => pieces.push(bytes));
        socket.on('end', () => socket.end(Buffer.concat(pieces).toString().toUpperCase()));
      });
      await new Promise<void>((resolve) => filter.listen(join(folder, 'rw'), resolve));
      onTestFinished(() => void filter.close());
      const by = (...command: string[]) => ({ kind: 'command', command, filter: true }) as const;
      host.request({
        type: 'proc-files',
        files: [
          { path: 'modules', source: { kind: 'socket', path: join(folder, 'rw'), filter: true } },
          { path: 'mounts', source: by('/bin/sed', 's/^/line: /') },
          { path: 'pid/comm', source: by('/bin/cat') },
          { path: 'sys/kernel/hostname', source: by('/usr/bin/tr', 'a-z()', 'A-Z.') },
          { path: 'version', source: by('/bin/cat') },
          { path: 'swaps', source: by('/bin/false') },
          { path: 'cpuinfo', source: by('/bin/true') },
        ],
      });
      const filtered = await run('filtered');
      expect(failed).toEqual(['swaps', 'swaps']);
      expect(filtered('broken')).toContain('Input/output error');
      expect(filtered('copy')).toBe('0\n');
      expect(filtered('pid')).toBe('sleep\n1\n');

      host.request({ type: 'proc-files', files: [] });
      const plain = await run('plain');
      expect(filtered('modules')).toBe(plain('modules').toUpperCase());
      expect(filtered('mounts')).toBe(plain('mounts').replace(/^(?=.)/gm, 'line: '));
      expect(filtered('hostname')).toBe(plain('hostname').toUpperCase().replace(/[()]/g, '.'));
      for (const name of ['link', 'relative', 'other', 'bound'])
        expect(filtered(name), name).toBe(plain(name));
      expect(plain('pid')).toBe('sleep\n1\n');
      expect(plain('secret')).toMatch(/^1\n\/proc\/1\s+\/proc\/\d+\n$/);
      expect(plain('namespace')).toMatch(/^1\n\/tmp\/ns\/1\s+\/tmp\/ns\/\d+\n$/);
      expect(plain('mounts')).toContain('/proc proc');
      expect(plain('status')).toContain('Name:');
      expect(plain('program')).not.toContain(whole);
    },
    TIMEOUT_MS,
  );
});
