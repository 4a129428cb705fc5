/** Kills a daemon at random moments of what it does with layers, again and again, and has the next one judge what is left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { randomNumbers, scratchFolder } from '../../support/storage.ts';

const PROGRAM = fileURLToPath(new URL('lineage-churn.ts', import.meta.url));
const LIVES_MS_MAX = 1000;

export async function killRounds(count: number, seed: number): Promise<void> {
  const home = path.join(scratchFolder(), 'home');
  const random = randomNumbers(seed);
  for (let round = 0; round < count; round++) {
    const child = run(home, round + seed * 1000);
    await said(child, 'churning');
    await setTimeout(random(LIVES_MS_MAX));
    // One that has failed by itself meanwhile has said why.
    if (child.process.exitCode !== null) throw new Error(child.output());
    child.process.kill('SIGKILL');
    await child.ended;
  }
  const last = run(home, 0, 'settle');
  await said(last, 'settled');
  await last.ended;
}

interface Child {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;
  output(): string;
}

function run(home: string, seed: number, ...args: string[]): Child {
  const child = spawn(process.execPath, [PROGRAM, home, String(seed), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return { process: child, ended: once(child, 'exit'), output: () => output };
}

async function said(child: Child, word: string): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = (): void => {
    if (child.output().includes(word)) resolve();
  };
  child.process.stdout!.on('data', look);
  await Promise.race([promise, child.ended]);
  if (!child.output().includes(word)) throw new Error(`it ended: ${child.output()}`);
}
