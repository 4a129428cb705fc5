/**
 * How fast a guest reads and writes a copy-on-write disk, next to QEMU's TCG with a qcow2 overlay over the same backing
 * file: virtio-blk, cache mode writeback, same kernel, same program (guest-disk.c). Runs take turns, files are in the host's page
 * cache, each figure is the median.
 */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CpioEntry } from '../../src/images/cpio.ts';
import { loadOrder, readModules } from '../../src/images/modules.ts';
import { median } from '../figures.ts';
import type { BenchDisk, BenchKit, Engine } from '../kit.ts';

export interface GuestDiskOptions {
  readonly engines: readonly Engine[];
  readonly runs: number;
  /** Of sequential measurements; the disk has three times that. */
  readonly mib: number;
  /** Operations of random measurements. */
  readonly random: number;
  /** A measurement of guest-disk.c; all of them when empty. */
  readonly job: string;
  note(text: string): void;
}

interface Measurement {
  readonly operations: number;
  readonly seconds: number;
  readonly checksum: string;
}

function must(command: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command}: ${error?.message ?? stderr}`);
}

async function initrd(
  kit: BenchKit,
  program: string,
  { mib, random, job }: GuestDiskOptions,
): Promise<string> {
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
    `/bin/bench /dev/vda ${mib} ${random} ${job}`,
  ].join('\n');
  return kit.initrd('guest-disk', commands, entries);
}

/** Overlays are new for each run. */
function disk(folder: string, run: number): Required<BenchDisk> {
  const at = (name: string): string => join(folder, name);
  const made = { file: at('base.raw'), cow: at(`${run}.cow`), qcow2: at(`${run}.qcow2`) };
  must('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', made.file, '-F', 'raw', made.qcow2]);
  return made;
}

function measure(
  kit: BenchKit,
  engine: Engine,
  image: string,
  used: Required<BenchDisk>,
): Map<string, Measurement> {
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

type Runs = Readonly<Record<Engine, Map<string, Measurement>[]>>;

function table(all: Runs): string {
  const first = all.umlaut[0] ?? all.qemu[0];
  const speed = (engine: Engine, name: string): number | undefined => {
    const seconds = all[engine].map((run) => run.get(name)!.seconds);
    return seconds.length === 0 ? undefined : first!.get(name)!.operations / median(seconds);
  };
  const lines = ['| measurement | ours, 1/s | QEMU TCG, 1/s | ours / QEMU |', '|---|---:|---:|---:|'];
  for (const name of first!.keys()) {
    const checksums = new Set(
      [...all.umlaut, ...all.qemu].map((run) => `${run.get(name)?.checksum} ${run.get(name)?.operations}`),
    );
    if (checksums.size > 1) throw new Error(`${name}: what was read differs: ${[...checksums].join(', ')}`);
    const [ours, theirs] = [speed('umlaut', name), speed('qemu', name)];
    const cell = (value: number | undefined): string => value?.toFixed(0) ?? '–';
    const ratio = ours === undefined || theirs === undefined ? '–' : (ours / theirs).toFixed(2);
    lines.push(`| ${name} | ${cell(ours)} | ${cell(theirs)} | ${ratio} |`);
  }
  return lines.join('\n');
}

/** A table in Markdown, or why there is none. Needs gcc and libc6-dev. */
export async function guestDisk(kit: BenchKit, options: GuestDiskOptions): Promise<string> {
  const { engines, runs, mib, note } = options;
  const program = kit.compile('guest-disk', 'bench/storage/guest-disk.c');
  if (program === undefined) return 'Not run: it needs gcc and libc6-dev.';
  const image = await initrd(kit, program, options);
  const folder = mkdtempSync(join(tmpdir(), 'umlaut-bench-'));
  try {
    const content = randomBytes(1 << 20);
    writeFileSync(join(folder, 'base.raw'), Buffer.concat(Array.from({ length: mib * 3 }, () => content)));
    const all: Runs = { umlaut: [], qemu: [] };
    for (let run = 1; run <= runs; run++) {
      for (const engine of engines) {
        note(`storage: ${engine}, run ${run} of ${runs}`);
        all[engine].push(measure(kit, engine, image, disk(folder, run)));
      }
    }
    return table(all);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
