/**
 * A file without a name, for what has no place in memory for a while. It is gone when it is closed, however the process ends;
 * nothing of it has to be durable.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs';
import * as path from 'node:path';
import { type HostFile, hostFile } from './host-file.ts';

/** What a process that was killed between making and unlinking one leaves: an empty file. */
export const SPILL_NAME = /^spill-[0-9a-f]{16}$/;

export class SpillFile {
  readonly #folder: string;
  #file: HostFile | undefined;
  #end = 0;
  /** Pieces that are in it. */
  #held = 0;

  /** The file is made with the first piece. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Where the bytes are. Rejects when there is no room; then nothing is kept. */
  async write(bytes: Uint8Array): Promise<number> {
    this.#file ??= hostFile(openNameless(this.#folder));
    const at = this.#end;
    this.#end += bytes.length;
    this.#held++;
    try {
      await this.#file.write(at, [bytes], true);
      return at;
    } catch (error) {
      this.forget();
      throw error;
    }
  }

  async read(at: number, into: Uint8Array): Promise<void> {
    // INVARIANT: it was written, so there is a file.
    await this.#file!.read(at, [into], true);
  }

  /** One piece is needed no longer. When none is, the space is used anew. */
  forget(): void {
    this.#held--;
    if (this.#held === 0) this.#end = 0;
  }

  /** Nothing may be under way. */
  close(): void {
    this.#file?.close();
    this.#file = undefined;
  }
}

function openNameless(folder: string): number {
  const file = path.join(folder, `spill-${randomBytes(8).toString('hex')}`);
  const fd = fs.openSync(file, 'wx+', 0o600);
  fs.unlinkSync(file);
  return fd;
}
