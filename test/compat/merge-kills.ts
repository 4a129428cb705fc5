/** Kills a process that merges a copy-on-write file into its backing file, at random moments, until one comes to the end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { createCow, mergeCow, mergeCowIntoBacking, openDisk } from '../../src/storage/index.ts';
import { pattern, randomNumbers, scratchFolder } from '../support/storage.ts';

const STORAGE = new URL('../../src/storage/index.ts', import.meta.url).href;
const SIZE = 24 << 20;
/** Says when it has begun; slow enough to be met while it writes. */
const PROGRAM = `
  import { mergeCowIntoBacking } from ${JSON.stringify(STORAGE)};
  process.stdout.write('begun');
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const onProgress = () => { if (Math.random() < 0.2) Atomics.wait(pause, 0, 0, 1); };
  await mergeCowIntoBacking(process.argv[1], { onProgress });`;

async function written(
  folder: string,
  seed: number,
): Promise<{ readonly cow: string; readonly backing: string }> {
  const [backing, cow] = [path.join(folder, `${seed}.img`), path.join(folder, `${seed}.cow`)];
  fs.writeFileSync(backing, pattern(SIZE, seed));
  createCow(cow, backing);
  const random = randomNumbers(seed + 7);
  const disk = openDisk({ device: 'ubd0', file: backing, cow, readOnly: false });
  for (let count = 0; count < 500; count++) {
    const bytes = new Uint8Array(512 * (1 + random(16))).fill(random(256));
    await disk.write(random(SIZE / 512 - 16) * 512, [bytes]);
  }
  await disk.close();
  return { cow, backing };
}

/** Kills so many of them. Throws when, in the end, a backing file is not what it should be. How many had changed something. */
export async function mergeKillRounds(count: number, seed: number): Promise<number> {
  const folder = scratchFolder();
  const random = randomNumbers(seed);
  let killed = 0;
  let changed = 0;
  for (let round = 0; killed < count; round++) {
    const { cow, backing } = await written(folder, seed * 1000 + round);
    const expected = path.join(folder, 'expected');
    await mergeCow(cow, expected);
    for (let left = 3; left > 0 && killed < count; left--) {
      const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', PROGRAM, cow]);
      const ended = once(child, 'exit');
      await Promise.race([once(child.stdout, 'data'), ended]);
      await setTimeout(random(60));
      child.kill('SIGKILL');
      await ended;
      if (child.signalCode !== 'SIGKILL') break;
      killed++;
      if (fs.existsSync(`${cow}.merge`)) changed++;
    }
    // The record is gone when another run has come to its end.
    const isDone = fs.readFileSync(backing).equals(fs.readFileSync(expected));
    if (!isDone) await mergeCowIntoBacking(cow);
    if (!fs.readFileSync(backing).equals(fs.readFileSync(expected)))
      throw new Error(`round ${round}: it differs`);
    for (const file of [cow, backing]) fs.rmSync(file);
  }
  return changed;
}
