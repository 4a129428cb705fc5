import { AppError } from '../../contracts/errors.ts';

/** Something in a store is not what was written there. */
export function damaged(detail: string, cause?: unknown): AppError {
  return new AppError('backup_corrupt', detail, {
    field: 'backup',
    remedy: 'verify the destination, and make a full backup while the VM is there',
    cause,
  });
}
