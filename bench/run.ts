/**
 * `npm run bench`: how fast the engine is, against QEMU's TCG and the bare processor where they are there.
 * Prints a report and, when all of it was run, writes it to docs/benchmarks.md. Figures are medians of runs that take
 * turns, so that a machine whose speed drifts is fair to all.
 *
 * npm run bench -- [--only PART,…] [--programs NAME,…] [--runs N] [--list]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { parseArgs } from 'node:util';
import { BenchKit, MEMORY_MIB } from './kit.ts';
import { boot } from './parts/boot.ts';
import { compute } from './parts/compute.ts';
import { login } from './parts/login.ts';
import { loop } from './parts/loop.ts';
import { memory } from './parts/memory.ts';
import type { Part } from './parts/part.ts';
import { programs } from './parts/programs.ts';
import { storage } from './parts/storage.ts';
import { watch } from './parts/watch.ts';
import { qemuVersion } from './qemu.ts';

const PARTS: readonly Part[] = [loop, boot, login, compute, programs, memory, watch, storage];
const RUNS_DEFAULT = 5;

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    programs: { type: 'string' },
    runs: { type: 'string', default: String(RUNS_DEFAULT) },
    list: { type: 'boolean', default: false },
  },
});
const runs = Number(values.runs);
const names = (text: string | undefined): string[] => text?.split(',').filter((name) => name !== '') ?? [];
const wanted = names(values.only);
const unknown = wanted.filter((name) => !PARTS.some((part) => part.name === name));

function refuse(text: string): never {
  process.stderr.write(`${text}\n`);
  process.exit(2);
}
const partNames = PARTS.map(({ name }) => name).join(', ');
if (unknown.length > 0) refuse(`there is no part ${unknown.join(', ')}; the parts are: ${partNames}`);
if (!Number.isInteger(runs) || runs < 1) refuse('--runs takes a number from 1 on');
if (values.list) {
  process.stdout.write(`${PARTS.map(({ name, title }) => `${name}: ${title}`).join('\n')}\n`);
  process.exit(0);
}

const started = performance.now();
const note = (text: string): void => {
  const seconds = Math.round((performance.now() - started) / 1000);
  process.stderr.write(`[${String(seconds).padStart(4)} s] ${text}\n`);
};

const kit = await BenchKit.open(note);
const head = [
  '# Benchmarks',
  '',
  'Written by `npm run bench`. Above 1 in the column "QEMU / ours" means that we are faster.',
  '',
  `- Machine: ${cpus()[0]!.model}, ${cpus().length} cores, Linux ${release()}`,
  `- Node ${process.version} (V8 ${process.versions.v8}); QEMU: ${qemuVersion() ?? 'not installed'}; guest kernel ${kit.kernelVersion}`,
  `- Median of ${runs} runs that take turns, one vCPU, ${MEMORY_MIB} MiB unless a table says otherwise; QEMU with its default CPU model`,
].join('\n');
process.stdout.write(`${head}\n`);
const sections: string[] = [];
for (const part of PARTS) {
  if (wanted.length > 0 && !wanted.includes(part.name)) continue;
  const text = await part.run({ kit, runs, programs: names(values.programs), note });
  const section = `## ${part.title}\n\n${text}`;
  process.stdout.write(`\n${section}\n`);
  sections.push(section);
}
if (sections.length === PARTS.length && values.programs === undefined) {
  const docs = new URL('../docs/', import.meta.url);
  mkdirSync(docs, { recursive: true });
  writeFileSync(new URL('benchmarks.md', docs), `${[head, ...sections].join('\n\n')}\n`);
} else note('docs/benchmarks.md stays as it is: not all was run');
