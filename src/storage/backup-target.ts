/** A file that a disk is copied to: NAME.partial until it is complete. */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { removeQuietly } from './durable.ts';
import { type HostFile, hostFile } from './host-file.ts';
import { cloneFile } from './libc.ts';
import { dataRuns } from './sparse.ts';

const fsync = promisify(fs.fsync);

export class BackupTarget {
  readonly #file: string;
  readonly #draft: string;
  readonly #fd: number;
  readonly #host: HostFile;
  #open = true;

  /** Makes NAME.partial with its final length, all hole; what a killed process left of it is replaced. Throws Node's errors. */
  constructor(file: string, sizeBytes: number) {
    this.#file = file;
    this.#draft = BackupTarget.draftName(file);
    if (fs.existsSync(file)) throw Object.assign(new Error(`${file} exists`), { code: 'EEXIST' });
    removeQuietly(this.#draft);
    this.#fd = fs.openSync(this.#draft, 'wx', 0o600);
    this.#host = hostFile(this.#fd);
    try {
      fs.ftruncateSync(this.#fd, sizeBytes);
    } catch (error) {
      this.discard();
      throw error;
    }
  }

  static draftName(file: string): string {
    return `${file}.partial`;
  }

  /** Shares all blocks with an open file of the same length, where the file system can. */
  cloneFrom(fd: number): boolean {
    return cloneFile(fd, this.#fd);
  }

  /** Each range is written once: zeros are left out. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (const [from, to] of dataRuns(bytes)) {
      await this.#host.write(offset + from, [bytes.subarray(from, to)], true);
    }
  }

  /** Makes the content durable. */
  async complete(): Promise<void> {
    await fsync(this.#fd);
    this.#close();
  }

  /** Gives the file its name, which the answer repeats; the caller makes the folder durable. */
  publish(): string {
    fs.renameSync(this.#draft, this.#file);
    return this.#file;
  }

  discard(): void {
    this.#close();
    removeQuietly(this.#draft);
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    fs.closeSync(this.#fd);
  }
}
