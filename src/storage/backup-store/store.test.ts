import { hash } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { describe, expect, it } from 'vitest';
import { memoryFolder, pattern, randomNumbers, scratchFolder } from '../../../test/support/storage.ts';
import type { BackupSummary, LeaseClaim } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import { cutBackups } from '../testing/backup-story.ts';
import { apply, MemoryObjects } from '../testing/memory-objects.ts';
import { RecordedFiles } from '../testing/recorded-files.ts';
import { type Parent, readBackup, writeBackup } from '../testing/stored-backups.ts';
import { collectGarbage } from './collect.ts';
import { DirectoryObjects } from './directory-objects.ts';
import { CHUNK_BYTES } from './format.ts';
import { manifestName } from './manifest.ts';
import type { ObjectStore } from './objects.ts';
import { BackupStore } from './store.ts';
import { holdRemoteStore } from './store-lease.ts';
import { verifyBackups } from './verify.ts';

const CHUNKS = 40;
const SIZE = CHUNKS * CHUNK_BYTES - 4096;
/** A pack of few chunks, so that there are many. */
const PACK = 3 * CHUNK_BYTES;
const CONTROL = { signal: new AbortController().signal, progress: () => undefined };

function openStore<O extends ObjectStore = MemoryObjects>(
  // INVARIANT: what is made here is what O is by default.
  objects: O = new MemoryObjects() as ObjectStore as O,
  folder = scratchFolder(),
  lease?: LeaseClaim,
): { store: BackupStore; objects: O } {
  const config = {
    location: { kind: 'directory', folder } as const,
    lease,
    indexFile: path.join(folder, 'index.sqlite'),
  };
  return { store: new BackupStore(config, objects), objects };
}

function diskOf(seed: number): Buffer {
  return Buffer.from(pattern(SIZE, seed));
}

const backUp = (store: BackupStore, content: Buffer, parent?: Parent): Promise<BackupSummary> =>
  writeBackup(store, content, PACK, parent);

/** A disk that changes from backup to backup. */
function changed(before: Buffer, seed: number): { content: Buffer; chunks: number[] } {
  const random = randomNumbers(seed);
  const content = Buffer.from(before);
  const chunks = new Set<number>();
  for (let n = 0; n < 3; n++) {
    const chunk = random(CHUNKS);
    chunks.add(chunk);
    content.set(pattern(512, seed * 10 + n), chunk * CHUNK_BYTES);
  }
  return { content, chunks: [...chunks] };
}

describe('a store', () => {
  it('gives back what was put in, whatever its index has lost', async () => {
    const { store, objects } = openStore();
    let content = diskOf(1);
    content.fill(0, CHUNK_BYTES, 5 * CHUNK_BYTES);
    const kept: [string, Buffer][] = [];
    let parent = (await backUp(store, content)).id;
    kept.push([parent, content]);
    for (let seed = 1; seed <= 4; seed++) {
      const next = changed(content, seed);
      content = next.content;
      parent = (await backUp(store, content, { id: parent, changed: next.chunks })).id;
      kept.push([parent, content]);
    }
    for (const [id, expected] of kept) expect((await readBackup(store, id)).equals(expected)).toBe(true);
    const { store: again } = openStore(objects);
    expect(await again.synchronize()).toEqual([]);
    for (const [id, expected] of kept) expect((await readBackup(again, id)).equals(expected)).toBe(true);
    expect(
      await verifyBackups(
        again,
        kept.map(([id]) => id),
        CONTROL,
      ),
    ).toMatchObject({ backups: 5, damaged: [] });
  });

  it('tells what is damaged, and stores it anew with the next full backup', async () => {
    const { store, objects } = openStore();
    const content = diskOf(2);
    const { id } = await backUp(store, content);
    const [name, bytes] = [...objects.content].find(([key]) => key.startsWith('packs/'))!;
    const broken = Buffer.from(bytes);
    broken[100]! ^= 1;
    objects.content.set(name, broken);
    await expect(readBackup(store, id)).rejects.toMatchObject({ code: 'backup_corrupt' });
    const result = await verifyBackups(store, [id], CONTROL);
    expect(result.damagedBackups).toEqual([id]);
    expect(result.damaged[0]).toMatchObject({ backupId: id, device: 'ubd0' });
    await backUp(store, content);
    expect((await readBackup(store, id)).equals(content)).toBe(true);
    expect((await verifyBackups(store, [id], CONTROL)).damaged).toEqual([]);
  });

  it('fails whole when any of its writes does, and the next attempt goes on from what is there', async () => {
    const content = diskOf(3);
    const { store: counted, objects: counter } = openStore();
    await backUp(counted, content);
    const puts = counter.log.length;
    expect(puts).toBeGreaterThan(8);
    for (let failing = 0; failing < puts; failing++) {
      const { store, objects } = openStore();
      objects.before = (_change, index) => {
        if (index >= failing) throw new AppError('disk_full', 'no space left on device');
      };
      await expect(backUp(store, content)).rejects.toMatchObject({ code: 'disk_full' });
      expect(await store.backupIds()).toEqual([]);
      objects.before = () => undefined;
      const { id } = await backUp(store, content);
      expect((await readBackup(store, id)).equals(content)).toBe(true);
      store.close();
    }
  });
});

describe('collection of garbage', () => {
  it('removes what no backup reaches, and writes packs anew that are mostly that', async () => {
    const { store, objects } = openStore();
    const first = diskOf(1);
    const second = Buffer.from(first);
    second.set(pattern(SIZE / 2, 9), 0);
    const one = await backUp(store, first);
    const two = await backUp(store, second);
    const before = [...objects.content.keys()].filter((name) => name.startsWith('packs/')).length;
    await store.removeManifest(one.id);
    const result = await collectGarbage(store, CONTROL);
    expect(result.removedPacks).toBeGreaterThan(3);
    expect([...objects.content.keys()].filter((name) => name.startsWith('packs/')).length).toBeLessThan(
      before,
    );
    expect((await readBackup(store, two.id)).equals(second)).toBe(true);
    await store.removeManifest(two.id);
    await collectGarbage(store, CONTROL);
    expect([...objects.content.keys()]).toEqual([]);
  });

  it('removes nothing while a manifest cannot be read', async () => {
    const { store, objects } = openStore();
    const { id } = await backUp(store, diskOf(1));
    objects.content.set(manifestName('bak-00000000000000ff'), Buffer.from('nonsense'));
    await store.removeManifest(id);
    const before = objects.content.size;
    await expect(collectGarbage(store, CONTROL)).rejects.toMatchObject({ code: 'backup_corrupt' });
    expect(objects.content.size).toBe(before);
  });

  it('may go on while backups are made from each other and removed', async () => {
    const { store, objects } = openStore();
    const random = randomNumbers(11);
    // Each change of the store takes a few turns, so that all of this overlaps.
    objects.before = async () => {
      for (let turns = random(6); turns > 0; turns--) await new Promise(setImmediate);
    };
    const backups = new Map<string, Buffer>();
    let stop = false;
    const collector = (async () => {
      while (!stop) {
        await collectGarbage(store, CONTROL);
        await new Promise(setImmediate);
      }
    })();
    const writer = async (seed: number): Promise<void> => {
      let content = diskOf(seed);
      let last = await backUp(store, content);
      for (let round = 0; round < 12; round++) {
        const next = changed(content, seed * 100 + round);
        content = next.content;
        const made = await backUp(store, content, { id: last.id, changed: next.chunks });
        backups.set(made.id, content);
        // Its parent, and now and then all that were before.
        backups.delete(last.id);
        await store.removeManifest(last.id);
        last = made;
        if (round % 4 === 3) {
          const full = await backUp(store, content);
          backups.set(full.id, content);
        }
      }
    };
    await Promise.all([writer(1), writer(1), writer(2)]);
    stop = true;
    await collector;
    expect(new Set(await store.backupIds())).toEqual(new Set(backups.keys()));
    for (const [id, content] of backups) expect((await readBackup(store, id)).equals(content)).toBe(true);
    await collectGarbage(store, CONTROL);
    for (const [id, content] of backups) expect((await readBackup(store, id)).equals(content)).toBe(true);
  });
});

describe('a remote that is lost to another daemon', () => {
  const lost = { code: 'interrupted' };

  async function openHeld() {
    const objects = new MemoryObjects();
    const { claim } = await holdRemoteStore(objects, 'one', { onLost: () => undefined });
    const folder = scratchFolder();
    /** As each task has it. */
    const open = (): BackupStore => openStore(objects, folder, claim).store;
    return { objects, open, store: open() };
  }

  const takeAway = (objects: MemoryObjects): void => void objects.content.delete('leases/one.json');

  it('gets no manifest of a backup that was under way', async () => {
    const { objects, store } = await openHeld();
    const kept = await backUp(store, diskOf(1));
    objects.before = ({ name }) => {
      if (name.startsWith('packs/')) takeAway(objects);
    };
    await expect(backUp(store, diskOf(2))).rejects.toMatchObject(lost);
    expect(await store.backupIds()).toEqual([kept.id]);
  });

  it('keeps no manifest that got there too late', async () => {
    const { objects, store } = await openHeld();
    objects.before = ({ kind, name }) => {
      if (kind === 'put' && name.startsWith('manifests/')) takeAway(objects);
    };
    await expect(backUp(store, diskOf(1))).rejects.toMatchObject(lost);
    expect(objects.log.some(({ change: { name } }) => name.startsWith('manifests/'))).toBe(true);
    expect(await store.backupIds()).toEqual([]);
  });

  it('has none of its packs and manifests removed', async () => {
    const { objects, open, store } = await openHeld();
    const { id } = await backUp(store, diskOf(1));
    takeAway(objects);
    await expect(open().removeManifest(id)).rejects.toMatchObject(lost);
    expect(await store.backupIds()).toEqual([id]);
    objects.content.delete(manifestName(id));
    const before = new Set(objects.content.keys());
    await expect(collectGarbage(open(), CONTROL)).rejects.toMatchObject(lost);
    expect(before.size).toBeGreaterThan(8);
    expect(new Set(objects.content.keys())).toEqual(before);
  });

  it('and is opened anew ends what had been begun before', async () => {
    const { objects, store } = openStore();
    await backUp(store, diskOf(1));
    objects.before = async ({ kind, name }) => {
      if (kind === 'put' && name.startsWith('manifests/')) await store.synchronize();
    };
    await expect(backUp(store, diskOf(2))).rejects.toMatchObject(lost);
    objects.before = () => undefined;
    const [id] = await store.backupIds();
    expect((await readBackup(store, id!)).equals(diskOf(1))).toBe(true);
    // Packs of the second are garbage; a collection that goes on while the store is opened anew takes none away.
    objects.before = async ({ kind }) => {
      if (kind === 'remove') await store.synchronize();
    };
    await expect(collectGarbage(store, CONTROL)).rejects.toMatchObject(lost);
    expect(
      objects.log.filter(({ change }) => change.kind === 'remove' && change.name.startsWith('packs/')),
    ).toHaveLength(1);
  });
});

describe('a power cut', () => {
  /** Runs backups, removals and collections over a store that is in `objects`; tells what each backup must hold. */
  async function work(store: BackupStore, folder: string, objects: MemoryObjects) {
    const expected = new Map<string, Buffer>();
    /** Copies of the index: what a cut may leave of it is an earlier state. */
    const indexes: { readonly at: number; readonly file: string }[] = [];
    const keepIndex = (): void => {
      const file = path.join(folder, `index-${indexes.length}`);
      for (const part of ['', '-wal'])
        if (fs.existsSync(path.join(folder, `index.sqlite${part}`)))
          fs.copyFileSync(path.join(folder, `index.sqlite${part}`), `${file}${part}`);
      indexes.push({ at: objects.log.length, file });
    };
    let content = diskOf(5);
    let last = await backUp(store, content);
    expected.set(last.id, content);
    for (let round = 0; round < 5; round++) {
      keepIndex();
      const next = changed(content, round);
      content = next.content;
      const made = await backUp(store, content, { id: last.id, changed: next.chunks });
      expected.set(made.id, content);
      if (round % 2 === 1) {
        await store.removeManifest(last.id);
        await collectGarbage(store, CONTROL);
      }
      last = made;
    }
    return { expected, indexes };
  }

  it('at any point leaves every backup whole that was complete and not removed', async () => {
    const folder = scratchFolder();
    const { store, objects } = openStore(new MemoryObjects(), folder);
    const { expected, indexes } = await work(store, folder, objects);
    const random = randomNumbers(3);
    let seen = 0;
    for (let cut = 0; cut <= objects.log.length; cut++) {
      // What had begun before the cut and was among the last two may not have got there.
      const content = new Map<string, Buffer>();
      const promised = new Set<string>();
      for (const [index, { change }] of objects.log.slice(0, cut).entries()) {
        const lost =
          index >= cut - 2 && change.kind === 'put' && change.name.startsWith('packs/') && random(2) === 0;
        const manifestFollows = objects.log
          .slice(index, cut)
          .some((later) => later.change.kind === 'put' && later.change.name.startsWith('manifests/'));
        // Packs are waited for before the manifest is begun.
        if (lost && !manifestFollows) continue;
        apply(content, change);
        const id = /^manifests\/(.+)\.json$/.exec(change.name)?.[1];
        if (id !== undefined && change.kind === 'put') promised.add(id);
        if (id !== undefined && change.kind === 'remove') promised.delete(id);
      }
      const place = scratchFolder();
      const earlier = indexes.filter(({ at }) => at <= cut);
      const old = earlier[random(earlier.length + 1)];
      if (old !== undefined) {
        for (const part of ['', '-wal'])
          if (fs.existsSync(`${old.file}${part}`))
            fs.copyFileSync(`${old.file}${part}`, path.join(place, `index.sqlite${part}`));
      }
      const { store: after } = openStore(new MemoryObjects(content), place);
      expect(await after.synchronize()).toEqual([]);
      expect(new Set(await after.backupIds())).toEqual(promised);
      for (const id of promised) {
        expect((await readBackup(after, id)).equals(expected.get(id)!)).toBe(true);
        seen++;
      }
      after.close();
    }
    expect(seen).toBeGreaterThan(40);
  });
});

describe('a store in a folder', () => {
  function openFolder() {
    const folder = scratchFolder();
    const files = new RecordedFiles();
    const { store } = openStore(new DirectoryObjects(path.join(folder, 'store'), files), folder);
    return { store, files, root: path.join(folder, 'store') };
  }

  it('has every backup whole that was reported done, wherever the power is cut between two writes', async () => {
    const random = randomNumbers(7);
    const keeps = [() => random(2) === 0, () => random(2) === 0];
    const cuts = await cutBackups(
      { folder: scratchFolder(), scratch: memoryFolder(), rounds: 16, keeps },
      random,
    );
    expect(cuts).toBeGreaterThan(300);
  }, 120_000);

  it('fails a backup whose disk is full at any of its writes, without harm to others', async () => {
    const { store, files, root } = openFolder();
    const first = await backUp(store, diskOf(1));
    const full = Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    let failures = 0;
    for (let nth = 0; ; nth++) {
      let steps = 0;
      files.before = (step) => {
        if (step !== 'remove' && steps++ === nth) throw full;
      };
      const made = await backUp(store, diskOf(2)).catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'disk_full' });
        failures++;
      });
      files.before = () => undefined;
      const names = fs.readdirSync(root, { recursive: true, encoding: 'utf8' });
      expect(names.filter((name) => name.endsWith('.partial'))).toEqual([]);
      // What has no name in the index yet is garbage, not a part of the next.
      await store.synchronize();
      expect((await readBackup(store, first.id)).equals(diskOf(1))).toBe(true);
      if (made !== undefined) {
        expect((await readBackup(store, made.id)).equals(diskOf(2))).toBe(true);
        break;
      }
      await collectGarbage(store, CONTROL);
    }
    expect(failures).toBeGreaterThan(20);
    store.close();
  }, 120_000);
});

describe('hostile stores', () => {
  const sign = (manifest: object): Buffer => {
    const json = JSON.stringify(manifest);
    return Buffer.from(`${json}\n${hash('sha256', json)}\n`);
  };

  it('with manifests that say what cannot be are refused', async () => {
    const { store, objects } = openStore();
    const { id } = await backUp(store, diskOf(1));
    const name = manifestName(id);
    const good = objects.content.get(name)!;
    const manifest = JSON.parse(good.toString().split('\n')[0]!) as { disks: Record<string, unknown>[] };
    const [disk] = manifest.disks;
    const bad: [string, object][] = [
      ['another id', { ...manifest, id: 'bak-00000000000000ff' }],
      ['a path', { ...manifest, disks: [{ ...disk, device: '../ubd0' }] }],
      ['a size beyond all', { ...manifest, disks: [{ ...disk, sizeBytes: 2 ** 53 }] }],
      ['a negative size', { ...manifest, disks: [{ ...disk, sizeBytes: -1 }] }],
      ['a size that the map does not fit', { ...manifest, disks: [{ ...disk, sizeBytes: 2 ** 45 }] }],
      ['no map', { ...manifest, disks: [{ ...disk, map: undefined }] }],
      ['hashes that are none', { ...manifest, disks: [{ ...disk, map: ['../../etc/passwd'] }] }],
      ['a disk twice', { ...manifest, disks: [disk, disk] }],
      ['other chunks', { ...manifest, chunkBytes: 1 }],
      ['another version', { ...manifest, version: 2 }],
      ['nothing', {}],
    ];
    for (const [what, one] of bad) {
      objects.content.set(name, sign(one));
      await expect(store.readManifest(id), what).rejects.toMatchObject({ code: 'backup_corrupt' });
    }
    for (const text of ['', '\n', '{}', 'x'.repeat(1000), good.toString().replace('vm-1', 'vm-2')]) {
      objects.content.set(name, Buffer.from(text));
      await expect(store.readManifest(id)).rejects.toMatchObject({ code: 'backup_corrupt' });
    }
    // A map that names itself, or chunks as maps: there is one level, so nothing goes round.
    const block = (disk!.map as string[])[0]!;
    const data = (await store.readMapBlock(block)).subarray(0, 32).toString('hex');
    objects.content.set(name, sign({ ...manifest, disks: [{ ...disk, map: [data] }] }));
    await expect(readBackup(store, id)).rejects.toMatchObject({ code: 'backup_corrupt' });
    // A disk that is shorter than its map says.
    objects.content.set(name, sign({ ...manifest, disks: [{ ...disk, sizeBytes: CHUNK_BYTES }] }));
    await expect(readBackup(store, id)).rejects.toMatchObject({ code: 'backup_corrupt' });
  });

  it('with packs of any bytes are told apart, and never believed', async () => {
    const { store, objects } = openStore();
    const content = diskOf(1);
    const { id } = await backUp(store, content);
    const random = randomNumbers(17);
    const packs = [...objects.content].filter(([name]) => name.startsWith('packs/'));
    for (let round = 0; round < 60; round++) {
      const hostile = new Map(objects.content);
      const [name, bytes] = packs[random(packs.length)]!;
      const broken = Buffer.from(bytes);
      // The index and the end of it more often than the chunks.
      const at = random(2) === 0 ? random(broken.length) : broken.length - 1 - random(300);
      const how = random(3);
      if (how === 0) broken[at]! ^= 1 + random(255);
      else if (how === 1) broken.fill(0xff, at, Math.min(at + 8, broken.length));
      hostile.set(name, how === 2 ? broken.subarray(0, at) : broken);
      const { store: opened } = openStore(new MemoryObjects(hostile));
      await opened.synchronize();
      const result = await readBackup(opened, id).catch((error: unknown) => error);
      if (Buffer.isBuffer(result)) expect(result.equals(content)).toBe(true);
      else expect(result).toMatchObject({ code: 'backup_corrupt' });
      opened.close();
    }
  });
});
