/** How folders to share are written on the command line. */
import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { type IdRange, SHARE_TAG, type ShareCreateInput } from '../contracts/api/index.ts';
import type { ShareConfig } from '../contracts/machine.ts';

/** `TAG=FOLDER[,readonly]`, added to those before it. */
export function parseShare(text: string, previous: readonly ShareCreateInput[] = []): ShareCreateInput[] {
  const [, tag = '', folder = '', readOnly] = /^([^=]*)=(.*?)(,readonly)?$/.exec(text) ?? [];
  if (!SHARE_TAG.test(tag) || folder === '') {
    throw new InvalidArgumentError(
      'Write it as TAG=FOLDER[,readonly], the tag in letters, digits, ".", "_" and "-".',
    );
  }
  if (previous.some((share) => share.tag === tag)) {
    throw new InvalidArgumentError(`There is a share ${tag} already.`);
  }
  return [...previous, { tag, path: resolve(folder), read_only: readOnly !== undefined }];
}

/** `GUEST:HOST:COUNT`, as in /proc/PID/uid_map, added to those before it. */
export function parseIdRange(text: string, previous: readonly IdRange[] = []): IdRange[] {
  const [, guest, host, count] = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(text) ?? [];
  if (count === undefined) throw new InvalidArgumentError('Write it as GUEST:HOST:COUNT, such as 0:1000:1.');
  return [...previous, { guest: Number(guest), host: Number(host), count: Number(count) }];
}

/** For a machine of this process. */
export function shareConfig({ tag, path, read_only }: ShareCreateInput): ShareConfig {
  return { tag, folder: realPath(path), readOnly: read_only ?? false };
}

/** As it is when there is no such folder: whoever opens it tells that. */
function realPath(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder;
  }
}
