/** Hands pieces of disks to the thread that writes a backup to its store. */
import { PIECE_BYTES, type PieceSink } from './disk-copy.ts';
import type { StoreThread } from './backup-store/store-thread.ts';

/** The background copier goes on while fewer pieces than this are under way. */
const AHEAD_MAX = 8;
/** A guest's write waits for the store only when so many pieces (64 MiB) are under way. */
const PIECES_MAX = 64;

interface Waiting {
  readonly urgent: boolean;
  resolve(buffer: SharedArrayBuffer): void;
  reject(error: unknown): void;
}

export class StoreSink implements PieceSink {
  readonly #thread: StoreThread<'write'>;
  readonly #free: SharedArrayBuffer[] = [];
  /** In the order in which they were sent: so they come back. */
  readonly #sent: SharedArrayBuffer[] = [];
  readonly #waiting: Waiting[] = [];
  /** Buffers that are with somebody. */
  #used = 0;
  #failure: { readonly error: unknown } | undefined;

  constructor(thread: StoreThread<'write'>) {
    this.#thread = thread;
  }

  acquire(urgent: boolean): Promise<SharedArrayBuffer> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    if (this.#used < limit(urgent)) return Promise.resolve(this.#take());
    return new Promise((resolve, reject) => this.#waiting.push({ urgent, resolve, reject }));
  }

  release(buffer: SharedArrayBuffer): void {
    this.#free.push(buffer);
    this.#used--;
    this.#serve();
  }

  send(disk: number, offset: number, length: number, buffer: SharedArrayBuffer): void {
    this.#sent.push(buffer);
    this.#thread.post({ type: 'piece', disk, offset, length, buffer });
  }

  /** The thread is done with the piece that was sent first. */
  taken(): void {
    const buffer = this.#sent.shift();
    if (buffer !== undefined) this.release(buffer);
  }

  /** Nothing comes back any more. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure.error);
  }

  #take(): SharedArrayBuffer {
    this.#used++;
    return this.#free.pop() ?? new SharedArrayBuffer(PIECE_BYTES);
  }

  /** Guests first. */
  #serve(): void {
    for (const urgent of [true, false]) {
      for (;;) {
        const at = this.#waiting.findIndex((one) => one.urgent === urgent);
        if (at < 0 || this.#used >= limit(urgent)) break;
        this.#waiting.splice(at, 1)[0]!.resolve(this.#take());
      }
    }
  }
}

function limit(urgent: boolean): number {
  return urgent ? PIECES_MAX : AHEAD_MAX;
}
