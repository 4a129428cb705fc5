/**
 * Online backup: point-in-time copies of all disks of a running machine, by copying before each change.
 *
 * The moment. `beginBackup` installs its watchers on all disks within one synchronous call on the thread that runs the
 * vCPU, so no guest request falls between two disks. From then on a guest write or discard waits until the
 * old content of the chunks that it touches is in the copy. Requests that had begun before and are not finished may or may
 * not be part of the moment (the guest has not been told either), but a chunk must not be read while one
 * of them changes it, or the copy could hold half a sector: its copy waits for them first. They depend on nothing
 * of the backup, so nobody waits in a circle. A write that finished before the moment is always in the copy, one that
 * was begun after it never is: the copy is what a power cut at that moment would have left.
 *
 * The rest is copied in pieces in the thread pool, while the event loop and the guest go on. Chunks of zeros become holes.
 * Files have the name NAME.partial until all of them are complete and durable. On any failure they are removed and
 * the guest's waiting writes go on.
 */
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';
import type { BlockBackend } from '../engine/backends.ts';
import { BackupTarget } from './backup-target.ts';
import { removeQuietly, syncFolder } from './durable.ts';
import { fileError } from './errors.ts';
import { type ChangeWatcher, GuestDisk, type PendingChange } from './guest-disk.ts';

export const BACKUP_CHUNK_BYTES = 64 * 1024;
/** The background copier reads up to this many neighbouring chunks at once. */
const PIECE_CHUNKS = 16;

/** About so many times progress is told: each time is a message to another thread. */
const PROGRESS_STEPS = 200;

export type BackupProgress = (doneBytes: number, totalBytes: number) => void;

export interface BackupRun {
  readonly totalBytes: number;
  /**
   * Resolves when all files are complete, durable and have their names. Rejects with AppError `canceled`,
   * `disk_full`, `already_exists` or `io_error`; then none of the files is there.
   */
  readonly finished: Promise<void>;
  /** Ends it; `finished` rejects with `canceled` unless it was complete. Resolves when no file of it is left. */
  cancel(): Promise<void>;
}

/**
 * Begins a backup of `disks` (opened by `openDisk`) to `files`, one each. `onProgress` is called in this thread,
 * at the start, now and then, and at the end. Throws AppError `locked` when one of the disks is being backed
 * up, `already_exists`, `disk_full` or `io_error` when a file cannot be made; then nothing has begun.
 */
export function beginBackup(
  disks: readonly BlockBackend[],
  files: readonly string[],
  onProgress: BackupProgress = () => undefined,
): BackupRun {
  if (disks.length !== files.length) throw new RangeError('a backup needs one file for each disk');
  return new Backup(disks.map(guestDisk), files, onProgress);
}

function guestDisk(disk: BlockBackend): GuestDisk {
  if (disk instanceof GuestDisk) return disk;
  throw new TypeError('only disks opened by openDisk can be backed up');
}

class Backup implements BackupRun {
  readonly totalBytes: number;
  readonly finished: Promise<void>;
  readonly #copies: DiskCopy[] = [];
  readonly #files: readonly string[];
  readonly #onProgress: BackupProgress;
  #doneBytes = 0;
  #toldBytes = 0;
  #failure: unknown;

  constructor(disks: readonly GuestDisk[], files: readonly string[], onProgress: BackupProgress) {
    this.#files = files;
    this.#onProgress = onProgress;
    this.totalBytes = disks.reduce((sum, disk) => sum + disk.sizeBytes, 0);
    const events: CopyEvents = {
      copied: (bytes) => this.#copied(bytes),
      failed: (error) => this.#fail(error),
      closing: () => this.#end(canceled('the machine ended')),
    };
    try {
      for (const [index, disk] of disks.entries()) {
        this.#copies.push(new DiskCopy(disk, new BackupTarget(files[index]!, disk.sizeBytes), events));
      }
      // All files are there: now the moment itself.
      for (const copy of this.#copies) copy.begin();
    } catch (error) {
      for (const copy of this.#copies) copy.discard();
      throw fileError(error, 'files', 'cannot begin the backup');
    }
    onProgress(0, this.totalBytes);
    this.finished = this.#run();
    // The owner may look only later; until then this is not an unhandled rejection.
    this.finished.catch(() => undefined);
  }

  cancel(): Promise<void> {
    return this.#end(canceled('it was cancelled'));
  }

  #end(error: AppError): Promise<void> {
    this.#fail(error);
    return this.finished.then(
      () => undefined,
      () => undefined,
    );
  }

  async #run(): Promise<void> {
    try {
      await Promise.all(this.#copies.map((copy) => copy.copyAll()));
      if (this.#failure !== undefined) throw this.#failure;
      const completed = await Promise.allSettled(this.#copies.map((copy) => copy.target.complete()));
      for (const result of completed) if (result.status === 'rejected') throw result.reason;
      if (this.#failure !== undefined) throw this.#failure;
      this.#publish();
    } catch (error) {
      this.#fail(error);
      await Promise.all(this.#copies.map((copy) => copy.idle()));
      for (const copy of this.#copies) copy.discard();
      throw fileError(this.#failure ?? error, 'files', 'the backup failed');
    }
    this.#onProgress(this.totalBytes, this.totalBytes);
  }

  #copied(bytes: number): void {
    this.#doneBytes += bytes;
    const step = Math.max(PIECE_CHUNKS * BACKUP_CHUNK_BYTES, this.totalBytes / PROGRESS_STEPS);
    if (this.#doneBytes < this.#toldBytes + step) return;
    // The end is told when the files have their names.
    if (this.#failure === undefined && this.#doneBytes < this.totalBytes) {
      this.#toldBytes = this.#doneBytes;
      this.#onProgress(this.#doneBytes, this.totalBytes);
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
    for (const copy of this.#copies) copy.stop();
  }

  /** All files get their names; if one cannot, those that did lose them again. */
  #publish(): void {
    const published: string[] = [];
    try {
      for (const copy of this.#copies) published.push(copy.target.publish());
      for (const folder of new Set(this.#files.map((file) => path.dirname(path.resolve(file)))))
        syncFolder(folder);
    } catch (error) {
      published.forEach(removeQuietly);
      throw error;
    }
  }
}

function canceled(why: string): AppError {
  return new AppError('canceled', `the backup ended early: ${why}`, { field: 'backup' });
}

interface CopyEvents {
  copied(bytes: number): void;
  failed(error: unknown): void;
  closing(): Promise<void>;
}

/** The copy of one disk: which chunks are in it, and who waits for which. */
class DiskCopy implements ChangeWatcher {
  readonly target: BackupTarget;
  readonly #disk: GuestDisk;
  readonly #events: CopyEvents;
  readonly #chunks: number;
  /** A bit per chunk whose copy has begun. */
  readonly #begun: Uint8Array;
  /** Chunks being copied; the promises never reject. */
  readonly #copying = new Map<number, Promise<void>>();
  #earlier: readonly PendingChange[] = [];
  #stopped = false;

  constructor(disk: GuestDisk, target: BackupTarget, events: CopyEvents) {
    this.#disk = disk;
    this.target = target;
    this.#events = events;
    this.#chunks = Math.ceil(disk.sizeBytes / BACKUP_CHUNK_BYTES);
    this.#begun = new Uint8Array(Math.ceil(this.#chunks / 8));
  }

  begin(): void {
    this.#earlier = this.#disk.watch(this);
  }

  beforeChange(offset: number, length: number): Promise<void> | undefined {
    if (this.#stopped || length === 0) return;
    const first = Math.floor(offset / BACKUP_CHUNK_BYTES);
    const end = Math.ceil((offset + length) / BACKUP_CHUNK_BYTES);
    for (let chunk = first; chunk < end; chunk++) {
      if (!this.#hasBegun(chunk) || this.#copying.has(chunk)) return this.#copyRange(chunk, end);
    }
  }

  /** Piece by piece, so that a discard of the whole disk takes no more memory than a write. */
  async #copyRange(first: number, end: number): Promise<void> {
    for (let chunk = first; chunk < end && !this.#stopped; ) {
      const count = this.#runLength(chunk, end - chunk);
      if (count > 0) await this.#copy(chunk, count);
      else await this.#copying.get(chunk);
      chunk += Math.max(count, 1);
    }
  }

  closing(): Promise<void> {
    return this.#events.closing();
  }

  /** Copies what no guest write asks for, from the start on. */
  async copyAll(): Promise<void> {
    await this.#copyRange(0, this.#chunks);
    await this.idle();
    this.stop();
  }

  async idle(): Promise<void> {
    while (this.#copying.size > 0) await Promise.all(this.#copying.values());
  }

  /** The guest's changes no longer wait for new copies. */
  stop(): void {
    this.#stopped = true;
    this.#disk.unwatch(this);
  }

  discard(): void {
    this.stop();
    this.target.discard();
  }

  /** How many chunks from `chunk` on have not begun; at most `max` and a piece. */
  #runLength(chunk: number, max: number): number {
    const limit = Math.min(max, PIECE_CHUNKS);
    let count = 0;
    while (count < limit && !this.#hasBegun(chunk + count)) count++;
    return count;
  }

  #hasBegun(chunk: number): boolean {
    return (this.#begun[chunk >> 3]! & (1 << (chunk & 7))) !== 0;
  }

  #copy(chunk: number, count: number): Promise<void> {
    const done = this.#copyNow(chunk, count)
      .catch((error: unknown) => this.#events.failed(error))
      .finally(() => {
        for (let i = chunk; i < chunk + count; i++) this.#copying.delete(i);
      });
    for (let i = chunk; i < chunk + count; i++) {
      this.#begun[i >> 3]! |= 1 << (i & 7);
      this.#copying.set(i, done);
    }
    return done;
  }

  async #copyNow(chunk: number, count: number): Promise<void> {
    const offset = chunk * BACKUP_CHUNK_BYTES;
    const length = Math.min(count * BACKUP_CHUNK_BYTES, this.#disk.sizeBytes - offset);
    const earlier = this.#earlier.filter(
      (change) => change.offset < offset + length && change.offset + change.length > offset,
    );
    await Promise.all(earlier.map((change) => change.finished));
    if (this.#stopped) return;
    const bytes = new Uint8Array(length);
    await this.#disk.readForBackup(offset, bytes);
    await this.target.write(offset, bytes);
    this.#events.copied(length);
  }
}

/** Removes what a backup to `files` left behind when its process was killed. */
export function removePartialBackups(files: readonly string[]): void {
  for (const file of files) removeQuietly(BackupTarget.draftName(file));
}
