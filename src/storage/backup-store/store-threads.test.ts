import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pattern, scratchFolder } from '../../../test/support/storage.ts';
import { beginWriting } from '../backup.ts';
import { openDisk } from '../disk.ts';
import { backUp, backupPlan, filesOf, storeIn } from '../testing/store-kit.ts';
import { runStoreTask, StoreTask } from './store-task.ts';

/** Of this process, as the kernel has them. */
function threads(): string[] {
  const names = fs
    .readdirSync('/proc/self/task')
    .map((id) => fs.readFileSync(`/proc/self/task/${id}/comm`, 'utf8'));
  return names.filter((name) => name.startsWith('backup store'));
}

async function storeWithBackup() {
  const folder = scratchFolder();
  const file = `${folder}/raw`;
  fs.writeFileSync(file, pattern(1 << 20, 1));
  const disk = openDisk({ device: 'ubd0', file, readOnly: false });
  onTestFinished(() => disk.close());
  const store = storeIn(folder);
  return { store, id: (await backUp([disk], store)).id };
}

describe('tasks on a store', () => {
  it('take turns in threads that are kept, and readers share', async () => {
    const { store, id } = await storeWithBackup();
    for (let turn = 0; turn < 5; turn++) await runStoreTask(store, 'verify', { backupIds: [id] });
    // One may be told of the end of a task before the pool of threads is.
    const alone = threads().length;
    expect(alone).toBeLessThanOrEqual(2);
    const places = Array.from({ length: 20 }, () => runStoreTask(store, 'file-systems', { backupId: id }));
    expect((await Promise.all(places)).flat()).toHaveLength(20);
    expect(threads().length).toBeLessThanOrEqual(alone + 2);
  });

  it('end when they are canceled, however early, and leave nothing', async () => {
    const { store } = await storeWithBackup();
    const before = filesOf(store);
    for (let turn = 0; turn < 3; turn++) {
      const writing = beginWriting(backupPlan(store));
      const { result } = new StoreTask<'write'>(writing.port);
      writing.cancel();
      await writing.ended;
      await expect(result).rejects.toMatchObject({ code: 'canceled' });
    }
    expect(filesOf(store)).toEqual(before);
  });

  it('keep no process alive once they have ended', () => {
    const module = JSON.stringify(new URL('./store-task.ts', import.meta.url).href);
    const store = JSON.stringify(storeIn(scratchFolder()));
    const program = `import { runStoreTask } from ${module}; await runStoreTask(${store}, 'list', {});`;
    const file = path.join(scratchFolder(), 'program.mjs');
    fs.writeFileSync(file, program);
    const { status, signal, stderr } = spawnSync(process.execPath, [file], {
      // Idle threads are kept for longer.
      timeout: 50_000,
    });
    expect({ status, signal, stderr: stderr.toString() }).toEqual({ status: 0, signal: null, stderr: '' });
  }, 60_000);

  it('end when their owner is gone', async () => {
    const { store } = await storeWithBackup();
    const writing = beginWriting(backupPlan(store));
    writing.port.close();
    await writing.ended;
  });
});
