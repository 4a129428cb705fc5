/** A merge of the top layer into the one below it while the guest writes. */
import { AppError } from '../../contracts/errors.ts';
import type { CowVolume } from '../cow/volume.ts';
import type { RawVolume } from '../raw-volume.ts';
import { copyDown } from './copy-down.ts';
import type { LayerStack } from './layer-stack.ts';
import type { TopLayer } from './layered-volume.ts';
import { RateLimit } from './rate-limit.ts';

const BLOCK_BYTES = 64 * 1024;
/** So little is left to copy that the guest can wait for it. */
const REST_BLOCKS = 16;
/** A guest that is faster than the limit gets so many rounds; then it is copied as fast as it goes, and then it wins. */
const ROUNDS_LIMITED = 8;
const ROUNDS_MAX = 40;

/** The layer below the top, opened for writing. */
export interface LowerLayer {
  readonly volume: CowVolume | RawVolume;
  /** The guest's from now on, under this path. */
  becomeTop(path: string): TopLayer;
  /** Locks it for writing, as a top is; nobody else may have it open. */
  lock(): void;
  /** Closes it as it is: what has no bit in the file does not count. */
  abandon(): void;
}

export class TopMerge {
  readonly lower: LowerLayer;
  /** What is below `lower`; undefined when that is raw. */
  readonly stack: LayerStack | undefined;
  readonly #top: CowVolume;
  readonly #abort = new AbortController();
  /** Blocks that have changed since they were copied. */
  #dirty = new Set<number>();
  #held: PromiseWithResolvers<void> | undefined;
  #copying: Promise<void> = Promise.resolve();
  #dropped = false;

  constructor(top: CowVolume, lower: LowerLayer, stack: LayerStack | undefined) {
    this.#top = top;
    this.lower = lower;
    this.stack = stack;
  }

  /** While it is there changes wait for it. */
  get held(): Promise<void> | undefined {
    return this.#held?.promise;
  }

  /** Nothing is being copied any more. Never rejects. */
  get ended(): Promise<void> {
    return this.#copying.catch(() => undefined);
  }

  changed(offset: number, length: number): void {
    const end = Math.ceil((offset + length) / BLOCK_BYTES);
    for (let block = Math.floor(offset / BLOCK_BYTES); block < end; block++) this.#dirty.add(block);
  }

  copy(onProgress: (done: number, total: number) => void, rate: RateLimit): Promise<void> {
    this.#copying = this.#copy(onProgress, rate);
    return this.#copying;
  }

  async #copy(onProgress: (done: number, total: number) => void, rate: RateLimit): Promise<void> {
    const { sizeBytes } = this.#top;
    const { signal } = this.#abort;
    const onPosition = (position: number): void => onProgress(position, sizeBytes);
    await copyDown(this.#top, this.lower.volume, { start: 0, end: sizeBytes }, { rate, signal, onPosition });
    await this.lower.volume.flush();
    for (let round = 0; this.#dirty.size > REST_BLOCKS; round++) {
      if (round === ROUNDS_MAX) {
        throw new AppError('locked', 'the guest writes faster than its layers can be merged', {
          remedy: 'try again when it writes less',
        });
      }
      await this.#copyDirty(round < ROUNDS_LIMITED ? rate : new RateLimit(undefined));
    }
    // Most is durable before the guest has to wait.
    await this.lower.volume.flush();
  }

  async #copyDirty(rate: RateLimit): Promise<void> {
    const blocks = [...this.#dirty].sort((a, b) => a - b);
    this.#dirty = new Set();
    const { signal } = this.#abort;
    for (const block of blocks) {
      const start = block * BLOCK_BYTES;
      const end = Math.min(start + BLOCK_BYTES, this.#top.sizeBytes);
      await copyDown(this.#top, this.lower.volume, { start, end }, { rate, signal });
    }
  }

  hold(): void {
    this.#held = Promise.withResolvers();
  }

  async copyRest(): Promise<void> {
    this.#copying = this.#copyDirty(new RateLimit(undefined)).then(() => this.lower.volume.flush());
    await this.#copying;
  }

  release(): void {
    this.#held?.resolve();
    this.#held = undefined;
  }

  /** `copy` rejects; the guest goes on. */
  cancel(why: string): void {
    this.#abort.abort(new AppError('interrupted', `the merge was interrupted: ${why}`));
    this.release();
  }

  /** Lets go of the lower layer, which stays below the top. */
  drop(): void {
    if (this.#dropped) return;
    this.#dropped = true;
    this.release();
    void this.ended.then(() => this.lower.abandon());
  }
}
