/**
 * A disk as a virtual machine sees it: bounds, limits, counters, what is in flight, what becomes of errors, and the place where
 * an online backup steps in before a change. Belongs to the thread of its VM's worker.
 */
import { AppError } from '../contracts/errors.ts';
import type { DiskErrorPolicy, DiskLimits } from '../contracts/machine.ts';
import type { DiskStats } from '../contracts/ports.ts';
import { type BlockBackend, BlockError, type MaybePromise } from '../engine/backends.ts';
import { ChangeTracker } from './change-tracker.ts';
import { DiskCounters, type RequestKind } from './disk-counters.ts';
import { DiskLost, fileError } from './errors.ts';
import { HeldRequests } from './held-requests.ts';
import { LayeredVolume } from './layers/layered-volume.ts';
import { Throttle } from './throttle.ts';
import type { TrackingKeeper } from './tracking-keeper.ts';
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

export interface GuestDiskOptions {
  readonly readOnly: boolean;
  readonly limits?: DiskLimits | undefined;
  readonly onError?: DiskErrorPolicy | undefined;
  /** Every change is durable before it is done. */
  readonly synchronous?: boolean | undefined;
  readonly noDiscard?: boolean | undefined;
  /** Keeps what has changed since backups while the disk is closed. */
  readonly tracking?: TrackingKeeper | undefined;
}

/** A request that failed. */
export interface DiskFailure {
  readonly request: RequestKind;
  readonly error: unknown;
  /** It waits to be tried again: the machine is to be stopped. */
  readonly held: boolean;
  /** Failures before it that nobody was told of, because they came too fast. */
  readonly unreported: number;
}

interface Request {
  readonly kind: RequestKind;
  readonly offset: number;
  readonly length: number;
  make(): MaybePromise<void>;
}

interface InFlight extends PendingChange {
  readonly isChange: boolean;
  /** False while it waits for the limits. */
  begun: boolean;
}

/** Failures that the guest is told of anyway: of these so many are passed on. */
const FAILURE_INTERVAL_MS = 10_000;
/** Errors that trying again cannot mend. */
const LASTING = ['EBADF', 'EINVAL', 'EROFS'];

export class GuestDisk implements BlockBackend {
  readonly device: string;
  #sizeBytes: number;
  readonly readOnly: boolean;
  readonly noDiscard: boolean;
  readonly #synchronous: boolean;
  /** Hears of failed requests. */
  onFailure: ((failure: DiskFailure) => void) | undefined;
  readonly #volume: Volume;
  readonly #counters = new DiskCounters();
  readonly #throttle: Throttle;
  readonly #held = new HeldRequests();
  readonly #inFlight = new Set<InFlight>();
  /** Hears of every change before it is made. */
  readonly tracker: ChangeTracker;
  readonly #keeper: TrackingKeeper | undefined;
  #policy: DiskErrorPolicy;
  #watcher: ChangeWatcher | undefined;
  #toldAt = Number.NEGATIVE_INFINITY;
  #unreported = 0;
  #closed = false;

  constructor(
    device: string,
    volume: Volume,
    {
      readOnly,
      limits = {},
      onError = 'report',
      tracking,
      synchronous = false,
      noDiscard = false,
    }: GuestDiskOptions,
  ) {
    this.device = device;
    this.#volume = volume;
    this.#keeper = tracking;
    this.tracker = tracking?.tracker ?? new ChangeTracker(volume.sizeBytes);
    this.#sizeBytes = volume.sizeBytes;
    this.readOnly = readOnly;
    this.noDiscard = noDiscard;
    this.#synchronous = synchronous;
    this.#throttle = new Throttle(limits);
    this.#policy = onError;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** The layers that the disk is made of. */
  get layers(): LayeredVolume {
    if (this.#volume instanceof LayeredVolume) return this.#volume;
    throw new TypeError('only disks opened by openDisk have layers');
  }

  /** A copy of the counters since the disk was opened. */
  get stats(): DiskStats {
    return {
      device: this.device,
      ...this.#counters.snapshot(),
      throttled: this.#throttle.delayed,
      throttledSeconds: this.#throttle.delayedMs / 1000,
      inFlight: this.#inFlight.size,
      held: this.#held.count,
    };
  }

  read(offset: number, into: readonly Uint8Array[]): MaybePromise<void> {
    const length = totalBytes(into);
    this.#check(offset, length);
    return this.#submit({ kind: 'read', offset, length, make: () => this.#volume.read(offset, into) });
  }

  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    const length = totalBytes(from);
    return this.#change({ kind: 'write', offset, length, make: () => this.#volume.write(offset, from) });
  }

  flush(): MaybePromise<void> {
    this.#checkOpen();
    return this.#submit({ kind: 'flush', offset: 0, length: 0, make: () => this.#volume.flush() });
  }

  discard(offset: number, length: number): MaybePromise<void> {
    const make = (): MaybePromise<void> => this.#volume.discard(offset, length);
    return this.#change({ kind: 'discard', offset, length, make });
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void> {
    const make = (): MaybePromise<void> => this.#volume.writeZeroes(offset, length, mayUnmap);
    return this.#change({ kind: 'write-zeroes', offset, length, make });
  }

  /**
   * Makes the disk larger, within this call; what is new reads as zeros, and is there for good when this resolves. AppErrors:
   * `invalid_input` when it would get smaller, `locked` while it is backed up, `unsupported` for a copy-on-write file, `disk_full`, `io_error`.
   */
  async grow(sizeBytes: number): Promise<void> {
    this.#checkOpen();
    if (sizeBytes < this.#sizeBytes) {
      throw new AppError('invalid_input', `the disk has ${this.#sizeBytes} bytes already`, {
        field: 'size_bytes',
        remedy: 'give a larger size: a disk that got smaller would lose its end',
      });
    }
    if (sizeBytes === this.#sizeBytes) return;
    if (this.#watcher !== undefined) throw backedUp(this.device);
    try {
      const durable = this.layers.grow(sizeBytes);
      this.#sizeBytes = this.#volume.sizeBytes;
      this.tracker.resized(this.#sizeBytes);
      await durable;
    } catch (error) {
      throw fileError(error, 'size_bytes', `cannot make disk ${this.device} larger`);
    }
  }

  /** From now on, also for requests that wait. Those held stay so. */
  configure(limits: DiskLimits, onError: DiskErrorPolicy): void {
    this.#throttle.set(limits);
    this.#policy = onError;
  }

  /** Tries held requests again and resolves when all have been tried: they may have failed and be held again. */
  retryHeld(): Promise<void> {
    return this.#held.retryAll();
  }

  /** Gives held requests up: the guest, if it still asks, gets their errors. */
  failHeld(): void {
    this.#held.failAll();
  }

  /** Waits for what is in flight, flushes, and lets go of files and locks. Twice is harmless. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#throttle.release();
    this.failHeld();
    if (this.#volume instanceof LayeredVolume) this.#volume.cancelMerge('the disk is closed');
    await this.#watcher?.closing();
    await Promise.all([...this.#inFlight].map((operation) => operation.finished));
    await this.#keeper?.beforeClose();
    await this.#volume.close();
    this.#keeper?.afterClose();
  }

  /** For a backup's reads, past the guest's counters. `background`: as of a volume. */
  readForBackup(offset: number, into: Uint8Array, background: boolean): MaybePromise<void> {
    if (this.#closed) throw new BlockError('EBADF', 'the disk is closed');
    const done = this.#volume.read(offset, [into], background);
    if (done === undefined) return;
    return this.#track({ offset, length: into.length, isChange: false, begun: true }, done);
  }

  /**
   * From now on `watcher` hears of every change before it is made. The answer is the changes begun before:
   * each of them may or may not be in the disk yet. AppError `locked` when there is a watcher already.
   */
  watch(watcher: ChangeWatcher): readonly PendingChange[] {
    if (this.#watcher !== undefined) throw backedUp(this.device);
    if (this.#closed) throw new AppError('locked', `disk ${this.device} is closed`, { field: 'disk' });
    this.#watcher = watcher;
    return [...this.#inFlight].filter((operation) => operation.isChange && operation.begun);
  }

  unwatch(watcher: ChangeWatcher): void {
    if (this.#watcher === watcher) this.#watcher = undefined;
  }

  #change(request: Request): MaybePromise<void> {
    this.#check(request.offset, request.length);
    if (this.readOnly) throw new BlockError('EROFS', 'the disk is read-only');
    if (!this.#synchronous) return this.#submit(request);
    const make = async (): Promise<void> => {
      await request.make();
      await this.#volume.flush();
    };
    return this.#submit({ ...request, make });
  }

  #submit(request: Request): MaybePromise<void> {
    const { kind, length } = request;
    const since = performance.now();
    this.#counters.begin(kind, length);
    const moves = kind === 'read' || kind === 'write';
    const wait = kind === 'flush' ? undefined : this.#throttle.admit(moves ? length : 0);
    if (wait !== undefined) return this.#submitAfter(wait, request, since);
    let done: MaybePromise<void>;
    try {
      done = this.#attempt(request);
    } catch (error) {
      this.#ended(kind, since);
      throw error;
    }
    if (done === undefined) return this.#ended(kind, since);
    return this.#track(inFlight(request, true), this.#timed(kind, since, done));
  }

  #submitAfter(wait: Promise<void>, request: Request, since: number): Promise<void> {
    const operation = inFlight(request, false);
    const done = wait.then(() => {
      operation.begun = true;
      return this.#attempt(request);
    });
    return this.#track(operation, this.#timed(request.kind, since, done));
  }

  #ended(kind: RequestKind, since: number): void {
    this.#counters.end(kind, performance.now() - since);
  }

  #timed(kind: RequestKind, since: number, done: Promise<void>): Promise<void> {
    const ended = (): void => this.#ended(kind, since);
    done.then(ended, ended);
    return done;
  }

  /** @param tried hears when the request is done or has failed */
  #attempt(request: Request, tried: () => void = ignore): MaybePromise<void> {
    const { kind, offset, length } = request;
    if (isChange(kind)) this.tracker.mark(offset, length);
    const wait = isChange(kind) ? this.#watcher?.beforeChange(offset, length) : undefined;
    let done: MaybePromise<void>;
    try {
      done = wait === undefined ? request.make() : wait.then(() => request.make());
    } catch (error) {
      return this.#attemptFailed(request, error, tried);
    }
    if (done === undefined) return tried();
    return done.then(tried, (error: unknown) => this.#attemptFailed(request, error, tried));
  }

  #attemptFailed(request: Request, error: unknown, tried: () => void): Promise<void> {
    try {
      return this.#failed(request, error);
    } finally {
      tried();
    }
  }

  /** Throws `error`, or holds the request. */
  #failed(request: Request, error: unknown): Promise<void> {
    this.#counters.errors++;
    const held = this.#policy === 'pause' && !this.#closed && mayPass(error);
    const promise = held ? this.#held.hold(error, (tried) => this.#attempt(request, tried)) : undefined;
    this.#tell(request.kind, error, held);
    if (promise === undefined) throw error;
    return promise;
  }

  #tell(request: RequestKind, error: unknown, held: boolean): void {
    const now = performance.now();
    if (!held && now - this.#toldAt < FAILURE_INTERVAL_MS) {
      this.#unreported++;
      return;
    }
    if (!held) this.#toldAt = now;
    this.onFailure?.({ request, error, held, unreported: this.#unreported });
    this.#unreported = 0;
  }

  #track(operation: Omit<InFlight, 'finished'>, done: Promise<void>): Promise<void> {
    const settle = (): void => {
      this.#inFlight.delete(entry);
    };
    // The same object: `begun` changes while it is in the set.
    const entry: InFlight = Object.assign(operation, { finished: done.then(settle, settle) });
    this.#inFlight.add(entry);
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

function backedUp(device: string): AppError {
  return new AppError('locked', `disk ${device} is being backed up already`, {
    field: 'disk',
    remedy: 'wait for the backup to end, or cancel it',
  });
}

const ignore = (): void => undefined;

function inFlight({ kind, offset, length }: Request, begun: boolean): Omit<InFlight, 'finished'> {
  return { offset, length, isChange: isChange(kind), begun };
}

function isChange(kind: RequestKind): boolean {
  return kind !== 'read' && kind !== 'flush';
}

/** A full disk and most errors of one may be gone when it is tried again. */
function mayPass(error: unknown): boolean {
  return error instanceof BlockError && !(error instanceof DiskLost) && !LASTING.includes(error.code);
}
