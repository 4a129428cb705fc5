/** System errors in the words of the error catalogue. */
import { AppError, systemErrorCode } from '../contracts/errors.ts';
import { BlockError } from '../engine/backends.ts';

/** errno's name of a Node file system error (`ENOSPC`), or `EIO` for anything else. */
export function errnoOf(error: unknown): string {
  const code = systemErrorCode(error);
  return code !== undefined && /^E[A-Z0-9]+$/.test(code) ? code : 'EIO';
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A failed file operation as an AppError (`disk_full`, `already_exists` or `io_error`); AppErrors stay as they are. */
export function fileError(error: unknown, field: string, action: string): AppError {
  if (error instanceof AppError) return error;
  const options = { field, cause: error };
  const detail = `${action}: ${messageOf(error)}`;
  switch (errnoOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new AppError('disk_full', detail, {
        ...options,
        remedy: 'free space on the host, then try again',
      });
    case 'EEXIST':
      return new AppError('already_exists', detail, { ...options, remedy: 'choose another path' });
    default:
      return new AppError('io_error', detail, {
        ...options,
        remedy: 'check the path, its permissions and the health of the host disk',
      });
  }
}

/**
 * A disk after a failed fdatasync. The kernel counts the pages that it could not write as clean, so another fdatasync would lie:
 * nothing but opening the disk again helps.
 */
export class DiskLost extends BlockError {
  constructor(cause: unknown) {
    super(errnoOf(cause), messageOf(cause), { cause });
  }
}
