import * as fs from 'node:fs';
import * as path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { pattern, scratchFolder } from '../../../test/support/storage.ts';
import { openDisk } from '../disk.ts';
import { backUp, storeIn } from '../testing/store-kit.ts';
import { runStoreTask } from './store-task.ts';

const SIZE = (4 << 20) + 12_288;

async function fixture() {
  const folder = scratchFolder();
  const base = path.join(folder, 'base');
  const model = Buffer.from(pattern(SIZE, 1));
  model.fill(0, 1 << 20, 2 << 20);
  fs.writeFileSync(base, model);
  const disk = openDisk({ device: 'ubd0', file: base, cow: path.join(folder, 'cow'), readOnly: false });
  onTestFinished(() => disk.close());
  const write = async (offset: number, bytes: Uint8Array): Promise<void> => {
    model.set(bytes, offset);
    await disk.write(offset, [bytes]);
  };
  await write(512, pattern(512, 2));
  // Data where the base has none, and zeros, whole chunks and less, where it has data.
  await write((1 << 20) + 4096, pattern(200_704, 3));
  await write(3 << 20, new Uint8Array(262_144));
  await write(65_536, new Uint8Array(4096));
  await write(SIZE - 4096, pattern(4096, 4));
  const store = storeIn(folder);
  const { id } = await backUp([disk], store);
  return { folder, base, model, store, id };
}

it('a restored disk over its base reads as the backup does, and has only what differs', async () => {
  const { folder, base, model, store, id } = await fixture();
  const file = path.join(folder, 'restored');
  await runStoreTask(store, 'restore', { backupId: id, disks: [{ device: 'ubd0', file, base }] });
  const restored = openDisk({ device: 'ubd0', file: base, cow: file, readOnly: true });
  const content = Buffer.alloc(SIZE);
  await restored.read(0, [content]);
  await restored.close();
  expect(content.equals(model)).toBe(true);
  // 209 KiB of data, header and bitmap; zeros are holes.
  expect(fs.statSync(file).blocks * 512).toBeLessThan(300 * 1024);
});

it('nothing is left where it cannot be made over the base', async () => {
  const { folder, base, store, id } = await fixture();
  const file = path.join(folder, 'restored');
  const disks = [{ device: 'ubd0', file, base }];
  fs.appendFileSync(base, Buffer.alloc(4096));
  await expect(runStoreTask(store, 'restore', { backupId: id, disks })).rejects.toMatchObject({
    code: 'conflict',
    field: 'full_copy',
  });
  fs.truncateSync(base, SIZE);
  const packs = path.join(folder, 'store', 'packs');
  for (const name of fs.readdirSync(packs)) fs.writeFileSync(path.join(packs, name), '');
  await expect(runStoreTask(store, 'restore', { backupId: id, disks })).rejects.toMatchObject({
    code: 'backup_corrupt',
  });
  expect(fs.existsSync(file)).toBe(false);
});
