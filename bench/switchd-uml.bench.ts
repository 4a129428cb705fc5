/**
 * Frames per second through uml_switch's protocol, two clients and one sender, for each switch that is installed.
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
  readonly framesPerSecond: number;
  readonly lost: number;
}

function measure(client: string, control: string, bytes: number): Result {
  const { stdout, stderr, status } = spawnSync(client, [control, `${bytes}`, `${SECONDS}`], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  const [sent = 0, received = 0, seconds = 0] = stdout.split(' ').map(Number);
  return { framesPerSecond: received / seconds, lost: sent - received };
}

async function main(): Promise<void> {
  const client = join(folder, 'client');
  const source = join(root, 'bench/switchd-client.c');
  if (spawnSync('gcc', ['-O2', '-o', client, source], { stdio: 'inherit' }).status !== 0) {
    throw new Error('gcc is needed to build the clients');
  }
  const running = contestants();
  const children = await Promise.all(running.map(start));
  for (const bytes of [64, 1514]) {
    for (let run = 0; run < RUNS; run++) {
      for (const { name, control } of running) {
        const { framesPerSecond, lost } = measure(client, control, bytes);
        console.log(`${name}, ${bytes} B: ${Math.round(framesPerSecond)} frames/s, ${lost} lost`);
      }
    }
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
