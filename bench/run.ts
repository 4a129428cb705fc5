/**
 * `npm run bench`: how fast the engine is, against QEMU's TCG and the bare processor where they are there.
 * Prints a table and writes it to docs/benchmarks.md. Ratios are of medians of `--runs` runs (default 5) that
 * take turns, so that a machine whose speed drifts is fair to all.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { BenchKit, type Timing } from './kit.ts';
import { loopSpeed } from './loop.ts';

const { values } = parseArgs({ options: { runs: { type: 'string', default: '5' } } });
const runs = Number(values.runs);
const root = new URL('..', import.meta.url);

const median = (list: readonly number[]): number => {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const note = (text: string): void => void process.stderr.write(`${text}\n`);

interface Row {
  readonly what: string;
  readonly ours: number;
  readonly qemu: number | undefined;
  readonly native: number | undefined;
}

/** Median seconds of each program in a list of runs. */
function medians(timings: readonly Timing[]): Map<string, number> {
  const byName = new Map<string, number[]>();
  for (const timing of timings) {
    for (const [name, { seconds }] of timing) byName.set(name, [...(byName.get(name) ?? []), seconds]);
  }
  return new Map([...byName].map(([name, list]) => [name, median(list)]));
}

/** Results must be the same everywhere. */
function checkResults(all: readonly Timing[]): void {
  const [first, ...rest] = all;
  for (const timing of rest) {
    for (const [name, { result }] of timing) {
      const expected = first.get(name)?.result;
      if (expected !== result) throw new Error(`${name} gave ${result}, elsewhere ${expected}`);
    }
  }
}

function bootRows(kit: BenchKit): Row[] {
  const ours: number[] = [];
  const qemu: number[] = [];
  for (let run = 1; run <= runs; run++) {
    note(`boot to the first line of /init: run ${run} of ${runs}`);
    ours.push(kit.bootSeconds('umlaut'));
    if (kit.qemu) qemu.push(kit.bootSeconds('qemu'));
  }
  const what = 'Debian cloud kernel to the first line of /init';
  return [{ what, ours: median(ours), qemu: kit.qemu ? median(qemu) : undefined, native: undefined }];
}

function suiteRows(kit: BenchKit): Row[] {
  if (!kit.compileSuite()) {
    note('the compute suite is left out: it needs gcc and libc6-dev');
    return [];
  }
  const ours: Timing[] = [];
  const qemu: Timing[] = [];
  const native: Timing[] = [];
  for (let run = 1; run <= runs; run++) {
    note(`compute suite: run ${run} of ${runs}`);
    native.push(kit.suiteNative());
    ours.push(kit.suite('umlaut'));
    if (kit.qemu) qemu.push(kit.suite('qemu'));
  }
  checkResults([...native, ...ours, ...qemu]);
  const [mine, theirs, bare] = [medians(ours), medians(qemu), medians(native)];
  return [...mine].map(([what, seconds]) => ({
    what,
    ours: seconds,
    qemu: theirs.get(what),
    native: bare.get(what),
  }));
}

const cell = (value: number | undefined): string => (value === undefined ? '–' : value.toFixed(3));
const ratio = (other: number | undefined, ours: number): string =>
  other === undefined ? '–' : (other / ours).toFixed(2);

function table(rows: readonly Row[]): string {
  const lines = [
    '| program | ours, s | QEMU TCG, s | native, s | QEMU / ours | native / ours |',
    '|---|---:|---:|---:|---:|---:|',
    ...rows.map(
      ({ what, ours, qemu, native }) =>
        `| ${what} | ${cell(ours)} | ${cell(qemu)} | ${cell(native)} | ${ratio(qemu, ours)} | ${ratio(native, ours)} |`,
    ),
  ];
  return lines.join('\n');
}

function geometricMean(rows: readonly Row[]): string {
  const ratios = rows.flatMap(({ ours, qemu }) => (qemu === undefined ? [] : [qemu / ours]));
  if (ratios.length === 0) return '';
  const mean = Math.exp(ratios.reduce((sum, value) => sum + Math.log(value), 0) / ratios.length);
  return `Geometric mean of QEMU's time over ours: ${mean.toFixed(2)}; the slowest program: ${Math.min(...ratios).toFixed(2)}.\n`;
}

function report(kit: BenchKit): string {
  const loop = loopSpeed();
  const boot = bootRows(kit);
  const suite = suiteRows(kit);
  const qemuVersion = kit.qemu
    ? spawnSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).stdout.split('\n')[0]
    : 'not installed';
  return [
    '# Benchmarks',
    '',
    'Written by `npm run bench`. Above 1 in the column "QEMU / ours" means that we are faster.',
    '',
    `- Machine: ${cpus()[0].model}, ${cpus().length} cores, Linux ${release()}`,
    `- Node ${process.version} (V8 ${process.versions.v8}); QEMU: ${qemuVersion}; guest kernel ${kit.kernelVersion}`,
    `- Median of ${runs} runs, one vCPU, 256 MB`,
    `- Integer loop, interpreter alone: ${loop.interpreter} million instructions per second; compiled: ${loop.compiled}`,
    '',
    '## Boot',
    '',
    table(boot),
    '',
    '## Compute suite',
    '',
    suite.length === 0 ? 'Not run: it needs gcc.' : table(suite),
    '',
    geometricMean(suite),
  ].join('\n');
}

const kit = await BenchKit.open(note);
const text = report(kit);
process.stdout.write(`${text}\n`);
mkdirSync(new URL('docs/', root), { recursive: true });
writeFileSync(new URL('docs/benchmarks.md', root), `${text.trimEnd()}\n`);
