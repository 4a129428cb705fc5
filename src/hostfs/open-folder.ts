/** Opens a folder to be served. */
import { AppError } from '../contracts/errors.ts';
import type { IdRange, ShareConfig } from '../contracts/machine.ts';
import { ERRNO, Errno } from './libc.ts';
import { Share } from './share.ts';

/**
 * AppErrors: `not_found`, `forbidden`, `io_error`; `invalid_input` for owners that the daemon cannot give files to.
 * @param mustAnswer calls must not take forever: what may do so and is mounted in it later is not gone into
 */
export function openFolder(
  { tag, folder, readOnly, uidMap, gidMap, setId, append }: ShareConfig,
  mustAnswer: boolean,
): Share {
  // INVARIANT: the engine runs on Linux alone, where both are there.
  const [uid, gid] = [process.geteuid!(), process.getegid!()];
  if (!readOnly && uid !== 0) requireOwn(tag, uidMap, uid);
  try {
    return new Share({
      folder,
      readOnly,
      uidMap: uidMap ?? [{ guest: 0, host: uid, count: 1 }],
      gidMap: gidMap ?? [{ guest: 0, host: gid, count: 1 }],
      setId: setId ?? false,
      append: append ?? false,
      mustAnswer,
    });
  } catch (error) {
    if (error instanceof Errno) throw cannotOpen(tag, folder, error);
    throw error;
  }
}

/** Only root gives files to others. */
function requireOwn(tag: string, map: readonly IdRange[] | undefined, uid: number): void {
  if (map === undefined || map.every(({ host, count }) => host === uid && count === 1)) return;
  throw new AppError('invalid_input', `the share ${tag} maps users other than the daemon's own, ${uid}`, {
    field: 'uid_map',
    remedy: 'run the daemon as root, share it read-only, or leave the map out',
  });
}

function cannotOpen(tag: string, folder: string, cause: Errno): AppError {
  const options = {
    field: `shares.${tag}.path`,
    remedy: 'check that the folder is there and may be read',
    cause,
  };
  if (cause.errno === ERRNO.ENOENT || cause.errno === ERRNO.ENOTDIR) {
    return new AppError('not_found', `there is no folder ${folder} to share as ${tag}`, options);
  }
  if (cause.errno === ERRNO.ELOOP) {
    return new AppError('forbidden', `the path ${folder} leads through a symbolic link`, {
      ...options,
      remedy: 'share the folder under its real path',
    });
  }
  if (cause.errno === ERRNO.EACCES || cause.errno === ERRNO.EPERM) {
    return new AppError('forbidden', `the folder ${folder} may not be opened to share it as ${tag}`, options);
  }
  return new AppError(
    'io_error',
    `the folder ${folder} cannot be shared as ${tag}: errno ${cause.errno}`,
    options,
  );
}
