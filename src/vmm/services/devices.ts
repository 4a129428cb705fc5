/** Disks and network cards of VMs, attached and detached: in the configuration, and in the machine while it runs. */
import {
  type AttachDisk,
  type AttachNic,
  type Disk,
  type DiskSettings,
  NICS_MAX,
  type NicUpdate,
  type ShareCreate,
  type Vm,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { shareDevice } from '../../contracts/machine.ts';
import type { DiskRow, NicRow, Store, VmRow } from '../../db/index.ts';
import { type Principal, SYSTEM } from '../access.ts';
import type { EventLog } from '../events.ts';
import type { MachineLink } from '../instance/machine-link.ts';
import { DETACH_TIMEOUT_MS } from '../machine-devices.ts';
import { settingsOf } from './disk-settings.ts';
import type { AttachedFile, Disks } from './disks.ts';
import { nicConfig } from './nic-row.ts';
import type { Nics } from './nics.ts';
import type { PluggedNics } from './plugged-nics.ts';
import type { Shares } from './shares.ts';
import type { Supervisor } from './supervisor.ts';
import type { Vms } from './vms.ts';

/** The machine has its own limit, and says more. */
const DETACH_REQUEST_TIMEOUT_MS = DETACH_TIMEOUT_MS + 10_000;
/** What a guest boots from: without it there is nothing that could go on. */
const BOOT_DISK = 'ubd0';

export interface DeviceDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly nics: Nics;
  readonly plugged: PluggedNics;
  readonly disks: Disks;
  readonly shares: Shares;
  readonly supervisor: Supervisor;
  readonly vms: Vms;
}

export class Devices {
  readonly #deps: DeviceDeps;

  constructor(deps: DeviceDeps) {
    this.#deps = deps;
  }

  /** `ubdFlags`: s and t as UML has them. AppErrors: what `Disks.attach` says, and what the machine says. */
  attachDisk(who: Principal, ref: string, body: AttachDisk, ubdFlags = ''): Promise<Vm> {
    return this.#attachDisk(who, ref, ubdFlags, (vm) => this.#deps.disks.attach(who, vm, body));
  }

  /** A file of the operator's, as `Disks.attachFile`. */
  async attachFile(
    who: Principal,
    ref: string,
    device: string,
    file: AttachedFile,
    ubdFlags = '',
  ): Promise<Vm> {
    const { disks } = this.#deps;
    const checked = await disks.checkFile(file);
    return await this.#attachDisk(who, ref, ubdFlags, (vm) => disks.attachFile(vm, device, checked));
  }

  /** Limits and error policy of a disk; a machine that has it follows at once. */
  async updateDisk(who: Principal, ref: string, change: DiskSettings): Promise<Disk> {
    const { disks, supervisor } = this.#deps;
    const { id, vm_id } = disks.find(who, ref);
    const update = (): DiskRow => disks.updateSettings(disks.find(who, id), change);
    if (vm_id === null) update();
    else {
      await supervisor.get(vm_id).exclusive(async () => {
        const { vm_id: owner, device, ...settings } = update();
        const link = this.#link(vm_id);
        if (link === undefined || owner !== vm_id || device === null) return;
        await link.request({ type: 'disk-settings', device, ...settingsOf(settings) });
      });
    }
    return disks.get(who, id);
  }

  async attachNic(who: Principal, ref: string, body: AttachNic): Promise<Vm> {
    const { vms, supervisor, store, plugged } = this.#deps;
    const { id } = vms.find(who, ref);
    await supervisor.get(id).exclusive(async () => {
      const vm = this.#row(id);
      const device = store.transaction(() => this.#recordNic(who, vm, body));
      const link = this.#link(id);
      if (link === undefined) return;
      try {
        const nic = this.#nic(id, device);
        const ring = await plugged.plug(vm, nic, { mayBeLate: false });
        await link.request({ type: 'attach-nic', nic: nicConfig(nic), ring });
      } catch (error) {
        plugged.unplug(id, device);
        supervisor.removeNic(vm, device);
        throw error;
      }
    });
    return vms.get(who, id);
  }

  /** Also while it runs: the guest finds it, and mounts it when it likes. AppErrors: what `Shares.add` and the machine say. */
  async addShare(who: Principal, ref: string, body: ShareCreate): Promise<Vm> {
    const { vms, supervisor, shares } = this.#deps;
    const { id } = vms.find(who, ref);
    // INVARIANT: there is one for each.
    const [share] = await shares.checked(who, [body], () => 'path');
    await supervisor.get(id).exclusive(async () => {
      this.#recordShares(id, () => shares.add(id, share!));
      const link = this.#link(id);
      if (link === undefined) return;
      try {
        const opened = await shares.openOne(shares.require(id, body.tag));
        await link.request({ type: 'attach-share', share: opened });
      } catch (error) {
        await shares.close(id, body.tag);
        this.#recordShares(id, () => shares.remove(id, body.tag));
        throw error;
      }
    });
    return vms.get(who, id);
  }

  /** A guest that runs has to have it unmounted. AppErrors: `not_found`, `guest_not_responding`. */
  removeShare(who: Principal, ref: string, tag: string): Promise<Vm> {
    return this.#detach(who, ref, shareDevice(tag), (vm) => void this.#deps.shares.require(vm.id, tag));
  }

  #recordShares(vmId: string, change: () => void): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      change();
      store.vms.touch(vmId, Date.now());
      const { tenant } = this.#row(vmId);
      events.append({ type: 'vm.updated', tenant, resource: { type: 'vm', id: vmId } });
    });
  }

  /** Changes what a network card may do, also while the VM runs. */
  async updateNic(who: Principal, ref: string, device: string, body: NicUpdate): Promise<Vm> {
    const { vms, supervisor, store, nics, plugged } = this.#deps;
    const { id } = vms.find(who, ref);
    await supervisor.get(id).exclusive(async () => {
      const vm = this.#row(id);
      const nic = this.#nic(id, device);
      store.transaction(() => nics.update(who, vm, nic, body));
      await plugged.configure(this.#nic(id, device));
    });
    return vms.get(who, id);
  }

  /** AppErrors: `not_found`, `in_use` for the disk that a running guest boots from, `guest_not_responding`. */
  detachDisk(who: Principal, ref: string, device: string): Promise<Vm> {
    return this.#detach(who, ref, device, (vm) => {
      if (this.#deps.store.disks.ofVm(vm.id).some((disk) => disk.device === device)) return;
      throw new AppError('not_found', `the VM has no ${device}`, { field: 'device' });
    });
  }

  detachNic(who: Principal, ref: string, device: string): Promise<Vm> {
    return this.#detach(who, ref, device, (vm) => void this.#nic(vm.id, device));
  }

  #nic(vmId: string, device: string): NicRow {
    const nic = this.#deps.store.vms.nicsOf(vmId).find((row) => row.device === device);
    if (nic === undefined) throw new AppError('not_found', `the VM has no ${device}`, { field: 'device' });
    return nic;
  }

  async #attachDisk(who: Principal, ref: string, ubdFlags: string, record: (vm: VmRow) => void): Promise<Vm> {
    const { vms, supervisor, store, disks } = this.#deps;
    const { id } = vms.find(who, ref);
    await supervisor.get(id).exclusive(async () => {
      const vm = this.#row(id);
      const before = new Set(store.disks.ofVm(id).map((disk) => disk.id));
      const isNew = (disk: DiskRow): boolean => !before.has(disk.id);
      store.transaction(() => {
        record(vm);
        for (const { id: diskId } of store.disks.ofVm(id).filter(isNew))
          store.disks.setUbdFlags(diskId, ubdFlags);
      });
      const link = this.#link(id);
      const added = store.disks.ofVm(id).find(isNew);
      if (link === undefined || added === undefined) return;
      try {
        await supervisor.claimDisks(id);
        await link.request({ type: 'attach-disk', disk: disks.config(added) });
      } catch (error) {
        disks.detach(vm, added.device ?? '');
        throw error;
      }
    });
    return vms.get(who, id);
  }

  /** What the machine lets go of is taken from the configuration when it says so (`Supervisor.deviceGone`). */
  async #detach(who: Principal, ref: string, device: string, check: (vm: VmRow) => void): Promise<Vm> {
    const { vms, supervisor } = this.#deps;
    const { id } = vms.find(who, ref);
    const answer = await supervisor.get(id).exclusive(() => {
      check(this.#row(id));
      const link = this.#link(id);
      if (link === undefined) {
        supervisor.deviceGone(id, device);
        return undefined;
      }
      if (device === BOOT_DISK) throw bootDisk();
      const answered = link.request({ type: 'detach', device }, DETACH_REQUEST_TIMEOUT_MS);
      // A guest takes its time, and other requests must come through meanwhile: it is waited for outside.
      answered.catch(() => undefined);
      return { answered };
    });
    await answer?.answered;
    return vms.get(who, id);
  }

  #recordNic(who: Principal, vm: VmRow, { device: wanted, ...body }: AttachNic): string {
    const { store, events, nics } = this.#deps;
    const taken = new Set(store.vms.nicsOf(vm.id).map((nic) => nic.device));
    const all = Array.from({ length: NICS_MAX }, (_, index) => `eth${index}`);
    const device = wanted ?? all.find((name) => !taken.has(name));
    if (device !== undefined && taken.has(device)) {
      throw new AppError('conflict', `the VM has an ${device} already`, { field: 'device' });
    }
    if (device === undefined || taken.size >= NICS_MAX) {
      throw new AppError('quota_exceeded', `a VM has at most ${NICS_MAX} network interfaces`, {
        field: 'device',
      });
    }
    nics.insert(vm.id, nics.plan(who, vm.id, device, body));
    store.vms.touch(vm.id, Date.now());
    events.append({ type: 'vm.updated', tenant: vm.tenant, resource: { type: 'vm', id: vm.id } });
    return device;
  }

  /** The machine, when there is one that could be changed. */
  #link(vmId: string): MachineLink | undefined {
    const instance = this.#deps.supervisor.get(vmId);
    return instance.hasMachine ? instance.machine() : undefined;
  }

  #row(id: string): VmRow {
    return this.#deps.vms.find(SYSTEM, id);
  }
}

function bootDisk(): AppError {
  return new AppError('in_use', `the guest runs from ${BOOT_DISK}`, {
    field: 'device',
    remedy: 'shut the VM down first',
  });
}
