/** The reading of one disk for a backup: which chunks have been read, and who waits for which. */
import type { MaybePromise } from '../engine/backends.ts';
import { TRACKED_BYTES as CHUNK_BYTES } from './change-tracker.ts';
import type { ChangeWatcher, GuestDisk, PendingChange } from './guest-disk.ts';

/** The background copier reads up to this many neighbouring chunks at once. */
export const PIECE_CHUNKS = 16;
export const PIECE_BYTES = PIECE_CHUNKS * CHUNK_BYTES;

/** Where pieces of disks go. */
export interface PieceSink {
  /**
   * A buffer of at least `length` bytes; waits until there is one. `urgent`: a guest's write waits. Rejects when the backup has
   * failed.
   */
  acquire(length: number, urgent: boolean): MaybePromise<SharedArrayBuffer>;
  /** Not used after all. */
  release(buffer: SharedArrayBuffer): void;
  /** Hands over the first `length` bytes of a buffer: they are what the disk has at `offset`. */
  send(piece: Piece, buffer: SharedArrayBuffer): void;
}

/** A range of a disk, and not more than PIECE_BYTES. */
export interface Piece {
  readonly disk: number;
  readonly offset: number;
  readonly length: number;
}

export interface CopyEvents {
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

  /** What is in the page cache is read at once, so that the write goes on without a turn of the event loop. */
  beforeChange(offset: number, length: number): Promise<void> | undefined {
    if (this.#stopped || length === 0) return;
    const end = Math.ceil((offset + length) / CHUNK_BYTES);
    for (let chunk = Math.floor(offset / CHUNK_BYTES); chunk < end; ) {
      const count = this.#runLength(chunk, end - chunk);
      const waits = count > 0 ? this.#copy(chunk, count) : this.#copying.get(chunk);
      chunk += Math.max(count, 1);
      // A discard may be of the whole disk: piece by piece, so that it takes no more memory than a write, and others get their turns.
      const inTurns = chunk < end && length > PIECE_BYTES;
      if (waits !== undefined || inTurns) return this.#goOn(waits, chunk, end);
    }
  }

  closing(): Promise<void> {
    return this.#events.closing();
  }

  /** Reads what no guest write asks for, from the start on. Rejects when the backup has failed. */
  async copyAll(): Promise<void> {
    for (let chunk = 0; chunk < this.#chunks && !this.#stopped; chunk++) {
      if (this.#hasBegun(chunk)) continue;
      // Until there is room, a guest's write may still take the chunk out of turn.
      const buffer = await this.#sink.acquire(PIECE_BYTES, false);
      const count = this.#runLength(chunk, this.#chunks - chunk);
      if (count === 0) this.#sink.release(buffer);
      else await this.#copy(chunk, count, buffer);
    }
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

  /** The rest of `beforeChange`. */
  async #goOn(waits: Promise<void> | undefined, first: number, end: number): Promise<void> {
    await waits;
    for (let chunk = first; chunk < end && !this.#stopped; ) {
      const count = this.#runLength(chunk, end - chunk);
      await (count > 0 ? this.#copy(chunk, count) : this.#copying.get(chunk));
      chunk += Math.max(count, 1);
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

  /**
   * Neither throws nor rejects: the guest's write is not to fail with the backup. Without a buffer it is for a write that waits.
   */
  #copy(chunk: number, count: number, buffer?: SharedArrayBuffer): Promise<void> | undefined {
    for (let i = chunk; i < chunk + count; i++) this.#begun[i >> 3]! |= 1 << (i & 7);
    const offset = chunk * CHUNK_BYTES;
    const length = Math.min(count * CHUNK_BYTES, this.#disk.sizeBytes - offset);
    const read = this.#tryRead({ disk: this.#index, offset, length }, buffer);
    if (read === undefined) return;
    const done = read
      .catch((error: unknown) => this.#events.failed(error))
      .finally(() => {
        for (let i = chunk; i < chunk + count; i++) this.#copying.delete(i);
      });
    for (let i = chunk; i < chunk + count; i++) this.#copying.set(i, done);
    return done;
  }

  #tryRead(piece: Piece, buffer: SharedArrayBuffer | undefined): MaybePromise<void> {
    const end = piece.offset + piece.length;
    const earlier = this.#earlier.filter(
      (change) => change.offset < end && change.offset + change.length > piece.offset,
    );
    const background = buffer !== undefined;
    const read = (): MaybePromise<void> =>
      this.#readInto(buffer ?? this.#sink.acquire(piece.length, true), piece, background);
    try {
      return earlier.length === 0 ? read() : Promise.all(earlier.map((change) => change.finished)).then(read);
    } catch (error) {
      this.#events.failed(error);
    }
  }

  #readInto(
    acquired: MaybePromise<SharedArrayBuffer>,
    piece: Piece,
    background: boolean,
  ): MaybePromise<void> {
    if (acquired instanceof Promise)
      return acquired.then((buffer) => this.#readInto(buffer, piece, background));
    const give = (): void => {
      if (this.#stopped) this.#sink.release(acquired);
      else this.#sink.send(piece, acquired);
    };
    const giveUp = (error: unknown): never => {
      this.#sink.release(acquired);
      throw error;
    };
    try {
      if (this.#stopped) return give();
      const into = new Uint8Array(acquired, 0, piece.length);
      const read = this.#disk.readForBackup(piece.offset, into, background);
      return read === undefined ? give() : read.then(give, giveUp);
    } catch (error) {
      return giveUp(error);
    }
  }
}
