/**
 * A folder as UML's hppfs has it (fs/hppfs/hppfs.c, hppfs.pm): for a file P of the guest's /proc, what is at proc/P in it. A regular
 * file is what the guest reads; a folder with `remove` hides P; one with a socket `r` is asked for what the guest reads, one with `rw`
 * is told before what P has. `pid` is written for the number of a process.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../contracts/errors.ts';
import type { ProcFileConfig } from '../contracts/machine.ts';

/** Names within proc/P that say what P is, the first one that is there. */
const MARKS = ['remove', 'rw', 'r'] as const;
const FILES_MAX = 64;
const DEPTH_MAX = 16;

/** @param folder absolute. AppErrors: `not_found`, `quota_exceeded`. */
export function readHppfs(folder: string): ProcFileConfig[] {
  const root = join(folder, 'proc');
  if (!fs.existsSync(root)) {
    throw new AppError('not_found', `there is no folder ${root}`, {
      field: 'hppfs',
      remedy: 'name a folder that has a folder proc, with a file for each file of /proc',
    });
  }
  const found = [...filesIn(root, '', 0)];
  if (found.length <= FILES_MAX) return found;
  throw new AppError('quota_exceeded', `${root} has more than ${FILES_MAX} files`, { field: 'hppfs' });
}

function* filesIn(root: string, below: string, depth: number): Generator<ProcFileConfig> {
  if (depth > DEPTH_MAX) return;
  const at = join(root, below);
  const entries = fs.readdirSync(at, { withFileTypes: true });
  const mark = below === '' ? undefined : MARKS.find((name) => entries.some((entry) => entry.name === name));
  if (mark === 'remove') yield { path: below, source: { kind: 'hidden' } };
  if (mark === 'r') yield { path: below, source: { kind: 'socket', path: join(at, 'r') } };
  if (mark === 'rw') yield { path: below, source: { kind: 'socket', path: join(at, 'rw'), filter: true } };
  if (mark !== undefined) return;
  for (const { name } of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = below === '' ? name : `${below}/${name}`;
    const status = fs.statSync(join(at, name), { throwIfNoEntry: false });
    if (status?.isDirectory() === true) yield* filesIn(root, path, depth + 1);
    if (status?.isFile() === true) yield { path, source: { kind: 'file', path: join(at, name) } };
  }
}
