/** Kills a process that makes, removes and collects backups, at random moments, and judges what is left each time. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pattern, randomNumbers, scratchFolder } from '../../../test/support/storage.ts';
import { runStoreTask } from '../backup-store/store-task.ts';
import { storeIn } from './store-kit.ts';

const PROGRAM = fileURLToPath(new URL('backup-churn.ts', import.meta.url));
const LIVES_MS_MAX = 2500;

/** How many complete backups were found whole. Throws when one that was made and not removed is gone, or any is damaged. */
export async function backupKillRounds(count: number, seed: number): Promise<number> {
  const folder = scratchFolder();
  const store = storeIn(folder);
  const random = randomNumbers(seed);
  fs.writeFileSync(path.join(folder, 'disk'), pattern(4 << 20, seed));
  const made = new Set<string>();
  for (let round = 0; round < count; round++) {
    const child = spawn(process.execPath, [PROGRAM, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(child, 'close');
    let output = '';
    const begun = new Promise<void>((resolve) => {
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (output.includes('churning')) resolve();
      });
    });
    await Promise.race([begun, ended]);
    await delay(random(LIVES_MS_MAX));
    child.kill('SIGKILL');
    await ended;
    for (const [, verb, id = ''] of output.matchAll(/^(made|removing) (\S+)$/gm)) {
      if (verb === 'made') made.add(id);
      else made.delete(id);
    }
    await runStoreTask(store, 'synchronize', {});
    const { backups, damaged } = await runStoreTask(store, 'list', {});
    const there = new Set(backups.map(({ id }) => id));
    const lost = [...made].filter((id) => !there.has(id));
    const checked = await runStoreTask(store, 'verify', { backupIds: null });
    if (lost.length + damaged.length + checked.damaged.length > 0) {
      throw new Error(JSON.stringify({ round, lost, damaged, checked }));
    }
  }
  return made.size;
}
