/** Folders of the host that guests mount: which VM has which. */
import { type Share, type ShareCreate, SHARES_MAX } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { IdRange, ShareConfig } from '../../contracts/machine.ts';
import type { ShareRow, Store } from '../../db/index.ts';
import type { Principal } from '../access.ts';
import type { HostPaths } from '../host-paths.ts';
import { checkRemote, isRemote, type RemoteFolders } from '../remote-folders.ts';

export class Shares {
  readonly #store: Store;
  readonly #hostPaths: HostPaths;

  readonly #remotes: RemoteFolders;

  constructor(store: Store, hostPaths: HostPaths, remotes: RemoteFolders) {
    this.#store = store;
    this.#hostPaths = hostPaths;
    this.#remotes = remotes;
  }

  /** Before `add`: with real paths. AppErrors: `forbidden`, `not_found`, `unreachable`, `invalid_input`. */
  checked(
    who: Principal,
    shares: readonly ShareCreate[],
    field = (index: number): string => `shares[${index}].path`,
  ): Promise<ShareCreate[]> {
    return Promise.all(
      shares.map(async (share, index) => ({
        ...share,
        path: await this.#checkedPath(who, share.path, field(index)),
      })),
    );
  }

  /** Of a share that was checked; part of the running transaction. AppErrors: `conflict`, `quota_exceeded`. */
  add(vmId: string, share: ShareCreate, field = ''): void {
    const others = this.#store.shares.ofVms([vmId]);
    if (others.some(({ tag }) => tag === share.tag)) {
      throw new AppError('conflict', `the VM has a share ${share.tag} already`, {
        field: `${field}tag`,
        remedy: 'remove it first, or take another tag',
      });
    }
    if (others.length >= SHARES_MAX) {
      throw new AppError('quota_exceeded', `a VM has at most ${SHARES_MAX} shares`, { field: `${field}tag` });
    }
    this.#store.shares.insert(shareRow(vmId, share));
  }

  /** Part of the running transaction. AppError `not_found`. */
  remove(vmId: string, tag: string): void {
    this.require(vmId, tag);
    this.#store.shares.remove(vmId, tag);
  }

  /** AppError `not_found`. */
  require(vmId: string, tag: string): ShareRow {
    const found = this.#store.shares.ofVms([vmId]).find((row) => row.tag === tag);
    if (found !== undefined) return found;
    throw new AppError('not_found', `the VM has no share ${JSON.stringify(tag.slice(0, 40))}`, {
      field: 'tag',
    });
  }

  /** For a run: as they are allowed now, which may be no longer what they were; those of other hosts are mounted. AppErrors as `add`. */
  async open(vmId: string): Promise<ShareConfig[]> {
    const configs: ShareConfig[] = [];
    try {
      for (const row of this.#store.shares.ofVms([vmId])) configs.push(await this.openOne(row));
      return configs;
    } catch (error) {
      await this.close(vmId);
      throw error;
    }
  }

  async openOne(row: ShareRow): Promise<ShareConfig> {
    const { vm_id, tag, path, read_only, set_id, uid_map, gid_map } = row;
    const readOnly = read_only === 1;
    const field = `shares.${tag}.path`;
    const folder = isRemote(path)
      ? await this.#remotes.mount(vm_id, tag, path, readOnly)
      : await this.#hostPaths.check(path, field);
    const [uidMap, gidMap] = [rangesOf(uid_map), rangesOf(gid_map)];
    return { tag, folder, readOnly, uidMap, gidMap, setId: set_id === 1 };
  }

  /** The VM's machine has none of them any more, or not this one. Those of other hosts are unmounted. */
  close(vmId: string, tag?: string): Promise<void> {
    return this.#remotes.unmount(vmId, tag);
  }

  /** All that `close` has begun is done. */
  settled(): Promise<void> {
    return this.#remotes.settled();
  }

  /** Other hosts are reached with what the daemon's user may: that is the operator's. */
  async #checkedPath(who: Principal, path: string, field: string): Promise<string> {
    if (!isRemote(path)) return await this.#hostPaths.check(path, field);
    checkRemote(path, field);
    if (who.role === 'admin') return path;
    throw new AppError('forbidden', 'only an operator shares folders of other hosts', {
      field,
      remedy: 'mount it in the guest',
    });
  }
}

function rangesOf(json: string | null): IdRange[] | undefined {
  // INVARIANT: rows are written by `add` alone.
  return json === null ? undefined : (JSON.parse(json) as IdRange[]);
}

export function shareRow(vmId: string, share: ShareCreate): ShareRow {
  return {
    vm_id: vmId,
    tag: share.tag,
    path: share.path,
    read_only: Number(share.read_only),
    set_id: Number(share.set_id),
    uid_map: share.uid_map === undefined ? null : JSON.stringify(share.uid_map),
    gid_map: share.gid_map === undefined ? null : JSON.stringify(share.gid_map),
  };
}

export function shareView({ tag, path, read_only, set_id, uid_map, gid_map }: ShareRow): Share {
  return {
    tag,
    path,
    read_only: read_only === 1,
    set_id: set_id === 1,
    ...(uid_map !== null && { uid_map: rangesOf(uid_map) }),
    ...(gid_map !== null && { gid_map: rangesOf(gid_map) }),
  };
}
