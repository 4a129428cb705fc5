import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { openDatabase } from './database.ts';
import { Store } from './store.ts';

const MIGRATIONS = fileURLToPath(new URL('../../migrations', import.meta.url));

test('backups of version 0.1 are there after the schema has changed', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'umlaut-migration-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true }));
  const first = path.join(folder, 'first');
  fs.mkdirSync(first);
  for (const name of ['0001-core.sql', '0002-jobs.sql'])
    fs.copyFileSync(path.join(MIGRATIONS, name), path.join(first, name));
  const file = path.join(folder, 'db.sqlite');
  const old = openDatabase(file, first);
  old.exec(`
    INSERT INTO images (id, name, files, append, created_at) VALUES ('image', 'default', '[]', '', 1);
    INSERT INTO layers VALUES ('layer-1', 'backup', NULL, NULL, NULL, 'backups/bak-1/ubd0.img', 4096, 1);
    INSERT INTO backups VALUES (7, 'bak-1', 'default', 'monday', 'available', 'vm-1', 'web', 'image', 4096, '', '{}', 3, 1, 2);
    INSERT INTO snapshots VALUES ('snap-1', 'bak-1', 'ubd0', NULL, 'layer-1', 4096, 512, 0, 1);
  `);
  old.close();
  const store = new Store(openDatabase(file, MIGRATIONS));
  onTestFinished(() => store.close());
  expect(store.backups.byName('monday')).toMatchObject([
    {
      seq: 7,
      id: 'bak-1',
      destination_id: null,
      kind: 'full',
      consistency: null,
      keep: 3,
      image_id: 'image',
    },
  ]);
  expect(store.backups.snapshots(['bak-1'])).toMatchObject([
    { device: 'ubd0', path: 'backups/bak-1/ubd0.img', stored_bytes: 512, scanned_bytes: 4096 },
  ]);
  expect(store.db.pragma('foreign_key_check')).toEqual([]);
  expect(store.destinations.byName('local')).toMatchObject({
    id: 'dst-local',
    kind: 'directory',
    location: '',
  });
  store.backups.remove('bak-1');
  expect(store.backups.snapshots(['bak-1'])).toEqual([]);
});
