/** Folders of the host that guests mount: which VM has which. */
import { type Share, type ShareCreate, SHARES_MAX } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { IdRange, ShareConfig } from '../../contracts/machine.ts';
import type { ShareRow, Store } from '../../db/index.ts';
import type { HostPaths } from '../host-paths.ts';

export class Shares {
  readonly #store: Store;
  readonly #hostPaths: HostPaths;

  constructor(store: Store, hostPaths: HostPaths) {
    this.#store = store;
    this.#hostPaths = hostPaths;
  }

  /** Part of the running transaction. AppErrors: `forbidden`, `not_found`, `conflict`, `quota_exceeded`. */
  add(vmId: string, share: ShareCreate, field = ''): void {
    const path = this.#hostPaths.check(share.path, `${field}path`);
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
    this.#store.shares.insert(shareRow(vmId, { ...share, path }));
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

  /** For a run: as they are allowed now, which may be no longer what they were. AppErrors as `add`. */
  configs(vmId: string): ShareConfig[] {
    return this.#store.shares.ofVms([vmId]).map((row) => this.config(row));
  }

  /** One of them. */
  config(row: ShareRow): ShareConfig {
    const folder = this.#hostPaths.check(row.path, `shares.${row.tag}.path`);
    const { tag, read_only, set_id, uid_map, gid_map } = row;
    const [uidMap, gidMap] = [rangesOf(uid_map), rangesOf(gid_map)];
    return { tag, folder, readOnly: read_only === 1, uidMap, gidMap, setId: set_id === 1 };
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
