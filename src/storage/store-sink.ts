/**
 * Hands pieces of disks to the thread that writes a backup to its store. A guest that overwrites faster than that thread compresses does
 * not wait for it: the pieces wait, in memory, and beyond that in a file.
 */
import type { MaybePromise } from '../engine/backends.ts';
import type { ToStoreTask } from './backup-store/tasks.ts';
import { TRACKED_BYTES as CHUNK_BYTES } from './change-tracker.ts';
import { PIECE_BYTES, type Piece, type PieceSink } from './disk-copy.ts';
import { SpillFile } from './spill-file.ts';

/** So much is with the thread. */
const AHEAD_BYTES = 8 << 20;
/** Beyond so much in memory pieces go to the file; what comes while they are written has room as well. */
const SPILL_BYTES = 32 << 20;
/** A guest's write waits when there is so much in memory. */
const MEMORY_BYTES = 64 << 20;
/** Of those that are written to the file at the same time. */
const TRANSFERS_MAX = 4;

interface Waiting {
  readonly bytes: number;
  readonly urgent: boolean;
  resolve(buffer: SharedArrayBuffer): void;
  reject(error: unknown): void;
}

/** A piece that the thread has no room for yet, in memory. */
interface Parked {
  readonly piece: Piece;
  readonly buffer: SharedArrayBuffer;
}

/** In the file. */
interface Spilled {
  readonly piece: Piece;
  readonly at: number;
}

export interface SinkEvents {
  /** The thread is done with so many bytes more. */
  taken(bytes: number): void;
  failed(error: unknown): void;
}

export class StoreSink implements PieceSink {
  readonly #post: (message: ToStoreTask) => void;
  readonly #spill: SpillFile;
  readonly #events: SinkEvents;
  readonly #free = new Map<number, SharedArrayBuffer[]>();
  /** In the order in which they were sent: so they come back. */
  readonly #sent: Parked[] = [];
  #aheadBytes = 0;
  readonly #parked: Parked[] = [];
  readonly #spilled: Spilled[] = [];
  readonly #waiting: Waiting[] = [];
  /** Of buffers that are with somebody. */
  #usedBytes = 0;
  /** Reads and writes of the file; they never reject. */
  readonly #transfers = new Set<Promise<void>>();
  #maySpill = true;
  #drained: PromiseWithResolvers<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  /** @param post to the thread @param folder for the file */
  constructor(post: (message: ToStoreTask) => void, folder: string, events: SinkEvents) {
    this.#post = post;
    this.#spill = new SpillFile(folder);
    this.#events = events;
  }

  acquire(length: number, urgent: boolean): MaybePromise<SharedArrayBuffer> {
    if (this.#failure !== undefined) throw this.#failure.error;
    const bytes = bufferBytes(length);
    if (this.#hasRoom(bytes, urgent)) return this.#take(bytes);
    return new Promise((resolve, reject) => this.#waiting.push({ bytes, urgent, resolve, reject }));
  }

  release(buffer: SharedArrayBuffer): void {
    const bytes = buffer.byteLength;
    const free = this.#free.get(bytes);
    if (free === undefined) this.#free.set(bytes, [buffer]);
    else free.push(buffer);
    this.#usedBytes -= bytes;
    this.#goOn();
  }

  send(piece: Piece, buffer: SharedArrayBuffer): void {
    this.#parked.push({ piece, buffer });
    this.#goOn();
  }

  /** The thread is done with the piece that was sent first. */
  taken(): void {
    const done = this.#sent.shift();
    if (done === undefined) return;
    this.#aheadBytes -= done.piece.length;
    this.#events.taken(done.piece.length);
    this.release(done.buffer);
  }

  /** Resolves when the thread has been sent everything. Rejects when the backup has failed. */
  async drained(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    this.#drained = Promise.withResolvers();
    this.#goOn();
    await this.#drained.promise;
  }

  /** Nothing comes back any more. */
  fail(error: unknown): void {
    if (this.#failure !== undefined) return;
    this.#failure = { error };
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#drained?.reject(error);
  }

  /** After the end. */
  async close(): Promise<void> {
    this.fail(new Error('the backup has ended'));
    await Promise.all(this.#transfers);
    this.#spill.close();
  }

  #goOn(): void {
    if (this.#failure !== undefined) return;
    while (this.#aheadBytes < AHEAD_BYTES && this.#sendNext());
    while (this.#usedBytes > SPILL_BYTES && this.#spillLast());
    // Guests first.
    for (const urgent of [true, false]) this.#serve(urgent);
    const atRest = this.#parked.length + this.#spilled.length + this.#transfers.size === 0;
    if (atRest) this.#drained?.resolve();
  }

  /** False when there is nothing to send. */
  #sendNext(): boolean {
    const parked = this.#parked.shift();
    if (parked !== undefined) {
      this.#aheadBytes += parked.piece.length;
      this.#give(parked);
      return true;
    }
    const spilled = this.#spilled.pop();
    if (spilled !== undefined) this.#load(spilled);
    return spilled !== undefined;
  }

  #give(parked: Parked): void {
    this.#sent.push(parked);
    this.#post({ type: 'piece', ...parked.piece, buffer: parked.buffer });
  }

  /** False when none is to be written to the file now. */
  #spillLast(): boolean {
    if (!this.#maySpill || this.#transfers.size >= TRANSFERS_MAX) return false;
    const parked = this.#parked.pop();
    if (parked === undefined) return false;
    const { piece, buffer } = parked;
    this.#transfer(
      this.#spill.write(new Uint8Array(buffer, 0, piece.length)).then(
        (at) => {
          this.#spilled.push({ piece, at });
          this.release(buffer);
        },
        () => {
          // No room: from now on guests wait.
          this.#maySpill = false;
          this.#parked.push(parked);
        },
      ),
    );
    return true;
  }

  #load({ piece, at }: Spilled): void {
    const buffer = this.#take(bufferBytes(piece.length));
    this.#aheadBytes += piece.length;
    this.#transfer(
      this.#spill.read(at, new Uint8Array(buffer, 0, piece.length)).then(
        () => {
          this.#spill.forget();
          this.#give({ piece, buffer });
        },
        (error: unknown) => this.#events.failed(error),
      ),
    );
  }

  #transfer(work: Promise<void>): void {
    const transfer = work.finally(() => {
      this.#transfers.delete(transfer);
      this.#goOn();
    });
    this.#transfers.add(transfer);
  }

  #serve(urgent: boolean): void {
    for (;;) {
      const at = this.#waiting.findIndex((one) => one.urgent === urgent);
      if (at < 0 || !this.#hasRoom(this.#waiting[at]!.bytes, urgent)) return;
      const [{ bytes, resolve }] = this.#waiting.splice(at, 1) as [Waiting];
      resolve(this.#take(bytes));
    }
  }

  /** What is on its way goes before what has not been read. */
  #hasRoom(bytes: number, urgent: boolean): boolean {
    const used = this.#usedBytes + bytes;
    if (urgent) return used <= MEMORY_BYTES;
    return used <= AHEAD_BYTES && this.#parked.length + this.#spilled.length === 0;
  }

  #take(bytes: number): SharedArrayBuffer {
    this.#usedBytes += bytes;
    return this.#free.get(bytes)?.pop() ?? new SharedArrayBuffer(bytes);
  }
}

/** Most writes of guests are small: a chunk's buffer does for them. */
function bufferBytes(length: number): number {
  return length <= CHUNK_BYTES ? CHUNK_BYTES : PIECE_BYTES;
}
