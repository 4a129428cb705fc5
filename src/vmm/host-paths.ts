/** Files of the host that an operator lets the API name. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../contracts/errors.ts';

export class HostPaths {
  readonly #allowed: readonly string[];

  /** Folders (or single files) and all below them. Without any, no host path can be named. */
  constructor(allowed: readonly string[]) {
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
