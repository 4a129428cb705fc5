/**
 * TCP and UDP by iperf3 of Debian, next to QEMU's TCG where it is installed: from a guest to the host and back through user-mode
 * NAT (QEMU: -netdev user), and between two guests on one switch (QEMU: -netdev socket). What the receiver got counts. The
 * engines take turns; figures are medians. Run with `node bench/network.bench.ts [runs] [seconds] [part of a measurement's name]`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { FromMachine, MachineWorkerData } from '../src/contracts/ports.ts';
import type { CpioEntry } from '../src/images/cpio.ts';
import { findTool, runTool } from '../src/images/tools.ts';
import { startSwitch } from '../src/switchd/index.ts';
import { median } from './figures.ts';
import { BenchKit, type Engine, MEMORY_MIB } from './kit.ts';

const runs = Number(process.argv[2] ?? 3);
const seconds = Number(process.argv[3] ?? 8);
const wanted = process.argv[4] ?? '';
const GUEST_MS = 240_000;
const MODULES = [
  'virtio_ring',
  'virtio',
  'virtio_pci_modern_dev',
  'virtio_pci_legacy_dev',
  'virtio_pci',
  'failover',
];
const DRIVERS = [...MODULES, 'net_failover', 'virtio_net'];
const MACHINE = fileURLToPath(new URL('../src/vmm/machine-worker.ts', import.meta.url));
const note = (text: string): boolean => process.stderr.write(`${text}\n`);

interface Guest {
  readonly address: string;
  /** What it does when its network is up. */
  readonly commands: string;
}

/** A guest's card and how to reach it, by engine. */
interface Wire {
  readonly umlaut: readonly string[];
  readonly qemu: readonly string[];
}

if (findTool('iperf3') === undefined) throw new Error('install the Debian package iperf3');
const kit = await BenchKit.open(note);
const files = [...(await iperf()), ...drivers()];

/** The host's iperf3 with its libraries. */
async function iperf(): Promise<CpioEntry[]> {
  const program = findTool('iperf3')!;
  const libraries = [...(await runTool('ldd', [program])).matchAll(/(\/\S+) \(0x/g)].map(([, file]) => file!);
  const folders = ['lib', 'lib64', 'usr', 'usr/lib', 'lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'];
  return [
    ...folders.map((path): CpioEntry => ({ kind: 'folder', path })),
    ...libraries.map((file) => executable(file.slice(1), file)),
    executable('bin/iperf3', program),
  ];
}

function executable(path: string, file: string): CpioEntry {
  return { kind: 'file', path, content: readFileSync(file), executable: true };
}

function drivers(): CpioEntry[] {
  const known = readFileSync(`${kit.modules}/modules.order`, 'latin1').split('\n');
  return DRIVERS.flatMap((name) => {
    const path = known.find((line) => line.endsWith(`/${name}.ko`));
    // What is missing is built into the kernel.
    return path === undefined ? [] : [executable(`${name}.ko`, `${kit.modules}/${path}`)];
  });
}

function initrd(name: string, { address, commands }: Guest): string {
  const insert = DRIVERS.map((driver) => `$B insmod /${driver}.ko 2>/dev/null`).join('\n');
  return kit.initrd(
    name,
    `$B mount -t proc proc /proc; $B mount -t sysfs sys /sys; $B mount -t devtmpfs dev /dev
${insert}
$B ip link set lo up; $B ip link set eth0 up; $B ip addr add ${address}/24 dev eth0
${commands}`,
    files,
  );
}

const client = (server: string, port: number, more = ''): string =>
  `until /bin/iperf3 -c ${server} -p ${port} -t ${seconds} -f m ${more}; do $B sleep 1; done`;

/** Mbit/s that the receiver counted. */
function rateOf(output: string): number {
  // UDP's line has jitter and losses before that word.
  const found = /([\d.]+) Mbits\/sec.*receiver/.exec(output);
  const lost = /([\d.]+%)\)\s+receiver/.exec(output);
  if (lost !== null) note(`lost: ${lost[1]}`);
  if (found === null) throw new Error(`iperf3 gave no figure:\n${output.slice(-1500)}`);
  return Number(found[1]);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

async function withHost(engine: Engine, options: string): Promise<number> {
  const port = await freePort();
  const host = spawn('iperf3', ['-s', '-1', '-p', String(port), '-B', '127.0.0.1'], { stdio: 'ignore' });
  try {
    const commands = client('10.0.2.2', port, options);
    const file = initrd('network', { address: '10.0.2.15', commands });
    const wire: Wire = {
      umlaut: ['--nic', 'nat'],
      qemu: ['-netdev', 'user,id=n', '-device', 'virtio-net-pci,netdev=n'],
    };
    return rateOf(kit.run(engine, { initrd: file, options: wire[engine] }));
  } finally {
    host.kill('SIGKILL');
  }
}

async function betweenGuests(engine: Engine): Promise<number> {
  const server = initrd('network-server', { address: '10.77.0.1', commands: '/bin/iperf3 -s -1' });
  const commands = client('10.77.0.1', 5201);
  const asking = initrd('network-client', { address: '10.77.0.2', commands });
  return rateOf(engine === 'umlaut' ? await onOurSwitch(server, asking) : await onSocket(server, asking));
}

/** Two machines in threads of this process, as the daemon runs them. */
async function onOurSwitch(server: string, asking: string): Promise<string> {
  const handle = await startSwitch({
    onError: (error) => {
      throw error;
    },
  });
  try {
    await handle.createNetwork({ id: 'net', name: 'net', subnet: '10.77.0.0/24', gateway: '10.77.0.254' });
    const outputs = [server, asking].map(async (file, index) => {
      const mac = `02:00:00:00:00:0${index + 1}`;
      const { ring } = await handle.attach({ networkId: 'net', portId: `p${index}`, name: `g${index}`, mac });
      const config = {
        ...{ name: `g${index}`, memoryBytes: MEMORY_MIB << 20, kernel: kit.kernel, initrd: file },
        ...{
          append: 'console=ttyS0 quiet panic=-1',
          disks: [],
          nics: [{ device: 'eth0', mac, network: 'net' }],
        },
      };
      return await ourMachine({ config, nicRings: [ring] });
    });
    return (await Promise.all(outputs))[1]!;
  } finally {
    await handle.close();
  }
}

function ourMachine(workerData: MachineWorkerData): Promise<string> {
  const worker = new Worker(MACHINE, { workerData });
  let output = '';
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`a guest goes on:\n${output.slice(-1000)}`)), GUEST_MS);
    worker.on('error', reject);
    worker.on('message', (message: FromMachine) => {
      if (message.type === 'console-output') output += Buffer.from(message.bytes).toString('latin1');
      if (message.type !== 'ended') return;
      clearTimeout(timer);
      resolve(output);
    });
  }).finally(() => worker.terminate()) as Promise<string>;
}

async function onSocket(server: string, asking: string): Promise<string> {
  const port = await freePort();
  const ends = [`listen=127.0.0.1:${port}`, `connect=127.0.0.1:${port}`];
  const guests = [server, asking].map((file, index) => qemuGuest(file, ends[index]!, index + 1));
  return (await Promise.all(guests))[1]!;
}

async function qemuGuest(file: string, end: string, number: number): Promise<string> {
  const machine = '-accel tcg -display none -serial stdio -monitor none -no-reboot'.split(' ');
  const boot = [
    '-kernel',
    kit.kernel,
    '-initrd',
    file,
    '-append',
    'console=ttyS0 quiet panic=-1 no_timer_check',
  ];
  const card = [
    '-netdev',
    `socket,id=n,${end}`,
    '-device',
    `virtio-net-pci,netdev=n,mac=02:00:00:00:00:0${number}`,
  ];
  const args = [...machine, '-m', String(MEMORY_MIB), ...boot, ...card];
  // The one that connects needs the other to listen.
  if (end.startsWith('connect')) await new Promise((resolve) => setTimeout(resolve, 1000));
  const child: ChildProcess = spawn('qemu-system-x86_64', args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), GUEST_MS);
  let output = '';
  child.stdout!.setEncoding('latin1').on('data', (text: string) => {
    output += text;
  });
  await once(child, 'close');
  clearTimeout(timer);
  return output;
}

const MEASUREMENTS: readonly [string, (engine: Engine) => Promise<number>][] = [
  ['TCP, guest to host, through NAT', (engine) => withHost(engine, '')],
  ['TCP, host to guest, through NAT', (engine) => withHost(engine, '-R')],
  ['TCP, between two guests', betweenGuests],
  ['UDP of 40 Mbit/s, guest to host, through NAT', (engine) => withHost(engine, '-u -b 40M -l 1400')],
  ['UDP of 40 Mbit/s, host to guest, through NAT', (engine) => withHost(engine, '-u -b 40M -l 1400 -R')],
  ['UDP of 200 Mbit/s, host to guest, through NAT', (engine) => withHost(engine, '-u -b 200M -l 1400 -R')],
];

process.stdout.write('| Mbit/s | ours | QEMU TCG | ours / QEMU |\n|---|---:|---:|---:|\n');
for (const [what, measure] of MEASUREMENTS) {
  if (!what.includes(wanted)) continue;
  const rates: Record<Engine, number[]> = { umlaut: [], qemu: [] };
  for (let run = 1; run <= runs; run++) {
    for (const engine of kit.engines) {
      note(`${what}: ${engine}, run ${run} of ${runs}`);
      rates[engine].push(await measure(engine));
    }
  }
  const ours = median(rates.umlaut);
  const qemu = rates.qemu.length === 0 ? undefined : median(rates.qemu);
  const ratio = qemu === undefined ? '–' : (ours / qemu).toFixed(2);
  process.stdout.write(`| ${what} | ${ours.toFixed(0)} | ${qemu?.toFixed(0) ?? '–'} | ${ratio} |\n`);
}
