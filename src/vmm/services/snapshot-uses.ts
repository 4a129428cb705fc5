/** What snapshots are for: going back, and making other VMs. */
import * as fs from 'node:fs';
import type { Operation, SnapshotClone, SnapshotRollback, Vm } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { SnapshotDiskRow, VmSnapshotRow } from '../../db/index.ts';
import { notFound, type Principal } from '../access.ts';
import { madeUpName, newId } from '../ids.ts';
import type { Instance } from '../instance/instance.ts';
import { newLayerFile } from './layer-files.ts';
import { makeTops, mtimeOf, type NewTop, newTopRow } from './layer-tops.ts';
import { nameTaken } from './networks.ts';
import { giveSettings } from './saved-settings.ts';
import type { SnapshotConfig, SnapshotDeps, Snapshots } from './snapshots.ts';

export interface SnapshotUseDeps extends SnapshotDeps {
  readonly snapshots: Snapshots;
}

export class SnapshotUses {
  readonly #deps: SnapshotUseDeps;

  constructor(deps: SnapshotUseDeps) {
    this.#deps = deps;
  }

  /** Disks go back to what they were, what they have become is lost. A VM that runs is halted if `force` says so, and started again. */
  rollback(who: Principal, vmRef: string, ref: string, { force }: SnapshotRollback): Operation {
    const { operations, supervisor } = this.#deps;
    const snapshot = this.#deps.snapshots.find(who, vmRef, ref);
    requireAvailable(snapshot);
    const instance = supervisor.get(snapshot.vm_id);
    if (instance.hasMachine && !force) {
      throw new AppError('conflict', `the VM is ${instance.state}; its disks cannot go back under it`, {
        field: 'state',
        remedy: 'halt it first, or have it halted and started again with force',
      });
    }
    const resources = [
      { type: 'vm', id: snapshot.vm_id },
      { type: 'snapshot', id: snapshot.id },
    ] as const;
    return operations.run({ kind: 'snapshot.rollback', tenant: snapshot.tenant, resources }, async () => {
      const restart = instance.hasMachine;
      if (restart) await instance.halt();
      await instance.exclusive(() => this.#rollBack(snapshot.id, instance));
      if (restart) await instance.start();
    });
  }

  /** A new VM with the disks of a snapshot. They share all data until one of them is written to. */
  async clone(who: Principal, vmRef: string, ref: string, body: SnapshotClone): Promise<Vm> {
    const { store, admission, supervisor, vms } = this.#deps;
    const snapshot = this.#deps.snapshots.find(who, vmRef, ref);
    requireAvailable(snapshot);
    const memoryBytes = body.memory_bytes ?? snapshot.memory_bytes;
    admission.checkBounds(memoryBytes);
    const name = body.name ?? madeUpName();
    const { tenant } = who.role === 'admin' ? snapshot : who;
    if (store.vms.byName(name).some((vm) => vm.tenant === tenant)) throw nameTaken('VM', name);
    const id = newId('vm');
    const files: string[] = [];
    try {
      fs.mkdirSync(this.#deps.home.file('vms', id), { mode: 0o700 });
      store.transaction(() => this.#insertClone(id, tenant, name, memoryBytes, snapshot, body, files));
    } catch (error) {
      for (const file of files) fs.rmSync(file, { force: true });
      fs.rmdirSync(this.#deps.home.file('vms', id));
      throw error;
    }
    supervisor.add(id);
    if (body.start) vms.start(who, id);
    return vms.get(who, id);
  }

  async #rollBack(id: string, instance: Instance): Promise<void> {
    const { store, events, merges } = this.#deps;
    if (instance.hasMachine) throw new AppError('conflict', 'the VM was started again', { field: 'state' });
    const snapshot = store.snapshots.get(id);
    if (snapshot === undefined) throw notFound('snapshot', id);
    requireAvailable(snapshot);
    await merges.release(snapshot.vm_id);
    const tops = this.#planRollback(snapshot);
    try {
      makeTops(this.#deps, tops);
      store.transaction(() => {
        for (const top of tops) {
          store.layers.insert(newTopRow(top.id, top.below, this.#deps.home.relative(top.file)));
          store.disks.setLayer(top.disk.id, top.id);
        }
        const resource = { type: 'snapshot', id } as const;
        const data = { name: snapshot.name, vm_id: snapshot.vm_id };
        events.append({ type: 'snapshot.rolled_back', tenant: snapshot.tenant, resource, data });
      });
    } catch (error) {
      for (const { file } of tops) fs.rmSync(file, { force: true });
      throw error;
    }
    merges.collect();
  }

  /** Disks that the VM did not have then stay as they are. */
  #planRollback(snapshot: VmSnapshotRow): NewTop[] {
    const { store, home } = this.#deps;
    return store.snapshots.disks([snapshot.id]).map((row) => {
      const disk = row.disk_id === null ? undefined : store.disks.get(row.disk_id);
      if (disk?.vm_id !== snapshot.vm_id) {
        throw new AppError('conflict', `the disk that was ${row.device} is no longer a disk of the VM`, {
          field: 'snapshot',
          remedy: 'attach it again, or make a new VM of the snapshot with clone',
        });
      }
      const id = newId('layer');
      const below = store.layers.get(row.layer_id)!;
      return { disk, below, id, file: newLayerFile(home, id), mtime: mtimeOf(this.#deps, below) };
    });
  }

  #insertClone(
    id: string,
    tenant: string,
    name: string,
    memoryBytes: number,
    snapshot: VmSnapshotRow,
    body: SnapshotClone,
    files: string[],
  ): void {
    const { store, vms } = this.#deps;
    const config = JSON.parse(snapshot.config) as SnapshotConfig;
    vms.insert({
      id,
      tenant,
      name,
      imageId: snapshot.image_id,
      memoryBytes,
      append: snapshot.append,
      autostart: body.autostart ?? 'last-state',
      debugExitPort: config.debugExitPort,
      labels: body.labels ?? {},
      nics: this.#deps.nics.planAgain(id, tenant, config),
    });
    giveSettings(store, id, config.settings);
    for (const row of store.snapshots.disks([snapshot.id])) this.#cloneDisk(id, tenant, row, files);
  }

  #cloneDisk(vmId: string, tenant: string, row: SnapshotDiskRow, files: string[]): void {
    const { store, disks, home } = this.#deps;
    const below = store.layers.get(row.layer_id)!;
    const file = newLayerFile(home, newId('layer'));
    files.push(file);
    makeTops(this.#deps, [{ below, file, mtime: mtimeOf(this.#deps, below) }]);
    disks.record({
      id: newId('disk'),
      tenant,
      name: `${vmId}-${row.device}`,
      vmId,
      device: row.device,
      readOnly: row.read_only === 1,
      ownedByVm: true,
      kind: 'cow',
      path: home.relative(file),
      sizeBytes: below.size_bytes,
      parentLayerId: below.id,
    });
  }
}

function requireAvailable({ state }: VmSnapshotRow): void {
  if (state !== 'available') throw new AppError('locked', `the snapshot is ${state}`);
}
