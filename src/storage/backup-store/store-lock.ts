/** A folder with a store belongs to one daemon at a time. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { AppError } from '../../contracts/errors.ts';
import { fileError } from '../errors.ts';
import { lockFile } from '../libc.ts';

/** Makes and takes the folder; the result lets go of it. AppErrors: `in_use`, `io_error`. */
export function holdStoreFolder(folder: string): () => void {
  let fd: number;
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    fd = fs.openSync(path.join(folder, 'lock'), 'a', 0o600);
  } catch (error) {
    throw fileError(error, 'destination', `the folder ${folder} cannot be used`);
  }
  if (lockFile(fd, 'exclusive')) return () => fs.closeSync(fd);
  fs.closeSync(fd);
  throw new AppError('in_use', `another daemon keeps backups in ${folder}`, {
    field: 'destination',
    remedy: 'give each daemon a folder of its own',
  });
}
