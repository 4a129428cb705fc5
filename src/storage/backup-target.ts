/** A file that a disk is copied to: NAME.partial until it is complete. */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { AppError } from '../contracts/errors.ts';
import { removeQuietly } from './durable.ts';
import { type HostFile, hostFile } from './host-file.ts';
import { cloneFile, lockFile } from './libc.ts';
import { dataRuns } from './sparse.ts';

const fsync = promisify(fs.fsync);
const fdatasync = promisify(fs.fdatasync);
/** So much is made durable while more is written. */
const AHEAD_BYTES = 64 << 20;

export interface TargetOptions {
  /** A file of that name is replaced in the end; otherwise it is refused. */
  readonly replace?: boolean | undefined;
}

export class BackupTarget {
  readonly #file: string;
  readonly #draft: string;
  readonly #fd: number;
  readonly #host: HostFile;
  #open = true;
  /** Written since it was last made durable. */
  #newBytes = 0;
  /** Of what has been written so far. */
  #durable: Promise<void> | undefined;

  /**
   * Makes NAME.partial with a length of `sizeBytes`, all hole; what a killed process left of it is replaced.
   * Throws Node's errors, and AppError `in_use` when another process is writing NAME.partial.
   */
  constructor(file: string, sizeBytes: number, { replace = false }: TargetOptions = {}) {
    this.#file = file;
    this.#draft = BackupTarget.draftName(file);
    if (!replace && fs.existsSync(file)) throw Object.assign(new Error(`${file} exists`), { code: 'EEXIST' });
    this.#fd = openDraft(this.#draft);
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

  /** Changes the length, for content whose length is known only in the end. */
  resize(sizeBytes: number): void {
    fs.ftruncateSync(this.#fd, sizeBytes);
  }

  /** Each range is written once: zeros are left out. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    for (const [from, to] of dataRuns(bytes)) {
      await this.#host.write(offset + from, [bytes.subarray(from, to)], true);
      this.#newBytes += to - from;
    }
    if (this.#newBytes >= AHEAD_BYTES) this.#writeAhead();
  }

  /** Makes the content durable. */
  async complete(): Promise<void> {
    // The kernel tells a failure once: the earlier ones count too.
    await this.#durable;
    await fsync(this.#fd);
  }

  /** So that the disk is not idle until the end. */
  #writeAhead(): void {
    this.#newBytes = 0;
    const before = this.#durable;
    this.#durable = fdatasync(this.#fd).then(() => before);
    this.#durable.catch(() => undefined);
  }

  /** Gives the file its name, which the answer repeats; the caller makes the folder durable. */
  publish(): string {
    // The lock goes last: before the rename another process would take the draft for a leftover.
    fs.renameSync(this.#draft, this.#file);
    this.#close();
    return this.#file;
  }

  discard(): void {
    removeQuietly(this.#draft);
    const close = (): void => this.#close();
    // Not while the thread pool has the descriptor: another file could get its number.
    if (this.#durable === undefined) close();
    else void this.#durable.then(close, close);
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    fs.closeSync(this.#fd);
  }
}

/** Makes and locks the draft. */
function openDraft(draft: string): number {
  removeLeftover(draft);
  const fd = fs.openSync(draft, 'wx', 0o600);
  if (lockFile(fd, 'exclusive')) return fd;
  fs.closeSync(fd);
  throw draftInUse(draft);
}

/** Of a killed process: one that lives has the lock. */
function removeLeftover(draft: string): void {
  const stat = fs.lstatSync(draft, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isFile()) {
    removeQuietly(draft);
    return;
  }
  const fd = fs.openSync(draft, 'r+');
  try {
    if (!lockFile(fd, 'exclusive')) throw draftInUse(draft);
    removeQuietly(draft);
  } finally {
    fs.closeSync(fd);
  }
}

function draftInUse(draft: string): AppError {
  return new AppError('in_use', `another process is writing ${draft}`, {
    field: 'to',
    remedy: 'wait for it to end, or choose another name',
  });
}
