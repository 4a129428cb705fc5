/**
 * Frames per second through uml_switch's protocol, two clients and one sender, for each switch that is installed. The sender's socket
 * blocks while the switch's is full, which is all that paces it.
 * Run with `node bench/switchd-uml.bench.ts`; needs gcc.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { findTool } from '../src/images/tools.ts';
import { median } from './figures.ts';

const SECONDS = 2;
const RUNS = 3;
const START_MS = 10_000;
const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'umlaut-bench-'));

interface Contestant {
  readonly name: string;
  readonly control: string;
  readonly command: readonly string[];
}

function contestants(): Contestant[] {
  const umlaut = [process.execPath, join(root, 'bin/umlaut.mjs'), 'switch', '-unix', join(folder, 'ours')];
  const list: Contestant[] = [{ name: 'umlaut switch', control: join(folder, 'ours'), command: umlaut }];
  const uml = findTool('uml_switch');
  const vde = findTool('vde_switch');
  const umlPath = join(folder, 'uml');
  if (uml) list.push({ name: 'uml_switch', control: umlPath, command: [uml, '-unix', umlPath] });
  const vdePath = join(folder, 'vde');
  if (vde) list.push({ name: 'vde_switch', control: join(vdePath, 'ctl'), command: [vde, '-s', vdePath] });
  return list;
}

async function start({ command, control, name }: Contestant): Promise<ChildProcess> {
  // INVARIANT: no command is empty. An open standard input, without which vde_switch ends.
  const child = spawn(command[0]!, command.slice(1), { stdio: ['pipe', 'ignore', 'ignore'] });
  for (let waited = 0; !existsSync(control); waited += 50) {
    if (waited > START_MS) throw new Error(`${name} does not start`);
    await sleep(50);
  }
  return child;
}

interface Result {
  /** That the receiver got. */
  readonly framesPerSecond: number;
  /** Of those that were sent, 0 to 1. */
  readonly lost: number;
}

function measure(client: string, control: string, bytes: number): Result {
  const { stdout, stderr, status } = spawnSync(client, [control, `${bytes}`, `${SECONDS}`], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  const [sent = 0, received = 0, seconds = 0] = stdout.split(' ').map(Number);
  return { framesPerSecond: received / seconds, lost: (sent - received) / sent };
}

/** Medians of runs that take turns, after one for each that does not count. */
function measureAll(client: string, running: readonly Contestant[], bytes: number): Result[] {
  const results = running.map((): Result[] => []);
  for (let run = 0; run <= RUNS; run++) {
    for (const [index, { control }] of running.entries()) {
      const result = measure(client, control, bytes);
      if (run > 0) results[index]!.push(result);
    }
  }
  return results.map((all) => ({
    framesPerSecond: median(all.map(({ framesPerSecond }) => framesPerSecond)),
    lost: median(all.map(({ lost }) => lost)),
  }));
}

async function main(): Promise<void> {
  const client = join(folder, 'client');
  const source = join(root, 'bench/switchd-client.c');
  if (spawnSync('gcc', ['-O2', '-o', client, source], { stdio: 'inherit' }).status !== 0) {
    throw new Error('gcc is needed to build the clients');
  }
  const running = contestants();
  const children = await Promise.all(running.map(start));
  console.log('| frames/s | 64 B | to uml_switch | lost | 1514 B | to uml_switch | lost |');
  console.log('|---|---:|---:|---:|---:|---:|---:|');
  const figures = [64, 1514].map((bytes) => measureAll(client, running, bytes));
  for (const [index, { name }] of running.entries()) {
    const cells = figures.flatMap((results) => {
      const { framesPerSecond, lost } = results[index]!;
      const peer = results[running.findIndex((other) => other.name === 'uml_switch')];
      const ratio = peer === undefined ? '–' : (framesPerSecond / peer.framesPerSecond).toFixed(2);
      return [Math.round(framesPerSecond), ratio, `${(100 * lost).toFixed(2)} %`];
    });
    console.log(`| ${[name, ...cells].join(' | ')} |`);
  }
  for (const child of children) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
}

try {
  await main();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
