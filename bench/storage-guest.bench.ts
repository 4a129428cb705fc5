/**
 * How fast a guest reads and writes a copy-on-write disk, next to QEMU's TCG with a qcow2 overlay over the same backing
 * file: virtio-blk, cache mode writeback, same kernel, same program (storage-guest.c). Run with
 * `node bench/storage-guest.bench.ts [--runs N] [--mib N] [--random N] [--only umlaut|qemu] [--job NAME]`; needs gcc and
 * libc6-dev. Runs take turns, files are in the host's page cache, each figure is the median.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { CpioEntry } from '../src/images/cpio.ts';
import { loadOrder, readModules } from '../src/images/modules.ts';
import { type BenchDisk, BenchKit, type Engine } from './kit.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '3' },
    mib: { type: 'string', default: '128' },
    random: { type: 'string', default: '32768' },
    only: { type: 'string' },
    job: { type: 'string', default: '' },
  },
});
const runs = Number(values.runs);
const mib = Number(values.mib);
const random = Number(values.random);
const DISK_MIB = mib * 3;

interface Measurement {
  readonly operations: number;
  readonly seconds: number;
  readonly checksum: string;
}

const note = (text: string): void => void process.stderr.write(`${text}\n`);
const folder = mkdtempSync(join(tmpdir(), 'umlaut-bench-'));
const at = (name: string): string => join(folder, name);

function must(command: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? stderr}`);
}

async function initrd(kit: BenchKit): Promise<string> {
  const program = at('storage-guest');
  const source = fileURLToPath(new URL('storage-guest.c', import.meta.url));
  must('gcc', ['-O2', '-static', '-o', program, source]);
  const modules = loadOrder(await readModules(kit.modules), ['virtio_pci', 'virtio_blk']);
  const entries = [
    { kind: 'folder', path: 'modules' } satisfies CpioEntry,
    ...modules.map(
      ({ name, file }): CpioEntry => ({
        kind: 'file',
        path: `modules/${name}.ko`,
        content: readFileSync(join(kit.modules, file)),
        executable: false,
      }),
    ),
    { kind: 'file', path: 'bin/bench', content: readFileSync(program), executable: true } satisfies CpioEntry,
  ];
  const load = modules.map(({ name }) => `$B insmod /modules/${name}.ko`).join('\n');
  const commands = [
    '$B mount -t proc proc /proc; $B mount -t sysfs sysfs /sys; $B mount -t devtmpfs dev /dev',
    load,
    'while [ ! -b /dev/vda ]; do $B sleep 0.1; done',
    `/bin/bench /dev/vda ${mib} ${random} ${values.job}`,
  ].join('\n');
  return kit.initrd('storage-guest', commands, entries);
}

/** Overlays are new for each run. */
function disk(run: number): Required<BenchDisk> {
  const made = { file: at('base.raw'), cow: at(`${run}.cow`), qcow2: at(`${run}.qcow2`) };
  must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', made.file, '-F', 'raw', made.qcow2]);
  return made;
}

function measure(kit: BenchKit, engine: Engine, image: string, run: number): Map<string, Measurement> {
  const used = disk(run);
  const output = kit.run(engine, { initrd: image, disks: [used] });
  rmSync(used.cow, { force: true });
  rmSync(used.qcow2);
  const lines = [...output.matchAll(/^([a-z0-9-]+) (\d+) ([0-9.]+) ([0-9a-f]{16})\r?$/gm)];
  if (lines.length === 0) throw new Error(`${engine} measured nothing:\n${output}`);
  return new Map(
    lines.map(([, name, operations, seconds, checksum]) => [
      name!,
      { operations: Number(operations), seconds: Number(seconds), checksum: checksum! },
    ]),
  );
}

const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;

function report(all: Readonly<Record<Engine, readonly Map<string, Measurement>[]>>): void {
  const first = all.umlaut[0] ?? all.qemu[0];
  const speed = (engine: Engine, name: string): number | undefined => {
    const seconds = all[engine].map((run) => run.get(name)!.seconds);
    const { operations } = first!.get(name)!;
    return seconds.length === 0 ? undefined : operations / median(seconds);
  };
  console.log(`${'measurement'.padEnd(24)} ${'ours/s'.padStart(9)} ${'QEMU/s'.padStart(9)}  ours / QEMU`);
  for (const name of first!.keys()) {
    const checksums = new Set(
      [...all.umlaut, ...all.qemu].map((run) => `${run.get(name)?.checksum} ${run.get(name)?.operations}`),
    );
    if (checksums.size > 1) throw new Error(`${name}: what was read differs: ${[...checksums].join(', ')}`);
    const [ours, theirs] = [speed('umlaut', name), speed('qemu', name)];
    const cell = (value: number | undefined): string => (value?.toFixed(0) ?? '–').padStart(9);
    const ratio = ours === undefined || theirs === undefined ? '–' : (ours / theirs).toFixed(2);
    console.log(`${name.padEnd(24)} ${cell(ours)} ${cell(theirs)}  ${ratio}`);
  }
}

async function main(): Promise<void> {
  const kit = await BenchKit.open(note);
  const image = await initrd(kit);
  const content = randomBytes(1 << 20);
  writeFileSync(at('base.raw'), Buffer.concat(Array.from({ length: DISK_MIB }, () => content)));
  const engines = (['umlaut', 'qemu'] as const).filter(
    (one) => values.only === undefined || values.only === one,
  );
  const all = { umlaut: [] as Map<string, Measurement>[], qemu: [] as Map<string, Measurement>[] };
  for (let run = 1; run <= runs; run++) {
    for (const engine of engines) {
      note(`${engine}: run ${run} of ${runs}`);
      all[engine].push(measure(kit, engine, image, run));
    }
  }
  report(all);
}

try {
  await main();
} finally {
  rmSync(folder, { recursive: true });
}
