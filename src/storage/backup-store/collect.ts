/**
 * Collection of garbage: chunks that no manifest reaches. Backups may be written and removed meanwhile (see chunk-index.ts). A pack
 * is removed when nothing of it is alive, and written anew when most of it is dead. Killed at any point, it leaves packs that the next
 * collection removes.
 */
import { AppError } from '../../contracts/errors.ts';
import { HASH_BYTES, isZero, MAP_ENTRIES, PACK_BYTES } from './format.ts';
import type { BackupManifest } from './manifest.ts';
import { PackBuilder } from './pack.ts';
import { stopIfAborted, type TaskControl } from './restore.ts';
import type { PackUse } from './chunk-index.ts';
import type { BackupStore } from './store.ts';

/** A pack with less than this share alive is written anew. */
const KEEP_SHARE = 0.5;

export interface CollectResult {
  readonly removedPacks: number;
  readonly rewrittenPacks: number;
  readonly freedBytes: number;
  readonly keptBytes: number;
}

/**
 * Collects. Nothing is removed when a manifest cannot be read: it may name anything.
 * AppErrors: `backup_corrupt`, `canceled`, those of the destination.
 */
export async function collectGarbage(store: BackupStore, control: TaskControl): Promise<CollectResult> {
  // Before the manifests are listed: sessions that end from now on keep their pins.
  const session = store.index.beginSession('collection');
  try {
    await markLive(store, control);
    return await sweep(store, session, control);
  } finally {
    store.index.endCollection(session);
  }
}

/**
 * Until no manifest is left unread: one that is removed before it is read may have been the parent of one that was written since the
 * manifests were listed, and that one then stands for what both have.
 */
async function markLive(store: BackupStore, control: TaskControl): Promise<void> {
  store.index.beginMarks();
  const read = new Set<string>();
  for (;;) {
    const unread = (await store.backupIds()).filter((id) => !read.has(id));
    if (unread.length === 0) return;
    for (const id of unread) {
      read.add(id);
      const manifest = await manifestUnlessRemoved(store, id);
      if (manifest !== undefined) await markBackup(store, manifest, control);
    }
  }
}

async function manifestUnlessRemoved(store: BackupStore, id: string): Promise<BackupManifest | undefined> {
  try {
    return await store.readManifest(id);
  } catch (error) {
    if (error instanceof AppError && error.code === 'not_found') return undefined;
    throw error;
  }
}

async function markBackup(store: BackupStore, manifest: BackupManifest, control: TaskControl): Promise<void> {
  const { index } = store;
  for (const name of manifest.disks.flatMap((disk) => disk.map)) {
    stopIfAborted(control);
    // Backups of the same disk share most blocks.
    if (name === null || !index.mark(Buffer.from(name, 'hex'))) continue;
    const block = await store.readMapBlock(name);
    const hashes = Array.from({ length: MAP_ENTRIES }, (_, entry) =>
      block.subarray(entry * HASH_BYTES, (entry + 1) * HASH_BYTES),
    );
    index.markAll(hashes.filter((hash) => !isZero(hash)));
  }
}

async function sweep(store: BackupStore, session: number, control: TaskControl): Promise<CollectResult> {
  const packs = store.index.packUse();
  const result = { removedPacks: 0, rewrittenPacks: 0, freedBytes: 0, keptBytes: 0 };
  for (const [at, pack] of packs.entries()) {
    stopIfAborted(control);
    await store.confirmHeld(session, { lately: true });
    const newBytes = await collectPack(store, session, pack);
    result.keptBytes += newBytes;
    result.freedBytes += pack.bytes - newBytes;
    if (newBytes === 0) result.removedPacks++;
    else if (newBytes !== pack.bytes) result.rewrittenPacks++;
    control.progress(at + 1, packs.length);
  }
  return result;
}

/** What is left of the pack's bytes. */
async function collectPack(store: BackupStore, session: number, pack: PackUse): Promise<number> {
  if (pack.liveBytes === 0) {
    if (!store.index.condemn(pack.id, session)) return pack.bytes;
    await store.objects.remove(`packs/${pack.name}`);
    return 0;
  }
  const wasteful = pack.liveBytes < pack.bytes * KEEP_SHARE && pack.bytes <= 2 * PACK_BYTES;
  return wasteful ? await rewrite(store, session, pack) : pack.bytes;
}

async function rewrite(store: BackupStore, session: number, pack: PackUse): Promise<number> {
  const builder = new PackBuilder();
  try {
    for (const { hash } of store.index.chunksOfPack(pack.id)) {
      // Read and verified: it may be the only copy that is given up.
      if (store.index.isMarked(hash)) builder.add(hash, await store.readChunk(hash));
    }
  } catch (error) {
    // What is damaged is for a verification to tell; the pack stays as it is.
    if (error instanceof AppError && error.code === 'backup_corrupt') return pack.bytes;
    throw error;
  }
  const made = builder.take();
  if (made === undefined) return pack.bytes;
  await store.objects.put(`packs/${made.name}`, made.bytes);
  if (!store.index.moveChunks(pack.id, session, made)) {
    // A backup has begun to rely on the old pack.
    await store.objects.remove(`packs/${made.name}`);
    return pack.bytes;
  }
  await store.objects.remove(`packs/${pack.name}`);
  return made.bytes.length;
}
