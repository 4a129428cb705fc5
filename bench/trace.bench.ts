/**
 * What it costs to have a guest watched, and to have files of its /proc replaced: the time that the VM's thread takes for the same
 * work in one guest, with the watch on and off in turns. Run with `node bench/trace.bench.ts [--rounds N]`; figures are medians.
 */
import * as fs from 'node:fs';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { MessageChannel } from 'node:worker_threads';
import type { MachineRequest } from '../src/contracts/ports.ts';
import { MachineHost } from '../src/vmm/machine-host.ts';
import { BenchKit } from './kit.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '7' } } });
const rounds = Number(values.rounds);

/** Times that the work is done before it is measured: by then what is hot is compiled. */
const WARM_UP = 5;

/** Work for less than a second each. */
const LOADS = {
  execs: 'i=0; while [ $i -lt 60 ]; do /bin/busybox true; i=$((i+1)); done',
  mixed:
    'dd if=/bin/busybox bs=64k count=12 | gzip -1 | sha256sum; grep -rl nothing /proc/sys/net/ipv4; ls -lR /bin; awk "BEGIN { for (n = 0; n < 100000; n++) s += n }"; tar cf - /dev /tmp | wc -c',
} as const;

const OFF: readonly MachineRequest[] = [
  { type: 'trace', kinds: [] },
  { type: 'proc-files', files: [] },
];
const SETTINGS: Readonly<Record<string, readonly MachineRequest[]>> = {
  off: OFF,
  'exec, open and connect': [OFF[1]!, { type: 'trace', kinds: ['exec', 'open', 'connect'] }],
  'a file of /proc replaced, one hidden': [
    OFF[0]!,
    {
      type: 'proc-files',
      files: [
        { path: 'cpuinfo', source: { kind: 'text', text: 'processor\n' } },
        { path: 'modules', source: { kind: 'hidden' } },
      ],
    },
  ],
};

const SCRIPT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
execs() { ${LOADS.execs}; }
mixed() { ${LOADS.mixed}; }
exec 3< /dev/ttyS1
echo READY
while read -r load <&3; do "$load" > /dev/null 2>&1; echo "DONE"; done
`;

const folder = mkdtempSync(join(tmpdir(), 'umlaut-bench-'));
try {
  const kit = await BenchKit.open((text) => void process.stderr.write(`${text}\n`));
  const { cpioArchive } = await import('../src/images/cpio.ts');
  const initrd = join(folder, 'initrd');
  const folders = ['bin', 'proc', 'dev', 'etc', 'tmp'].map((path) => ({ kind: 'folder', path }) as const);
  const busybox = fs.readFileSync('/bin/busybox');
  writeFileSync(
    initrd,
    cpioArchive([
      ...folders,
      { kind: 'file', path: 'bin/busybox', content: busybox, executable: true },
      { kind: 'file', path: 'init', content: Buffer.from(SCRIPT), executable: true },
    ]),
  );
  const config = {
    name: 'bench',
    memoryBytes: 256 << 20,
    kernel: kit.kernel,
    initrd,
    append: 'console=ttyS0 quiet',
    disks: [],
    nics: [],
  };
  // Messages are cloned, as they are for the daemon's thread.
  const { port1, port2 } = new MessageChannel();
  port2.on('message', () => undefined);
  let printed = Promise.withResolvers<void>();
  let output = '';
  const host = new MachineHost({ config, nicRings: [] }, fs.readFileSync, (message) => {
    port1.postMessage(message);
    if (message.type !== 'console-output' || message.console !== 'ttyS0') return;
    host.outputTaken('ttyS0', message.bytes.length);
    output += Buffer.from(message.bytes).toString('latin1');
    if (!/(?:READY|DONE)\r?\n/.test(output)) return;
    output = '';
    printed.resolve();
  });
  void host.run();
  await printed.promise;
  const measure = async (load: string): Promise<number> => {
    printed = Promise.withResolvers<void>();
    const before = host.stats().cpuSeconds;
    host.input('ttyS1', Buffer.from(`${load}\n`));
    await printed.promise;
    return host.stats().cpuSeconds - before;
  };
  const taken = new Map<string, number[]>();
  for (const load of Object.keys(LOADS)) for (let n = 0; n < 3; n++) await measure(load);
  for (let round = 0; round < rounds; round++) {
    for (const load of Object.keys(LOADS)) {
      for (const [name, requests] of Object.entries(SETTINGS)) {
        for (const request of requests) host.request(request);
        // All translated code is dropped when points come and go: that is not what is measured.
        for (let n = 0; n < WARM_UP; n++) await measure(load);
        const seconds = await measure(load);
        taken.set(`${load}: ${name}`, [...(taken.get(`${load}: ${name}`) ?? []), seconds]);
      }
    }
  }
  const median = (key: string): number =>
    (taken.get(key) ?? []).sort((a, b) => a - b)[Math.floor(rounds / 2)]!;
  for (const load of Object.keys(LOADS)) {
    const off = median(`${load}: off`);
    process.stdout.write(`${load}: ${off.toFixed(3)} s of CPU when off\n`);
    for (const name of Object.keys(SETTINGS).slice(1)) {
      const ratio = median(`${load}: ${name}`) / off - 1;
      process.stdout.write(`  ${name}: ${(ratio * 100).toFixed(1)} % more\n`);
    }
  }
  port1.close();
  await host.close();
} finally {
  rmSync(folder, { recursive: true });
}
