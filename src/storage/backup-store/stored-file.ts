/** The owner's side of a file that a task reads out of a backup. */
import type { StoreConfig } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import type { FileEntry } from '../ext4/file-system.ts';
import type { FilePlace } from './files.ts';
import { StoreTask } from './store-task.ts';

/** What is read at once. */
const PIECE_BYTES = 1 << 20;

export class StoredFile {
  readonly entry: FileEntry;
  readonly #task: StoreTask<'read-file'>;
  readonly #pieces: ((bytes: Uint8Array) => void)[];

  private constructor(
    entry: FileEntry,
    task: StoreTask<'read-file'>,
    pieces: ((bytes: Uint8Array) => void)[],
  ) {
    this.entry = entry;
    this.#task = task;
    this.#pieces = pieces;
  }

  /** `not_found`, `invalid_input`, `unsupported`, `bad_file_system`, `backup_corrupt`, and errors of the destination. */
  static async open(store: StoreConfig, place: FilePlace): Promise<StoredFile> {
    const task = StoreTask.start(store, 'read-file', place);
    const opened = Promise.withResolvers<FileEntry>();
    const pieces: ((bytes: Uint8Array) => void)[] = [];
    task.onMessage((message) => {
      if (message.type === 'opened') opened.resolve(message.entry);
      else if (message.type === 'bytes') pieces.shift()?.(message.bytes);
    });
    const entry = await Promise.race([opened.promise, task.result.then(ended)]);
    return new StoredFile(entry, task, pieces);
  }

  /** Bytes from `start` to before `end`, which are within the file; one piece is read ahead. Closes the file at its end. */
  async *bytes(start: number, end: number): AsyncGenerator<Uint8Array> {
    try {
      let ahead = this.#read(start, end);
      for (let at = start; at < end; at += PIECE_BYTES) {
        const piece = await ahead;
        ahead = this.#read(at + PIECE_BYTES, end);
        // It is awaited in the next turn, or never.
        ahead.catch(() => undefined);
        yield piece;
      }
    } finally {
      await this.close();
    }
  }

  /** Settles when it is, by whomever. */
  get closed(): Promise<void> {
    return this.#task.result.then(
      () => undefined,
      () => undefined,
    );
  }

  async close(): Promise<void> {
    this.#task.cancel();
    await this.closed;
  }

  async #read(offset: number, end: number): Promise<Uint8Array> {
    const length = Math.min(PIECE_BYTES, end - offset);
    if (length <= 0) return new Uint8Array();
    const answer = new Promise<Uint8Array>((resolve) => this.#pieces.push(resolve));
    this.#task.post({ type: 'read', offset, length });
    return await Promise.race([answer, this.#task.result.then(ended)]);
  }
}

function ended(): never {
  throw new AppError('canceled', 'the file was closed');
}
