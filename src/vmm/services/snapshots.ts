/** Snapshots: all disks of a VM at one moment, to go back to or to make other VMs of. No data is copied. */
import * as fs from 'node:fs';
import {
  LAYERS_MAX,
  type Operation,
  type Page,
  type SnapshotCreate,
  type VmSnapshot,
} from '../../contracts/api/index.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { JobContext, JobPayloads, Jobs } from '../../contracts/jobs.ts';
import type { Consistency } from '../../contracts/backup.ts';
import type { LayersFrozen } from '../../contracts/ports.ts';
import type { DiskRow, LayerRow, SnapshotDiskRow, VmRow, VmSnapshotRow } from '../../db/index.ts';
import { iso, mayRead, notFound, type Principal, pageOfRows, tenantFilter } from '../access.ts';
import type { Admission } from '../admission.ts';
import { madeUpName, newId } from '../ids.ts';
import type { MachineLink } from '../instance/machine-link.ts';
import type { Disks } from './disks.ts';
import { layerFile, newLayerFile } from './layer-files.ts';
import type { LayerMergeDeps, LayerMerges } from './layer-merges.ts';
import { makeTops, type NewTop, newTopRow } from './layer-tops.ts';
import { nameTaken } from './networks.ts';
import type { Nics, SavedNics } from './nics.ts';
import { type SavedSettings, savedSettings } from './saved-settings.ts';
import type { Vms } from './vms.ts';

export interface SnapshotDeps extends LayerMergeDeps {
  readonly admission: Admission;
  readonly disks: Disks;
  readonly nics: Nics;
  readonly vms: Vms;
  readonly merges: LayerMerges;
}

/** `vm_snapshots.config`: what a clone needs beside the columns. */
export interface SnapshotConfig extends SavedNics {
  readonly debugExitPort: number | null;
  /** Missing in what an earlier version has written. */
  readonly settings?: SavedSettings;
}

/** The guest's agent and its kernel have their own limits, which are shorter together. */
const QUIESCE_TIMEOUT_MS = 120_000;

interface Moment {
  /** Unix milliseconds. */
  readonly takenAt: number;
  readonly consistency: Consistency;
}

export class Snapshots {
  readonly #deps: SnapshotDeps;

  constructor(deps: SnapshotDeps) {
    this.#deps = deps;
  }

  list(
    who: Principal,
    vmRef: string,
    query: { limit: number; cursor?: string | undefined },
  ): Page<VmSnapshot> {
    const vm = this.#deps.vms.find(who, vmRef);
    const read = (after: number, limit: number): VmSnapshotRow[] =>
      this.#deps.store.snapshots.page({ after, limit, tenant: tenantFilter(who) }, vm.id);
    return pageOfRows(query, read, (rows) => this.#views(rows));
  }

  get(who: Principal, vmRef: string, ref: string): VmSnapshot {
    return this.#views([this.find(who, vmRef, ref)])[0]!;
  }

  /**
   * Takes a snapshot, of a VM that runs or not; durable when it resolves. AppErrors: `already_exists`, `unsupported` with
   * a disk that is a file of the operator's own, `quota_exceeded`, `disk_full`.
   */
  async create(who: Principal, vmRef: string, body: SnapshotCreate): Promise<VmSnapshot> {
    const { store, supervisor, merges } = this.#deps;
    const { id: vmId } = this.#deps.vms.find(who, vmRef);
    const id = newId('snap');
    const name = body.name ?? madeUpName();
    const instance = supervisor.get(vmId);
    if (instance.hasMachine) await this.#flush(vmId, instance.machine());
    const { tops, moment, link } = await instance.exclusive(async () => {
      const tops = this.#planTops(vmId);
      if (!instance.hasMachine) await merges.release(vmId);
      this.#record(id, name, vmId, tops, instance.hasMachine);
      if (!instance.hasMachine)
        return { tops, moment: { takenAt: Date.now(), consistency: 'off' } as const, link: undefined };
      const link = instance.machine();
      return { tops, moment: await this.#freeze(id, tops, body.quiesce, link), link };
    });
    await this.#seal(id, tops, link);
    store.transaction(() => this.#publish(id, moment));
    merges.collect();
    return this.#views([this.#row(id)])[0]!;
  }

  /** Its layers are merged where nothing else needs them, while machines run on. */
  delete(who: Principal, vmRef: string, ref: string, bytesPerSecond?: number): Promise<Operation> {
    const { operations, store } = this.#deps;
    const snapshot = this.find(who, vmRef, ref);
    if (operations.openOn('snapshot.delete', snapshot.id).length > 0) {
      throw new AppError('locked', 'the snapshot is being deleted', { remedy: 'wait for that operation' });
    }
    const layers = store.snapshots.disks([snapshot.id]).map((disk) => disk.layer_id);
    const resources = [
      { type: 'vm', id: snapshot.vm_id },
      { type: 'snapshot', id: snapshot.id },
      ...layers.map((id) => ({ type: 'layer', id }) as const),
    ] as const;
    return operations.enqueue(
      { kind: 'snapshot.delete', tenant: snapshot.tenant, resources, mayCancel: true },
      'snapshot.delete',
      (operationId) => ({ operationId, snapshotId: snapshot.id, bytesPerSecond }),
      { maxAttempts: 3 },
      () => store.snapshots.setState(snapshot, 'deleting'),
    );
  }

  processJobs(jobs: Jobs): void {
    jobs.process('snapshot.delete', (payload, context) => this.#delete(payload, context), { concurrency: 2 });
  }

  /** At start: what was never answered for goes. */
  recover(): void {
    const { store } = this.#deps;
    for (const snapshot of store.snapshots.inState('creating')) store.snapshots.remove(snapshot.id);
    const known = new Set(store.layers.paths());
    const { home } = this.#deps;
    for (const name of fs.readdirSync(home.file('layers'))) {
      const file = home.file('layers', name);
      if (!known.has(home.relative(file))) fs.rmSync(file, { force: true });
    }
  }

  #planTops(vmId: string): NewTop[] {
    const { store, home } = this.#deps;
    const mtime = Math.floor(Date.now() / 1000);
    return store.disks.ofVm(vmId).map((disk) => {
      const chain = store.layers.chain(disk.layer_id);
      if (disk.layer_kind === 'external') {
        throw new AppError(
          'unsupported',
          `${disk.device} is a file of the operator's own, which has no layers`,
          {
            field: 'vm',
            remedy: 'detach it, or import it as an image and use a disk over that',
          },
        );
      }
      if (chain.length > LAYERS_MAX) {
        throw new AppError('quota_exceeded', `${disk.device} has ${chain.length} layers over each other`, {
          field: 'vm',
          remedy: 'delete snapshots that are no longer needed, or flatten the disk',
        });
      }
      const id = newId('layer');
      return { disk, below: chain[0]!, id, file: newLayerFile(home, id), mtime };
    });
  }

  /** Makes the new tops, and writes everything down. Until machines know of it the new tops are empty, so that nothing is lost. */
  #record(id: string, name: string, vmId: string, tops: readonly NewTop[], running: boolean): void {
    const { store } = this.#deps;
    try {
      makeTops(this.#deps, tops);
      store.transaction(() => {
        const vm = this.#vmRow(vmId);
        if (store.snapshots.byName(vmId, name) !== undefined) throw nameTaken('snapshot', name);
        for (const top of tops) this.#putOver(top);
        const disks = tops.map(({ disk, below }) => snapshotDisk(id, disk, below));
        store.snapshots.insert(this.#newRow(id, name, vm, running), disks);
      });
    } catch (error) {
      for (const { file } of tops) fs.rmSync(file, { force: true });
      throw error;
    }
  }

  #putOver({ disk, below, id, file, mtime }: NewTop): void {
    const { store, home } = this.#deps;
    store.layers.freeze(below.id, mtime);
    store.layers.insert(newTopRow(id, below, home.relative(file)));
    store.disks.setLayer(disk.id, id);
  }

  #newRow(id: string, name: string, vm: VmRow, running: boolean): Omit<VmSnapshotRow, 'seq' | 'vm_name'> {
    const config: SnapshotConfig = {
      ...this.#deps.nics.saved(vm.id),
      debugExitPort: vm.debug_exit_port,
      settings: savedSettings(this.#deps.store, vm.id),
    };
    const now = Date.now();
    return {
      id,
      tenant: vm.tenant,
      vm_id: vm.id,
      name,
      state: 'creating',
      running: Number(running),
      image_id: vm.image_id,
      memory_bytes: vm.memory_bytes,
      append: vm.append,
      config: JSON.stringify(config),
      taken_at: now,
      created_at: now,
      consistency: null,
    };
  }

  /**
   * Writes out what the disks have been given, before anybody waits for it: the file system would otherwise do that when the new
   * layers are made durable, and the guest's flushes would wait for it behind the moment.
   */
  async #flush(vmId: string, link: MachineLink): Promise<void> {
    const devices = this.#deps.store.disks.ofVm(vmId).map((disk) => disk.device ?? '');
    // What cannot be written is told by the seal.
    await link.longRequest({ type: 'flush-layers', devices }).catch(() => undefined);
  }

  /** The moment itself. A machine that could not do it goes on as before. */
  async #freeze(id: string, tops: readonly NewTop[], quiesce: boolean, link: MachineLink): Promise<Moment> {
    const layers = tops.map(({ disk, file, mtime }) => ({ device: disk.device ?? '', file, mtime }));
    try {
      // INVARIANT: the machine answers with LayersFrozen.
      const timeout = quiesce ? QUIESCE_TIMEOUT_MS : undefined;
      const request = { type: 'freeze-layers', layers, quiesce } as const;
      const frozen = (await link.request(request, timeout)) as LayersFrozen;
      this.#deps.log.info({ snapshot: id, milliseconds: frozen.milliseconds }, 'a snapshot was taken');
      return { takenAt: Date.now(), consistency: frozen.consistency };
    } catch (error) {
      // One that does not answer may have done it: then the new tops must stay.
      if (toAppError(error).code !== 'guest_not_responding' && !link.hasEnded) this.#undo(id, tops);
      else this.#deps.store.snapshots.remove(id);
      throw error;
    }
  }

  #undo(id: string, tops: readonly NewTop[]): void {
    const { store } = this.#deps;
    store.transaction(() => {
      store.snapshots.remove(id);
      for (const top of tops) {
        store.layers.thaw(top.below.id);
        store.disks.setLayer(top.disk.id, top.below.id);
        store.layers.remove(top.id);
      }
    });
    for (const { file } of tops) fs.rmSync(file, { force: true });
  }

  /** What was written before the moment becomes durable. */
  async #seal(id: string, tops: readonly NewTop[], link: MachineLink | undefined): Promise<void> {
    const { store, merges } = this.#deps;
    const layers = (): LayerRow[] => tops.flatMap(({ below }) => store.layers.get(below.id) ?? []);
    try {
      if (link !== undefined) {
        const devices = tops.map(({ disk }) => disk.device ?? '');
        await link.longRequest({ type: 'seal-layers', devices }).catch(async (error: unknown) => {
          // A machine that ended has sealed them, or lost what was not flushed.
          if (!link.hasEnded) throw error;
          await link.ended;
        });
      }
      for (const layer of layers()) await merges.seal(layer);
    } catch (error) {
      // The layers stay, as they are part of the disks; the next start seals them.
      store.snapshots.remove(id);
      throw error;
    }
  }

  #publish(id: string, { takenAt, consistency }: Moment): void {
    const { store, events } = this.#deps;
    const { tenant, name, vm_id } = this.#row(id);
    store.snapshots.setState({ id, taken_at: takenAt, consistency }, 'available');
    const resource = { type: 'snapshot', id } as const;
    events.append({ type: 'snapshot.created', tenant, resource, data: { name, vm_id } });
  }

  async #delete(
    { snapshotId, bytesPerSecond }: JobPayloads['snapshot.delete'],
    context: JobContext,
  ): Promise<void> {
    const { store, merges, events } = this.#deps;
    const snapshot = store.snapshots.get(snapshotId);
    if (snapshot === undefined) return;
    const layers = store.snapshots.disks([snapshotId]).map((disk) => disk.layer_id);
    for (const [index, layerId] of layers.entries()) {
      const progress = (done: number, total: number): void =>
        context.progress({ done: index * total + done, total: layers.length * total, unit: 'bytes' });
      await merges.merge(layerId, { bytesPerSecond, signal: context.signal, progress });
    }
    store.transaction(() => {
      store.snapshots.remove(snapshotId);
      const resource = { type: 'snapshot', id: snapshotId } as const;
      const data = { name: snapshot.name, vm_id: snapshot.vm_id };
      events.append({ type: 'snapshot.deleted', tenant: snapshot.tenant, resource, data });
    });
    merges.collect();
  }

  /** `not_found` for those that are being made. */
  find(who: Principal, vmRef: string, ref: string): VmSnapshotRow {
    const vm = this.#deps.vms.find(who, vmRef);
    const { snapshots } = this.#deps.store;
    const row = snapshots.get(ref) ?? snapshots.byName(vm.id, ref);
    if (row === undefined || row.vm_id !== vm.id || row.state === 'creating' || !mayRead(who, row)) {
      throw notFound('snapshot', ref);
    }
    return row;
  }

  #row(id: string): VmSnapshotRow {
    const row = this.#deps.store.snapshots.get(id);
    if (row === undefined) throw notFound('snapshot', id);
    return row;
  }

  #vmRow(id: string): VmRow {
    const row = this.#deps.store.vms.get(id);
    if (row === undefined) throw notFound('VM', id);
    return row;
  }

  #views(rows: readonly VmSnapshotRow[]): VmSnapshot[] {
    const disks = Map.groupBy(
      this.#deps.store.snapshots.disks(rows.map((row) => row.id)),
      (disk) => disk.snapshot_id,
    );
    return rows.map((row) => ({
      id: row.id,
      name: row.name,
      vm_id: row.vm_id,
      vm_name: row.vm_name,
      state: row.state === 'available' ? 'available' : 'deleting',
      running: row.running === 1,
      consistency: row.consistency,
      image_id: row.image_id,
      memory_bytes: row.memory_bytes,
      disks: (disks.get(row.id) ?? []).map((disk) => this.#diskView(disk)),
      taken_at: iso(row.taken_at),
    }));
  }

  #diskView({ device, disk_id, layer_id }: SnapshotDiskRow): VmSnapshot['disks'][number] {
    const layer = this.#deps.store.layers.get(layer_id)!;
    const stat = fs.statSync(layerFile(this.#deps, layer), { throwIfNoEntry: false });
    return {
      device,
      disk_id,
      layer_id,
      size_bytes: layer.size_bytes,
      stored_bytes: (stat?.blocks ?? 0) * 512,
    };
  }
}

function snapshotDisk(snapshotId: string, disk: DiskRow, layer: LayerRow): SnapshotDiskRow {
  return {
    snapshot_id: snapshotId,
    device: disk.device ?? '',
    disk_id: disk.id,
    layer_id: layer.id,
    read_only: disk.read_only,
  };
}
