/** How folders to share are written on the command line. */
import { realpathSync } from 'node:fs';
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import type { IdRange, ShareCreateInput } from '../contracts/api/index.ts';
import { SHARE_TAG, type ShareConfig } from '../contracts/machine.ts';

/** A folder of another host, which the daemon mounts. */
const REMOTE = /^(?:ssh:\/\/|rclone:)/;
const SETTING = 'readonly|setid|(?:uids|gids)=\\d+:\\d+:\\d+';
const SHARE = new RegExp(`^([^=]*)=(.*?)((?:,(?:${SETTING}))*)$`);

/** `TAG=FOLDER[,readonly][,setid][,uids=GUEST:HOST:COUNT][,gids=…]`, added to those before it. */
export function parseShare(text: string, previous: readonly ShareCreateInput[] = []): ShareCreateInput[] {
  const [, tag = '', folder = '', settings = ''] = SHARE.exec(text) ?? [];
  if (!SHARE_TAG.test(tag) || folder === '') {
    throw new InvalidArgumentError(
      'Write it as TAG=FOLDER[,readonly][,setid][,uids=GUEST:HOST:COUNT][,gids=GUEST:HOST:COUNT], the tag in letters, digits, ".", "_" and "-".',
    );
  }
  if (previous.some((share) => share.tag === tag)) {
    throw new InvalidArgumentError(`There is a share ${tag} already.`);
  }
  const given = settings.split(',');
  const ranges = (key: string): IdRange[] =>
    given
      .filter((setting) => setting.startsWith(key))
      .reduce<IdRange[]>((list, setting) => parseIdRange(setting.slice(key.length), list), []);
  const [uids, gids] = [ranges('uids='), ranges('gids=')];
  const share = {
    tag,
    path: REMOTE.test(folder) ? folder : resolve(folder),
    read_only: given.includes('readonly'),
    set_id: given.includes('setid'),
    ...(uids.length > 0 && { uid_map: uids }),
    ...(gids.length > 0 && { gid_map: gids }),
  };
  return [...previous, share];
}

/** `GUEST:HOST:COUNT`, as in /proc/PID/uid_map, added to those before it. */
export function parseIdRange(text: string, previous: readonly IdRange[] = []): IdRange[] {
  const [, guest, host, count] = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(text) ?? [];
  if (count === undefined) throw new InvalidArgumentError('Write it as GUEST:HOST:COUNT, such as 0:1000:1.');
  return [...previous, { guest: Number(guest), host: Number(host), count: Number(count) }];
}

/** For a machine of this process. */
export function shareConfig(share: ShareCreateInput): ShareConfig {
  const { tag, path, read_only: readOnly = false, set_id: setId, uid_map: uidMap, gid_map: gidMap } = share;
  return { tag, folder: realPath(path), readOnly, setId, uidMap, gidMap };
}

/** As it is when there is no such folder: whoever opens it tells that. */
function realPath(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder;
  }
}
