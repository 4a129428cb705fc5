/**
 * A disk as a virtual machine sees it: bounds, counters, what is in flight, and the place where an online backup
 * steps in before a change. Belongs to the thread of its VM's worker.
 */
import { AppError } from '../contracts/errors.ts';
import type { DiskStats } from '../contracts/ports.ts';
import { type BlockBackend, BlockError, type MaybePromise } from '../engine/backends.ts';
import { totalBytes } from './vectors.ts';
import type { Volume } from './volume.ts';

/** What an online backup gets to know of a disk while it runs. */
export interface ChangeWatcher {
  /** The guest is about to change a range. It waits for the answer, which never rejects. */
  beforeChange(offset: number, length: number): Promise<void> | undefined;
  /** The disk is about to be closed: let go of it. Never rejects. */
  closing(): Promise<void>;
}

/** Changes that had begun, and not finished, when a watcher was installed. */
export interface PendingChange {
  readonly offset: number;
  readonly length: number;
  /** Never rejects. */
  readonly finished: Promise<void>;
}

interface InFlight extends PendingChange {
  readonly isChange: boolean;
}

type Counters = { -readonly [K in keyof DiskStats]: DiskStats[K] };

export class GuestDisk implements BlockBackend {
  readonly sizeBytes: number;
  readonly readOnly: boolean;
  readonly #volume: Volume;
  readonly #counters: Counters;
  readonly #inFlight = new Set<InFlight>();
  #watcher: ChangeWatcher | undefined;
  #closed = false;

  constructor(device: string, volume: Volume, readOnly: boolean) {
    this.#volume = volume;
    this.sizeBytes = volume.sizeBytes;
    this.readOnly = readOnly;
    this.#counters = { device, reads: 0, readBytes: 0, writes: 0, writtenBytes: 0, flushes: 0 };
  }

  /** A copy of the counters since the disk was opened. */
  get stats(): DiskStats {
    return { ...this.#counters };
  }

  read(offset: number, into: readonly Uint8Array[]): MaybePromise<void> {
    const length = totalBytes(into);
    this.#check(offset, length);
    this.#counters.reads++;
    this.#counters.readBytes += length;
    return this.#track(offset, length, false, this.#volume.read(offset, into));
  }

  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    const length = totalBytes(from);
    const done = this.#change(offset, length, () => this.#volume.write(offset, from));
    this.#counters.writes++;
    this.#counters.writtenBytes += length;
    return done;
  }

  flush(): MaybePromise<void> {
    this.#checkOpen();
    this.#counters.flushes++;
    return this.#track(0, 0, false, this.#volume.flush());
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.#change(offset, length, () => this.#volume.discard(offset, length));
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void> {
    return this.#change(offset, length, () => this.#volume.writeZeroes(offset, length, mayUnmap));
  }

  /** Waits for what is in flight, flushes, and lets go of files and locks. Twice is harmless. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#watcher?.closing();
    await Promise.all([...this.#inFlight].map((operation) => operation.finished));
    await this.#volume.close();
  }

  /** For a backup's reads: in the background, past the guest's counters. */
  async readForBackup(offset: number, into: Uint8Array): Promise<void> {
    if (this.#closed) throw new BlockError('EBADF', 'the disk is closed');
    await this.#track(offset, into.length, false, this.#volume.read(offset, [into], true));
  }

  /**
   * From now on `watcher` hears of every change before it is made. The answer is the changes begun before:
   * each of them may or may not be in the disk yet. AppError `locked` when there is a watcher already.
   */
  watch(watcher: ChangeWatcher): readonly PendingChange[] {
    if (this.#watcher !== undefined || this.#closed) {
      const why = this.#closed ? 'is closed' : 'is being backed up already';
      throw new AppError('locked', `disk ${this.#counters.device} ${why}`, {
        field: 'disk',
        remedy: 'wait for the other backup to end, or cancel it',
      });
    }
    this.#watcher = watcher;
    return [...this.#inFlight].filter((operation) => operation.isChange);
  }

  unwatch(watcher: ChangeWatcher): void {
    if (this.#watcher === watcher) this.#watcher = undefined;
  }

  #change(offset: number, length: number, make: () => MaybePromise<void>): MaybePromise<void> {
    this.#check(offset, length);
    if (this.readOnly) throw new BlockError('EROFS', 'the disk is read-only');
    const wait = this.#watcher?.beforeChange(offset, length);
    return this.#track(offset, length, true, wait === undefined ? make() : wait.then(make));
  }

  #track(offset: number, length: number, isChange: boolean, done: MaybePromise<void>): MaybePromise<void> {
    if (done === undefined) return;
    const settle = (): void => {
      this.#inFlight.delete(operation);
    };
    const operation: InFlight = { offset, length, isChange, finished: done.then(settle, settle) };
    this.#inFlight.add(operation);
    return done;
  }

  #checkOpen(): void {
    if (this.#closed) throw new BlockError('EBADF', 'the disk is closed');
  }

  #check(offset: number, length: number): void {
    this.#checkOpen();
    const aligned = offset % 512 === 0 && length % 512 === 0;
    if (!aligned || !(offset >= 0 && length >= 0 && offset + length <= this.sizeBytes)) {
      throw new BlockError('EINVAL', `bytes ${offset} to ${offset + length} are not sectors of the disk`);
    }
  }
}
