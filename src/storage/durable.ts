/** Making files appear whole or not at all. */
import * as fs from 'node:fs';
import * as path from 'node:path';

/** Makes the entries of a folder (new names, renames, removals) durable. */
export function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY);
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

/** `/dir/name` with symbolic links in `dir` resolved and the last component kept, as UML stores paths. */
export function absolutePath(file: string): string {
  const whole = path.resolve(file);
  return path.join(fs.realpathSync(path.dirname(whole)), path.basename(whole));
}

/** Removes what may not be there. */
export function removeQuietly(file: string): void {
  fs.rmSync(file, { force: true });
}

/** Whether a path, links resolved, is below a folder. */
export function isInside(file: string, folder: string): boolean {
  const relative = path.relative(folder, file);
  return relative !== '' && relative.split('/')[0] !== '..' && !path.isAbsolute(relative);
}
