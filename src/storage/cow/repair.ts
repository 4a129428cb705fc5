/** Accepting a backing file whose modification time has changed. */
import * as fs from 'node:fs';
import { fileError } from '../errors.ts';
import { openLocked } from '../host-file.ts';
import { backingSelf, inspectCow, mtimeSeconds, sameFile } from './create.ts';
import { encodeMtimeField } from './header.ts';
import { checkBackingSize, openBacking, readWholeHeader } from './open.ts';

export interface RepairOptions {
  /** Instead of the file that the header names. */
  readonly backing?: string | undefined;
}

export interface HeaderRepair {
  readonly backing: string;
  /** Modification times, seconds since 1970 modulo 2^32; the same where nothing had to be done. */
  readonly before: number;
  readonly after: number;
}

/**
 * Writes the present modification time of the backing file into the header of `cow`, whatever its version, and
 * nothing else. Only the user can know that the content is the one that `cow` was made over: a size that differs
 * is still refused. AppErrors: `not_found`, `cow_corrupt`, `cow_backing_missing`, `cow_backing_changed`,
 * `cow_backing_self`, `in_use`, `bad_image`, `io_error`.
 */
export function repairCowHeader(cow: string, options: RepairOptions = {}): HeaderRepair {
  const backing = options.backing ?? inspectCow(cow).backingPath;
  if (sameFile(cow, backing)) throw backingSelf(cow);
  const cowFile = openLocked(cow, true, 'cow');
  try {
    const header = readWholeHeader(cow, cowFile);
    const backingFile = openBacking(backing);
    try {
      checkBackingSize(header, cow, backing, backingFile);
      const after = mtimeSeconds(backingFile.stat);
      if (after !== header.backingMtime) {
        const { offset, bytes } = encodeMtimeField(header, after);
        fs.writeSync(cowFile.fd, bytes, 0, bytes.length, offset);
        fs.fsyncSync(cowFile.fd);
      }
      return { backing, before: header.backingMtime, after };
    } finally {
      fs.closeSync(backingFile.fd);
    }
  } catch (error) {
    throw fileError(error, 'cow', `cannot repair the header of ${cow}`);
  } finally {
    fs.closeSync(cowFile.fd);
  }
}
