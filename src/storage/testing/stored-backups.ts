/** Backups of a disk that is in memory, straight into a store and out of it. */
import type { BackupSummary } from '../../contracts/backup.ts';
import { CHUNK_BYTES, chunksOf, hashChunks } from '../backup-store/format.ts';
import { diskChunks } from '../backup-store/reader.ts';
import { BackupSession } from '../backup-store/session.ts';
import type { BackupStore } from '../backup-store/store.ts';
import { backupHead } from './store-kit.ts';

export interface Parent {
  readonly id: string;
  /** Numbers of the chunks that have changed since. */
  readonly changed: readonly number[];
}

/** @param packBytes small ones, so that there are many */
export async function writeBackup(
  store: BackupStore,
  content: Buffer,
  packBytes: number,
  parent?: Parent,
): Promise<BackupSummary> {
  const session = new BackupSession(store, backupHead(), packBytes);
  try {
    await session.goOnFrom(parent?.id ?? null);
    const incremental = parent !== undefined;
    const sizeBytes = content.length;
    session.begin([{ device: 'ubd0', diskId: 'disk-1', sizeBytes, readOnly: false, incremental }]);
    const chunks = parent?.changed ?? Array.from({ length: chunksOf(sizeBytes) }, (_, chunk) => chunk);
    for (const chunk of chunks) {
      const at = chunk * CHUNK_BYTES;
      const bytes = content.subarray(at, Math.min(at + CHUNK_BYTES, sizeBytes));
      await session.add(0, at, bytes, hashChunks(bytes));
    }
    return await session.finish({ consistency: 'crash', takenAt: Date.now() });
  } finally {
    await session.close();
  }
}

/** The content of the first disk, every chunk verified. */
export async function readBackup(store: BackupStore, id: string): Promise<Buffer> {
  const [disk] = (await store.readManifest(id)).disks;
  // INVARIANT: writeBackup writes one.
  const content = Buffer.alloc(disk!.sizeBytes);
  for await (const chunk of diskChunks(store, disk!)) (await chunk.read()).copy(content, chunk.offset);
  return content;
}
