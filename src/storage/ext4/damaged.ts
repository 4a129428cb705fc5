/** What is wrong with a file system, in the words of the error catalogue. */
import { AppError } from '../../contracts/errors.ts';

export function damaged(what: string, cause?: unknown): AppError {
  return new AppError('bad_file_system', `the file system is damaged: ${what}`, {
    field: 'partition',
    remedy: 'restore the disk to a new VM, and check it there with e2fsck',
    cause,
  });
}

export function unreadable(what: string): AppError {
  return new AppError('unsupported', what, {
    field: 'partition',
    remedy: 'restore the disk to a new VM, and read it there',
  });
}
