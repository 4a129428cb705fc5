/** Reading back what was backed up. */
import { AppError } from '../../contracts/errors.ts';
import type { BackupManifest } from './manifest.ts';
import { CHUNK_BYTES } from './format.ts';
import { type DiskChunk, diskChunks } from './reader.ts';
import { stopIfAborted, type TaskControl } from './restore.ts';
import type { BackupStore } from './store.ts';

/** So many damaged places are told; there may be more. */
const PLACES_MAX = 100;

export interface DamagedPlace {
  readonly backupId: string;
  /** Null for the manifest itself. */
  readonly device: string | null;
  readonly offset: number | null;
  readonly detail: string;
}

export interface VerifyResult {
  readonly backups: number;
  readonly chunks: number;
  readonly bytes: number;
  readonly damaged: readonly DamagedPlace[];
  /** Ids of all backups that cannot be restored as they were. */
  readonly damagedBackups: readonly string[];
}

/**
 * Reads every chunk of the given backups, each once, and checks it against its hash. The index forgets what is damaged, so that the
 * next full backup stores it anew. A chunk that several backups share is damaged in each of them.
 */
export async function verifyBackups(
  store: BackupStore,
  backupIds: readonly string[],
  control: TaskControl,
): Promise<VerifyResult> {
  const run = new Verification(store, control);
  for (const [index, id] of backupIds.entries()) await run.verify(id, index, backupIds.length);
  return run.result(backupIds.length);
}

class Verification {
  readonly #store: BackupStore;
  readonly #control: TaskControl;
  readonly #places: DamagedPlace[] = [];
  readonly #bad = new Set<string>();
  readonly #badChunks = new Map<string, string>();
  readonly #scratch = Buffer.alloc(CHUNK_BYTES);
  #chunks = 0;
  #bytes = 0;

  constructor(store: BackupStore, control: TaskControl) {
    this.#store = store;
    this.#control = control;
    store.index.beginMarks();
  }

  async verify(backupId: string, index: number, of: number): Promise<void> {
    let manifest: BackupManifest;
    try {
      manifest = await this.#store.readManifest(backupId);
    } catch (error) {
      this.#damaged(backupId, null, null, error);
      return;
    }
    const total = manifest.disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
    let before = 0;
    for (const disk of manifest.disks) {
      try {
        for await (const chunk of diskChunks(this.#store, disk)) {
          stopIfAborted(this.#control);
          await this.#check(backupId, disk.device, chunk);
          const done = total === 0 ? 1 : (before + chunk.offset) / total;
          this.#control.progress(Math.floor(((index + done) / of) * 1000), 1000);
        }
      } catch (error) {
        this.#damaged(backupId, disk.device, null, error);
      }
      before += disk.sizeBytes;
    }
  }

  result(backups: number): VerifyResult {
    return {
      backups,
      chunks: this.#chunks,
      bytes: this.#bytes,
      damaged: this.#places,
      damagedBackups: [...this.#bad],
    };
  }

  async #check(backupId: string, device: string, chunk: DiskChunk): Promise<void> {
    const key = chunk.hash.toString('latin1');
    if (!this.#store.index.mark(chunk.hash)) {
      const known = this.#badChunks.get(key);
      if (known !== undefined) this.#add(backupId, device, chunk.offset, known);
      return;
    }
    try {
      this.#bytes += (await chunk.read(this.#scratch)).length;
      this.#chunks++;
    } catch (error) {
      this.#store.index.forgetChunk(chunk.hash);
      this.#badChunks.set(key, this.#damaged(backupId, device, chunk.offset, error));
    }
  }

  /** Anything but damage ends the verification. */
  #damaged(backupId: string, device: string | null, offset: number | null, error: unknown): string {
    const isDamage =
      error instanceof AppError && (error.code === 'backup_corrupt' || error.code === 'not_found');
    if (!isDamage) throw error;
    this.#add(backupId, device, offset, error.message);
    return error.message;
  }

  #add(backupId: string, device: string | null, offset: number | null, detail: string): void {
    this.#bad.add(backupId);
    if (this.#places.length < PLACES_MAX) this.#places.push({ backupId, device, offset, detail });
  }
}
