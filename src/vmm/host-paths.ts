/** Files of the host that an operator lets the API name. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '../contracts/errors.ts';

const ANSWER_TIMEOUT_MS = 5000;
/** Of Node's pool, so many threads may wait for file systems that do not answer. */
const WAITING_MAX = 4;

export class HostPaths {
  readonly #allowed: readonly string[];
  readonly #answerMs: number;
  /** What has been asked and not been answered yet, by path. */
  readonly #waiting = new Map<string, Promise<unknown>>();

  /** Folders (or single files) and all below them. Without any, no host path can be named. */
  constructor(allowed: readonly string[], answerMs = ANSWER_TIMEOUT_MS) {
    this.#answerMs = answerMs;
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

  /** To be asked before `check` of what may be another host's: that would hold up the daemon. `unreachable` when there is no answer in time. */
  async requireAnswer(file: string, field: string): Promise<void> {
    const asked = this.#waiting.get(file) ?? this.#ask(file);
    if ((await Promise.race([asked, delay(this.#answerMs, 'late', { ref: false })])) !== 'late') return;
    throw new AppError('unreachable', `the file system of ${file} does not answer`, {
      field,
      remedy: 'look at it on the host: a server or a program that it needs has stopped',
    });
  }

  #ask(file: string): Promise<unknown> {
    if (this.#waiting.size >= WAITING_MAX) return Promise.resolve('late');
    const asked = fs.promises
      .stat(file)
      .catch(() => undefined)
      .finally(() => this.#waiting.delete(file));
    this.#waiting.set(file, asked);
    return asked;
  }

  /** The real path, links resolved. `forbidden` when it is not under an allowed folder (whether it exists is not told). */
  check(file: string, field: string): string {
    let real: string | undefined;
    try {
      real = fs.realpathSync(file);
    } catch {
      // Told as forbidden or missing below.
    }
    const within = (candidate: string): boolean =>
      this.#allowed.some((folder) => candidate === folder || candidate.startsWith(`${folder}${path.sep}`));
    if (real !== undefined && path.isAbsolute(file) && within(real)) return real;
    if (real === undefined && path.isAbsolute(file) && within(path.resolve(file))) {
      throw new AppError('not_found', `there is no file ${file}`, { field, remedy: 'check the path' });
    }
    throw new AppError('forbidden', `the path ${file} is not under a folder that the operator allows`, {
      field,
      remedy: 'start the daemon with --allow-path FOLDER, or put the file into an allowed folder',
    });
  }
}
