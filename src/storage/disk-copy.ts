/** The reading of one disk for a backup: which chunks have been read, and who waits for which. */
import type { ChangeWatcher, GuestDisk, PendingChange } from './guest-disk.ts';
import { TRACKED_BYTES as CHUNK_BYTES } from './change-tracker.ts';

/** The background copier reads up to this many neighbouring chunks at once. */
export const PIECE_CHUNKS = 16;
export const PIECE_BYTES = PIECE_CHUNKS * CHUNK_BYTES;

/** Where pieces of disks go. */
export interface PieceSink {
  /** A buffer of PIECE_BYTES; waits until there is one. `urgent`: a guest's write waits. Rejects when the backup has failed. */
  acquire(urgent: boolean): Promise<SharedArrayBuffer>;
  /** Not used after all. */
  release(buffer: SharedArrayBuffer): void;
  /** Hands over the first `length` bytes of a buffer: they are what the disk has at `offset`. */
  send(disk: number, offset: number, length: number, buffer: SharedArrayBuffer): void;
}

export interface CopyEvents {
  copied(bytes: number): void;
  failed(error: unknown): void;
  closing(): Promise<void>;
}

export class DiskCopy implements ChangeWatcher {
  /** How much is to be read. */
  readonly totalBytes: number;
  readonly #index: number;
  readonly #disk: GuestDisk;
  readonly #sink: PieceSink;
  readonly #events: CopyEvents;
  readonly #chunks: number;
  /** A bit per chunk whose reading has begun, or that is not wanted. */
  readonly #begun: Uint8Array;
  /** Chunks being read; the promises never reject. */
  readonly #copying = new Map<number, Promise<void>>();
  #earlier: readonly PendingChange[] = [];
  #stopped = false;

  /** `wanted`: a bit per chunk that is to be read; all of them when missing. Installs itself: this is the moment. */
  constructor(
    index: number,
    disk: GuestDisk,
    sink: PieceSink,
    events: CopyEvents,
    wanted: Uint8Array | undefined,
  ) {
    this.#index = index;
    this.#disk = disk;
    this.#sink = sink;
    this.#events = events;
    this.#chunks = Math.ceil(disk.sizeBytes / CHUNK_BYTES);
    this.#begun = new Uint8Array(Math.ceil(this.#chunks / 8));
    if (wanted !== undefined) for (const [at, bits] of wanted.entries()) this.#begun[at] = ~bits;
    this.totalBytes = wanted === undefined ? disk.sizeBytes : this.#wantedBytes();
    this.#earlier = disk.watch(this);
  }

  beforeChange(offset: number, length: number): Promise<void> | undefined {
    if (this.#stopped || length === 0) return;
    const first = Math.floor(offset / CHUNK_BYTES);
    const end = Math.ceil((offset + length) / CHUNK_BYTES);
    for (let chunk = first; chunk < end; chunk++) {
      if (!this.#hasBegun(chunk) || this.#copying.has(chunk)) return this.#copyRange(chunk, end, true);
    }
  }

  closing(): Promise<void> {
    return this.#events.closing();
  }

  /** Reads what no guest write asks for, from the start on. */
  async copyAll(): Promise<void> {
    await this.#copyRange(0, this.#chunks, false);
    await this.idle();
    this.stop();
  }

  async idle(): Promise<void> {
    while (this.#copying.size > 0) await Promise.all(this.#copying.values());
  }

  /** The guest's changes no longer wait. */
  stop(): void {
    this.#stopped = true;
    this.#disk.unwatch(this);
  }

  /** Piece by piece, so that a discard of the whole disk takes no more memory than a write. */
  async #copyRange(first: number, end: number, urgent: boolean): Promise<void> {
    for (let chunk = first; chunk < end && !this.#stopped; ) {
      const count = this.#runLength(chunk, end - chunk);
      if (count > 0) {
        await this.#copy(chunk, count, urgent);
        chunk += count;
      } else {
        const copying = this.#copying.get(chunk);
        if (copying !== undefined) await copying;
        chunk++;
      }
    }
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

  #wantedBytes(): number {
    let chunks = 0;
    for (let chunk = 0; chunk < this.#chunks; chunk++) if (!this.#hasBegun(chunk)) chunks++;
    const last = this.#chunks - 1;
    const short = last >= 0 && !this.#hasBegun(last) ? this.#chunks * CHUNK_BYTES - this.#disk.sizeBytes : 0;
    return chunks * CHUNK_BYTES - short;
  }

  #copy(chunk: number, count: number, urgent: boolean): Promise<void> {
    const done = this.#copyNow(chunk, count, urgent)
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

  async #copyNow(chunk: number, count: number, urgent: boolean): Promise<void> {
    const offset = chunk * CHUNK_BYTES;
    const length = Math.min(count * CHUNK_BYTES, this.#disk.sizeBytes - offset);
    const earlier = this.#earlier.filter(
      (change) => change.offset < offset + length && change.offset + change.length > offset,
    );
    await Promise.all(earlier.map((change) => change.finished));
    const buffer = await this.#sink.acquire(urgent);
    try {
      if (!this.#stopped) await this.#disk.readForBackup(offset, new Uint8Array(buffer, 0, length));
    } catch (error) {
      this.#sink.release(buffer);
      throw error;
    }
    if (this.#stopped) return this.#sink.release(buffer);
    this.#sink.send(this.#index, offset, length, buffer);
    this.#events.copied(length);
  }
}
