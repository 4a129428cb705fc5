/** Questions about the graph of layers: what is over what, who shares what, and whether files are what they were. */
import * as fs from 'node:fs';
import type {
  Dependent,
  DiskRepair,
  DiskSharers,
  DiskTree,
  DiskUsage,
  ImageDependents,
  Layer,
  LayerUser,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { LayerRow } from '../../db/index.ts';
import {
  countSharing,
  hasSector,
  inspectCow,
  layerFacts,
  repairCowHeader,
  stampLayer,
} from '../../storage/index.ts';
import { iso, mayRead, type Principal } from '../access.ts';
import type { Disks } from './disks.ts';
import type { Images } from './images.ts';
import { layerFile } from './layer-files.ts';
import type { LayerMergeDeps } from './layer-merges.ts';

export interface LineageDeps extends LayerMergeDeps {
  readonly disks: Disks;
  readonly images: Images;
}

const SECTOR_BYTES = 512;

/** A file that is not, by its time, what the layer over it was made over. */
interface Mismatch {
  readonly below: LayerRow;
  readonly above: LayerRow;
  /** Seconds since 1970. */
  readonly is: number;
  readonly recorded: number;
}

export class Lineage {
  readonly #deps: LineageDeps;

  constructor(deps: LineageDeps) {
    this.#deps = deps;
    deps.supervisor.beforeOpening(async (vmId) => this.#checkVm(vmId));
  }

  /** Other tenants' disks and snapshots are not told of. */
  tree(who: Principal, ref: string): DiskTree {
    const disk = this.#deps.disks.find(who, ref);
    const rows = this.#family(disk.layer_id);
    const users = Map.groupBy(this.#usersOf(who, rows), (user) => user.layer_id);
    const layers = rows.map((row) => this.#view(row, users.get(row.id) ?? []));
    return { disk_id: disk.id, layer_id: disk.layer_id, layers };
  }

  async usage(who: Principal, ref: string): Promise<DiskUsage> {
    const { store, disks } = this.#deps;
    const disk = disks.find(who, ref);
    const rows = this.#family(disk.layer_id);
    await this.#flush(rows);
    const index = new Map(rows.map((row, at) => [row.id, at]));
    const users = Map.groupBy(store.layers.users(rows.map(({ id }) => id)), (user) => user.layer_id);
    // Of an image, all others that are over it see what these do not hide.
    const elsewhere = store.layers.children(rows[0]!.id).some((child) => !index.has(child.id)) ? 1 : 0;
    const sharing = await countSharing(
      rows.map((row, at) => ({
        file: this.#file(row),
        raw: row.parent_id === null,
        parent: row.parent_id === null ? undefined : index.get(row.parent_id),
        users: (users.get(row.id)?.length ?? 0) + (at === 0 ? elsewhere : 0),
      })),
      disk.size_bytes,
    );
    const layers = rows.map((row, at) => ({
      layer_id: row.id,
      kind: row.kind,
      stored_bytes: storedBytes(this.#file(row)),
      unique_bytes: sharing[at]!.uniqueBytes,
      shared_bytes: sharing[at]!.sharedBytes,
      hidden_bytes: sharing[at]!.hiddenBytes,
    }));
    return { disk_id: disk.id, layers };
  }

  /** Who sees the same bytes at an offset as this disk, itself included. */
  async sharers(who: Principal, ref: string, at: number): Promise<DiskSharers> {
    const { store, disks } = this.#deps;
    const disk = disks.find(who, ref);
    if (at >= disk.size_bytes) {
      throw new AppError('invalid_input', `the disk ends at ${disk.size_bytes}`, {
        field: 'offset',
        remedy: 'give an offset within the disk',
      });
    }
    const offset = at - (at % SECTOR_BYTES);
    const has = (row: LayerRow): boolean => row.parent_id === null || hasSector(this.#file(row), offset);
    await this.#flush(store.layers.chain(disk.layer_id));
    // INVARIANT: a base has everything.
    const owner = store.layers.chain(disk.layer_id).find(has)!;
    const seeing: LayerRow[] = [];
    for (const next = [owner]; next.length > 0; ) {
      const row = next.pop()!;
      seeing.push(row);
      const children = store.layers.children(row.id);
      await this.#flush(children);
      next.push(...children.filter((child) => !has(child)));
    }
    return { offset, layer_id: owner.id, kind: owner.kind, users: this.#usersOf(who, seeing).map(userView) };
  }

  /** What guests have written to these layers and not flushed is in the files, too, when this resolves. */
  async #flush(rows: readonly LayerRow[]): Promise<void> {
    const { store, supervisor } = this.#deps;
    const written = new Set(rows.filter((row) => row.frozen === 0).map(({ id }) => id));
    const owners = new Set(store.layers.users([...written]).flatMap(({ vm_id }) => vm_id ?? []));
    await Promise.all(
      [...owners].map(async (vmId) => {
        const instance = supervisor.get(vmId);
        const devices = store.disks
          .ofVm(vmId)
          .flatMap(({ layer_id, device }) => (written.has(layer_id) && device !== null ? [device] : []));
        if (!instance.hasMachine) return;
        try {
          await instance.machine().longRequest({ type: 'flush-layers', devices });
        } catch (error) {
          // A machine that has ended meanwhile has flushed its disks.
          if (instance.hasMachine) throw error;
        }
      }),
    );
  }

  /** Disks, snapshots, VMs and backups that need an image. */
  dependents(who: Principal, ref: string): ImageDependents {
    const { store, images } = this.#deps;
    const { id } = images.find(ref);
    const base = store.disks.imageLayer(id);
    const over = base === undefined ? [] : this.#usersOf(who, store.layers.over(base.id)).map(userView);
    const users = store.images.dependents(id).filter((row) => mayRead(who, row));
    const others = users.map(
      (row): Dependent => ({
        type: row.type,
        id: row.id,
        name: row.name,
        vm_id: row.type === 'vm' ? row.id : null,
      }),
    );
    return { image_id: id, dependents: [...others, ...over] };
  }

  /**
   * Accepts the files under a disk as they are, where only their modification times are others than recorded. AppErrors:
   * `conflict` while the VM runs, `cow_backing_changed` when a size is another one.
   */
  async repair(who: Principal, ref: string): Promise<DiskRepair> {
    const { store, disks, supervisor } = this.#deps;
    const disk = disks.find(who, ref);
    const repair = async (): Promise<DiskRepair> => {
      if (disk.vm_id !== null && supervisor.get(disk.vm_id).hasMachine) {
        throw new AppError('conflict', 'the VM of the disk runs', { field: 'disk', remedy: 'halt it first' });
      }
      const repaired = [];
      for (const mismatch of this.#mismatches(store.layers.chain(disk.layer_id))) {
        await this.#accept(mismatch);
        repaired.push({ layer_id: mismatch.below.id, before: mismatch.is, after: mismatch.recorded });
      }
      return { repaired };
    };
    return disk.vm_id === null ? await repair() : await supervisor.get(disk.vm_id).exclusive(repair);
  }

  /** The time of the daemon's own files is set right, for all that are over them; of an operator's file the header is. */
  async #accept({ below, above, recorded }: Mismatch): Promise<void> {
    const file = this.#file(below);
    const { sizeBytes } = layerFacts(file, below.parent_id === null);
    const expected = inspectCow(this.#file(above)).sizeBytes;
    if (sizeBytes !== expected) {
      throw new AppError('cow_backing_changed', `${file} has ${sizeBytes} bytes instead of ${expected}`, {
        field: 'size',
        remedy: 'put the original file back, or restore the disk from a backup',
      });
    }
    if (below.kind === 'external') repairCowHeader(this.#file(above), { backing: file });
    else await stampLayer(file, recorded);
  }

  #checkVm(vmId: string): void {
    const { store } = this.#deps;
    for (const disk of store.disks.ofVm(vmId)) {
      const [mismatch] = this.#mismatches(store.layers.chain(disk.layer_id));
      if (mismatch !== undefined) throw this.#changed(mismatch, disk.name);
    }
  }

  #mismatches(chain: readonly LayerRow[]): Mismatch[] {
    const found: Mismatch[] = [];
    for (const [index, above] of chain.slice(0, -1).entries()) {
      const below = chain[index + 1]!;
      // The daemon itself is at work there, or was when it was killed.
      if (below.state !== 'ready') continue;
      const [file, over] = [this.#file(below), this.#file(above)];
      // What is missing is told when it is opened.
      const stat = fs.statSync(file, { throwIfNoEntry: false });
      if (stat === undefined || !fs.existsSync(over)) continue;
      const is = Math.floor(stat.mtimeMs / 1000) >>> 0;
      const recorded = inspectCow(over).backingMtime;
      if (is !== recorded) found.push({ below, above, is, recorded });
    }
    return found;
  }

  /** Says who is affected: all that is over the file. */
  #changed({ below, is, recorded }: Mismatch, diskName: string): AppError {
    const { store } = this.#deps;
    const over = store.layers.over(below.id).filter(({ id }) => id !== below.id);
    const affected = store.layers.users(over.map(({ id }) => id)).map((user) => {
      const vm = user.vm_id === null ? undefined : store.vms.get(user.vm_id);
      return `${user.type} ${user.name}${vm === undefined ? '' : ` of VM ${vm.name}`}`;
    });
    const some =
      affected.slice(0, 5).join(', ') + (affected.length > 5 ? `, and ${affected.length - 5} more` : '');
    return new AppError(
      'cow_backing_changed',
      `${this.#file(below)} was modified at ${is}, which should be ${recorded} (seconds since 1970); over it are ${some}`,
      {
        field: 'disk',
        remedy: `put the original file back; if only its time is another one and not its content, accept it with \`umlaut disk repair ${diskName}\``,
      },
    );
  }

  /** Parents before children: the base, and what is over it. Of a base that is not the disk's own only its own branch. */
  #family(layerId: string): LayerRow[] {
    const { layers } = this.#deps.store;
    const chain = layers.chain(layerId).reverse();
    const [base, first] = chain;
    const isOwn = base!.kind === 'raw' || base!.kind === 'cow';
    if (isOwn || first === undefined) return inOrder(layers.over(base!.id), base!.id);
    return [base!, ...inOrder(layers.over(first.id), first.id)];
  }

  #usersOf(who: Principal, rows: readonly LayerRow[]): ReturnType<LineageDeps['store']['layers']['users']> {
    return this.#deps.store.layers.users(rows.map(({ id }) => id)).filter((user) => mayRead(who, user));
  }

  #view(row: LayerRow, users: ReturnType<LineageDeps['store']['layers']['users']>): Layer {
    return {
      id: row.id,
      parent_id: row.parent_id,
      kind: row.kind,
      image_id: row.image_id,
      frozen: row.frozen === 1,
      state: row.state,
      size_bytes: row.size_bytes,
      stored_bytes: storedBytes(this.#file(row)),
      users: users.map(userView),
      created_at: iso(row.created_at),
    };
  }

  #file(layer: LayerRow): string {
    return layerFile(this.#deps, layer);
  }
}

function userView({ type, id, name, vm_id }: LayerUser): LayerUser {
  return { type, id, name, vm_id };
}

function storedBytes(file: string): number {
  return (fs.statSync(file, { throwIfNoEntry: false })?.blocks ?? 0) * SECTOR_BYTES;
}

/** Depth first from `rootId`: a layer is followed by all that are over it. */
function inOrder(rows: readonly LayerRow[], rootId: string): LayerRow[] {
  const children = Map.groupBy(rows, (row) => row.parent_id);
  const ordered: LayerRow[] = [];
  const next = rows.filter((row) => row.id === rootId);
  while (next.length > 0) {
    const row = next.pop()!;
    ordered.push(row);
    next.push(...(children.get(row.id) ?? []).toReversed());
  }
  return ordered;
}
