/**
 * A disk made of layers: frozen ones, which nobody writes to, and the top, which has the guest's writes. A snapshot makes
 * the top a frozen layer and puts an empty one over it; a merge makes the layer below the top again.
 *
 * Freezing is one synchronous step. What had been written before is made durable behind it ("sealing"), and a flush of
 * the guest waits for that. Until then the layer is read through its volume, with the bits it has in memory.
 */
import { AppError } from '../../contracts/errors.ts';
import type { MaybePromise } from '../../engine/backends.ts';
import type { CowPlacement, CowVolume } from '../cow/volume.ts';
import type { HostFile } from '../host-file.ts';
import { RawVolume } from '../raw-volume.ts';
import { totalBytes } from '../vectors.ts';
import type { DiskBelow, Volume } from '../volume.ts';
import { LayerStack, type FrozenLayer } from './layer-stack.ts';
import { type LowerLayer, TopMerge } from './top-merge.ts';
import { RateLimit } from './rate-limit.ts';

/** The file of a top layer. */
export interface TopFile {
  readonly path: string;
  readonly file: HostFile;
  /** Undefined: a raw file. */
  readonly placement: CowPlacement | undefined;
  /**
   * The file from now on, opened for reading alone, durable and with this modification time, which the layer above has in
   * its header. What was written must be in the file.
   */
  seal(mtimeSeconds: number): Promise<HostFile>;
}

export interface TopLayer extends TopFile {
  readonly volume: CowVolume | RawVolume;
}

/** A layer that was frozen. */
interface Unsealed {
  readonly layer: TopLayer;
  /** The one that was put over it. */
  readonly above: TopLayer;
  /** Changes that had begun; none of them rejects. */
  readonly begun: readonly Promise<void>[];
  readonly mtimeSeconds: number;
}

interface Change {
  readonly finished: Promise<void>;
}

export interface TopMergeOptions {
  /** The file that must be the top. */
  readonly upper: string;
  /** Opens the layer below for writing; `below` is what it is over, undefined when it is raw. */
  readonly openLower: (below: DiskBelow | undefined) => LowerLayer;
  readonly onProgress: (done: number, total: number) => void;
  readonly bytesPerSecond: number | undefined;
}

export class LayeredVolume implements Volume {
  /** What `fileStates` was when the files were found. */
  readonly openedAs: readonly string[];
  #top: TopLayer;
  #stack: LayerStack | undefined;
  readonly #changes = new Set<Change>();
  readonly #reads = new Set<Promise<void>>();
  /** Tops that were frozen and are not sealed, in that order. */
  readonly #unsealed: Unsealed[] = [];
  #sealed: Promise<void> = Promise.resolve();
  #merge: TopMerge | undefined;

  /** `top` reads from `stack` where it has nothing; a raw top has no stack. `openedAs`: see there. */
  constructor(top: TopLayer, openedAs: readonly string[], stack?: LayerStack) {
    this.openedAs = openedAs;
    this.#top = top;
    this.#stack = stack;
  }

  get sizeBytes(): number {
    return this.#top.volume.sizeBytes;
  }

  /** As `RawVolume.grow`; a copy-on-write file has the size of what is below it: AppError `unsupported`. */
  grow(sizeBytes: number): Promise<void> {
    const { volume } = this.#top;
    if (volume instanceof RawVolume) return volume.grow(sizeBytes);
    throw new AppError('unsupported', 'a copy-on-write file has the size of what it is over', {
      field: 'disk',
      remedy: 'flatten the disk first',
    });
  }

  read(offset: number, into: readonly Uint8Array[], background = false): MaybePromise<void> {
    const done = this.#top.volume.read(offset, into, background);
    if (done === undefined) return;
    const reading = done.then(ignore, ignore).then(() => void this.#reads.delete(reading));
    this.#reads.add(reading);
    return done;
  }

  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    return this.#change(offset, totalBytes(from), () => this.#top.volume.write(offset, from));
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.#change(offset, length, () => this.#top.volume.discard(offset, length));
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void> {
    return this.#change(offset, length, () => this.#top.volume.writeZeroes(offset, length, mayUnmap));
  }

  flush(): MaybePromise<void> {
    if (this.#unsealed.length === 0) return this.#top.volume.flush();
    // What was finished before a snapshot is in the layers that are being sealed. Space may have been freed since that failed.
    this.#sealed = this.#sealed.catch(() => this.#sealRest());
    return this.#sealed.then(() => this.#top.volume.flush());
  }

  /** What tells one state of the disk's files from another, each to the nanosecond of its last change. */
  fileStates(): string[] {
    const files = [this.#top.file, ...(this.#stack?.layers ?? []).map((layer) => layer.file)];
    return files.map((file) => file.state());
  }

  /** What a new top shows where it has nothing: this disk as it is. Only for `freeze`. */
  get below(): DiskBelow {
    return belowOf(this.#top.volume);
  }

  /**
   * From now on all changes go to `next`, whose volume was made over `below`; the present top never changes any more, but
   * for changes that have begun and not finished: those may or may not be part of the moment.
   */
  freeze(next: TopLayer, mtimeSeconds: number): void {
    this.cancelMerge('a snapshot was taken');
    const old = this.#top;
    const begun = [...this.#changes].map((change) => change.finished);
    this.#unsealed.push({ layer: old, above: next, begun, mtimeSeconds });
    this.#top = next;
    this.#sealed = this.#sealed.catch(ignore).then(() => this.#sealRest());
    // Told to who waits for it and to the guest's flushes.
    this.#sealed.catch(ignore);
  }

  /** Resolves when all frozen layers are durable. Rejects with BlockError; then the disk's flushes fail, too, until one succeeds. */
  sealed(): Promise<void> {
    return this.#sealed;
  }

  async #sealRest(): Promise<void> {
    for (let next = this.#unsealed[0]; next !== undefined; next = this.#unsealed[0]) {
      const { layer, above, begun, mtimeSeconds } = next;
      await Promise.all(begun);
      await layer.volume.flush();
      const file = await layer.seal(mtimeSeconds);
      const below = this.#stack?.layers ?? [];
      this.#showBelow(above, new LayerStack([...below, { file, placement: layer.placement }]));
      this.#unsealed.shift();
      this.#retire([layer.file]);
    }
  }

  #showBelow(top: TopLayer, stack: LayerStack): void {
    this.#stack = stack;
    // INVARIANT: only a copy-on-write file is put over another layer.
    (top.volume as CowVolume).replaceBelow(belowOf(stack));
  }

  /** Reads from these files instead, which hold the same. */
  async relayer(layers: readonly FrozenLayer[]): Promise<void> {
    await this.#sealed;
    if (this.#merge !== undefined) throw busy();
    const old = this.#stack?.layers ?? [];
    this.#showBelow(this.#top, new LayerStack(layers));
    this.#retire(old.map(({ file }) => file));
  }

  /**
   * Copies what the top has into the layer below it, while the guest goes on; resolves when little is left to copy. Then
   * follow `holdForMerge` and `finishMerge`. AppErrors: `locked`, `interrupted` when `upper` is not or no longer the top,
   * what writing gives.
   */
  async mergeTop({ upper, openLower, onProgress, bytesPerSecond }: TopMergeOptions): Promise<void> {
    await this.#sealed;
    if (this.#top.path !== upper) throw new AppError('interrupted', `${upper} is not the top of the disk`);
    if (this.#merge !== undefined || this.#stack === undefined) throw busy();
    const layers = this.#stack.layers.slice(0, -1);
    const stack = layers.length === 0 ? undefined : new LayerStack(layers);
    // INVARIANT: the top is over a stack, so it is a copy-on-write file.
    const merge = new TopMerge(this.#top.volume as CowVolume, openLower(stack && belowOf(stack)), stack);
    this.#merge = merge;
    try {
      await merge.copy(onProgress, new RateLimit(bytesPerSecond));
    } catch (error) {
      this.#dropMerge(merge);
      throw error;
    }
  }

  /** Lets the guest's changes wait, and copies the rest; durable. `locked` when no merge has come so far. */
  async holdForMerge(): Promise<void> {
    const merge = this.#merge;
    if (merge === undefined) throw busy();
    try {
      merge.hold();
      await Promise.all([...this.#changes].map((change) => change.finished));
      await merge.copyRest();
    } catch (error) {
      this.#dropMerge(merge);
      throw error;
    }
  }

  /** After `holdForMerge`: the layer below is the top from now on (its file has `path` now), or all is as before. */
  finishMerge(outcome: { readonly path: string } | undefined): void {
    const merge = this.#merge;
    if (merge === undefined) throw busy();
    if (outcome === undefined) {
      this.cancelMerge('it was called off');
      return;
    }
    const old = this.#top;
    const replaced = this.#stack?.layers.at(-1);
    const { lower } = merge;
    this.#top = lower.becomeTop(outcome.path);
    this.#stack = merge.stack;
    this.#merge = undefined;
    // INVARIANT: the top was over a stack, so it is a copy-on-write file.
    const ended = (old.volume as CowVolume).abandon();
    // It can have the lock of a writer when it is no longer open for reading.
    this.#retire([old.file, ...(replaced === undefined ? [] : [replaced.file])], () => lower.lock(), ended);
    merge.release();
  }

  /** Ends a merge of the top that goes on, if there is one; changes no longer wait for it. */
  cancelMerge(why: string): void {
    const merge = this.#merge;
    merge?.cancel(why);
    if (merge !== undefined) this.#dropMerge(merge);
  }

  #dropMerge(merge: TopMerge): void {
    if (this.#merge === merge) this.#merge = undefined;
    merge.drop();
  }

  /** Everything must have finished; flushes if anything is left to be. */
  async close(): Promise<void> {
    const merge = this.#merge;
    this.cancelMerge('the disk is closed');
    await merge?.ended;
    try {
      await this.#sealed;
    } finally {
      try {
        await this.#top.volume.close();
      } finally {
        for (const { layer } of this.#unsealed) layer.file.close();
        this.#stack?.close();
      }
    }
  }

  #change(offset: number, length: number, make: () => MaybePromise<void>): MaybePromise<void> {
    const held = this.#merge?.held;
    // What waits for a merge is nothing that the merge waits for.
    if (held !== undefined) return held.then(() => this.#change(offset, length, make));
    const done = make();
    if (done === undefined) {
      this.#merge?.changed(offset, length);
      return;
    }
    const settle = (): void => {
      // Only now is it certain what the layer has; a merge that began meanwhile has to know, too.
      this.#merge?.changed(offset, length);
      this.#changes.delete(change);
    };
    const change: Change = { finished: done.then(settle, settle) };
    this.#changes.add(change);
    return done;
  }

  /** Closes files when nothing that has begun can be using them, and `ended` has settled. */
  #retire(
    files: readonly HostFile[],
    then: () => void = ignore,
    ended: Promise<void> = Promise.resolve(),
  ): void {
    const using = [ended, ...this.#reads, ...[...this.#changes].map((change) => change.finished)];
    void Promise.all(using).then(() => {
      for (const file of files) file.close();
      then();
    });
  }
}

const ignore = (): void => undefined;

function busy(): AppError {
  return new AppError('locked', 'the layers of the disk are being changed, or not being merged');
}

/** Closing is the owner's. */
export function belowOf(below: Pick<DiskBelow, 'read'>): DiskBelow {
  return {
    read: (offset, into, background) => below.read(offset, into, background),
    close: ignore,
  };
}
