/** Makes, removes and collects backups in a store until it is killed: `node backup-churn.ts FOLDER`. Says what is done. */
import { randomBytes } from 'node:crypto';
import * as path from 'node:path';
import { runStoreTask } from '../backup-store/store-task.ts';
import { openDisk } from '../disk.ts';
import { backUp, storeIn } from './store-kit.ts';

const folder = process.argv[2]!;
const store = storeIn(folder);
const say = (text: string): boolean => process.stdout.write(`${text}\n`);

await runStoreTask(store, 'synchronize', {});
const disk = openDisk({ device: 'ubd0', file: path.join(folder, 'disk'), readOnly: false });
say('churning');
let parent: string | null = null;
for (;;) {
  for (let n = 0; n < 8; n++) {
    const at = Math.floor(Math.random() * (disk.sizeBytes / 4096 - 1)) * 4096;
    await disk.write(at, [randomBytes(4096)]);
  }
  const { id } = await backUp([disk], store, parent);
  say(`made ${id}`);
  if (parent !== null) {
    say(`removing ${parent}`);
    await runStoreTask(store, 'remove', { backupIds: [parent] });
    await runStoreTask(store, 'collect', {});
  }
  parent = id;
}
