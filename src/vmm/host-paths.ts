/**
 * Files of the host that an operator lets the API name. They may be on file systems that never answer (NFS, FUSE), which must not hold up
 * the daemon: they are looked at in Node's pool of threads, by few of them at a time, and for a limited time.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../contracts/errors.ts';

const ANSWER_TIMEOUT_MS = 5000;
/** Of Node's pool, so many threads may wait for file systems that do not answer. */
const WAITING_MAX = 4;
const SECTOR_BYTES = 512;

/** What is asked of file systems. */
export interface HostFiles {
  realpath(file: string): Promise<string>;
  stat(file: string): Promise<{ readonly blocks: number }>;
}

export class HostPaths {
  readonly #allowed: readonly string[];
  readonly #answerMs: number;
  readonly #files: HostFiles;
  /** What has been asked and not been answered yet, by what it is. */
  readonly #waiting = new Map<string, Promise<unknown>>();

  /**
   * Folders (or single files) and all below them. Without any, no host path can be named.
   * @param answerMs how long a file system may take to answer
   */
  constructor(allowed: readonly string[], answerMs = ANSWER_TIMEOUT_MS, files: HostFiles = fs.promises) {
    this.#answerMs = answerMs;
    this.#files = files;
    this.#allowed = allowed.map((folder) => {
      try {
        return fs.realpathSync(folder);
      } catch (cause) {
        throw new AppError('invalid_input', `the allowed path ${folder} does not exist`, {
          field: '--allow-path',
          remedy: 'make the folder, or leave it out',
          cause,
        });
      }
    });
  }

  /**
   * The real path, links resolved. AppErrors: `forbidden` when it is not under an allowed folder (whether it exists is not told),
   * `not_found`, `unreachable` when its file system does not answer.
   */
  async check(file: string, field: string): Promise<string> {
    const real = await this.#realPath(file, field);
    if (real !== undefined && path.isAbsolute(file) && this.#isAllowed(real)) return real;
    if (real === undefined && path.isAbsolute(file) && this.#isAllowed(path.resolve(file))) {
      throw new AppError('not_found', `there is no file ${file}`, { field, remedy: 'check the path' });
    }
    throw new AppError('forbidden', `the path ${file} is not under a folder that the operator allows`, {
      field,
      remedy: 'start the daemon with --allow-path FOLDER, or put the file into an allowed folder',
    });
  }

  /** As `check`, of a file that is perhaps to be made: then its folder is what must be there. */
  async checkNew(
    file: string,
    field: string,
  ): Promise<{ readonly path: string; readonly isMissing: boolean }> {
    if ((await this.#realPath(file, field)) !== undefined) {
      return { path: await this.check(file, field), isMissing: false };
    }
    const folder = await this.check(path.dirname(file), field);
    return { path: path.join(folder, path.basename(file)), isMissing: true };
  }

  /** What a file takes on the host; 0 when that cannot be told. */
  async allocatedBytes(file: string): Promise<number> {
    const stat = await this.#answer(`size of ${file}`, () => this.#files.stat(file));
    return stat === 'late' || stat === 'busy' ? 0 : (stat?.blocks ?? 0) * SECTOR_BYTES;
  }

  #isAllowed(file: string): boolean {
    return this.#allowed.some((folder) => file === folder || file.startsWith(`${folder}${path.sep}`));
  }

  /** Undefined when there is none. */
  async #realPath(file: string, field: string): Promise<string | undefined> {
    const real = await this.#answer(file, () => this.#files.realpath(file));
    if (real !== 'late' && real !== 'busy') return real;
    const what =
      real === 'late'
        ? `the file system of ${file} does not answer`
        : 'file systems of the host do not answer';
    throw new AppError('unreachable', what, {
      field,
      remedy: 'look at it on the host: a server or a program that it needs has stopped',
    });
  }

  /** Undefined for an error. Who asks the same meanwhile waits for the same answer. */
  async #answer<Answer>(
    what: string,
    ask: () => Promise<Answer>,
  ): Promise<Answer | undefined | 'late' | 'busy'> {
    const late = delay(this.#answerMs, 'late' as const, { ref: false });
    let asked = this.#waiting.get(what);
    while (asked === undefined && this.#waiting.size >= WAITING_MAX) {
      if ((await Promise.race([...this.#waiting.values(), late])) === 'late') return 'busy';
      asked = this.#waiting.get(what);
    }
    if (asked === undefined) {
      asked = ask()
        .catch(() => undefined)
        .finally(() => this.#waiting.delete(what));
      this.#waiting.set(what, asked);
    }
    // INVARIANT: what is asked by the same name is the same.
    return await Promise.race([asked as Promise<Answer | undefined>, late]);
  }
}
