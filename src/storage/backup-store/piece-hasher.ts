/**
 * Hashes the chunks of pieces in a thread beside the one that compresses: the two take about as long. A backup of little does
 * without that thread, which takes longer to start.
 */
import { Worker } from 'node:worker_threads';
import { HASH_BYTES, chunksOf, hashChunks } from './format.ts';

const ENTRY = new URL(`./hash-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);
/** So many pieces are hashed in the caller's thread before there is one for it. */
const ALONE_MAX = 32;

export interface PieceToHash {
  readonly buffer: SharedArrayBuffer;
  readonly length: number;
  /** Where the hashes go. */
  readonly hashes: SharedArrayBuffer;
}

interface Waiting {
  readonly hashes: Uint8Array;
  resolve(hashes: Uint8Array): void;
  reject(error: unknown): void;
}

export class PieceHasher {
  #worker: Worker | undefined;
  #alone = 0;
  /** In the order in which they were sent: so they come back. */
  readonly #waiting: Waiting[] = [];
  #failure: { readonly error: unknown } | undefined;

  /** As `hashChunks` of the first `length` bytes, which must stay as they are until it settles. Rejects when the thread has died. */
  hash(buffer: SharedArrayBuffer, length: number): Promise<Uint8Array> {
    const shared = new SharedArrayBuffer(chunksOf(length) * HASH_BYTES);
    const hashes = new Uint8Array(shared);
    if (this.#worker === undefined && this.#alone++ < ALONE_MAX) {
      return Promise.resolve(hashChunks(new Uint8Array(buffer, 0, length), hashes));
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    this.#worker ??= this.#start();
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    // Who waits for it may have given up by then.
    promise.catch(() => undefined);
    this.#waiting.push({ hashes, resolve, reject });
    this.#worker.postMessage({ buffer, length, hashes: shared } satisfies PieceToHash);
    return promise;
  }

  /** What is under way is given up. */
  async close(): Promise<void> {
    this.#fail(new Error('the hashing has ended'));
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(ENTRY, { name: 'backup hashes' });
    worker.on('message', () => {
      const done = this.#waiting.shift();
      done?.resolve(done.hashes);
    });
    worker.on('error', (error) => this.#fail(error));
    worker.on('exit', () => this.#fail(new Error('the thread that hashes has ended')));
    return worker;
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure.error);
  }
}
