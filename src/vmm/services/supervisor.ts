/** All VMs' instances: which there are, what their runs need, and what is written down of their states. */
import { isUtf8 } from 'node:buffer';
import { AppError } from '../../contracts/errors.ts';
import type { Watch } from '../../contracts/api/index.ts';
import { type MachineConfig, shareDevice } from '../../contracts/machine.ts';
import type { MachineWorkerData, TraceRecord } from '../../contracts/ports.ts';
import type { DiskRow, Store, VmRow } from '../../db/index.ts';
import { parseLine } from '../../uml/channels.ts';
import { notFound } from '../access.ts';
import type { Admission } from '../admission.ts';
import type { EventLog } from '../events.ts';
import {
  type ConfiguredLine,
  Instance,
  type InstanceHost,
  type RunResources,
  type StateChange,
} from '../instance/instance.ts';
import { consoleCountFor, parseLineName } from '../instance/lines.ts';
import type { DiskErrorMessage } from '../instance/machine-link.ts';
import type { ImageLibrary, Log, MachineFactory } from '../ports.ts';
import type { Addresses } from './addresses.ts';
import type { CloudInits } from './cloud-init.ts';
import type { Disks } from './disks.ts';
import { nicConfig } from './nic-row.ts';
import type { PluggedNics } from './plugged-nics.ts';
import type { ProcFiles } from './proc-files.ts';
import type { Shares } from './shares.ts';
import { traceKinds, type Watches, watchOf } from './watches.ts';

const SHARE_PREFIX = shareDevice('');

export interface SupervisorDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly admission: Admission;
  readonly library: ImageLibrary;
  readonly disks: Disks;
  readonly addresses: Addresses;
  readonly cloudInits: CloudInits;
  readonly shares: Shares;
  readonly procFiles: ProcFiles;
  readonly watches: Watches;
  readonly plugged: PluggedNics;
  readonly createWorker: MachineFactory;
  readonly log: Log;
}

export class Supervisor implements InstanceHost {
  readonly createWorker: MachineFactory;
  readonly log: Log;
  readonly #deps: SupervisorDeps;
  readonly #instances = new Map<string, Instance>();
  readonly #beforeOpening: ((vmId: string) => Promise<void>)[] = [];
  #closing = false;

  constructor(deps: SupervisorDeps) {
    this.#deps = deps;
    this.createWorker = deps.createWorker;
    this.log = deps.log;
  }

  /** `listener` is called, and waited for, before a machine of a VM opens disks. */
  beforeOpening(listener: (vmId: string) => Promise<void>): void {
    this.#beforeOpening.push(listener);
  }

  /** Everybody else lets go of the VM's disks. */
  async claimDisks(vmId: string): Promise<void> {
    for (const listener of this.#beforeOpening) await listener(vmId);
  }

  /** Throws `not_found` for a VM that was deleted meanwhile. */
  get(vmId: string): Instance {
    const instance = this.#instances.get(vmId);
    if (instance === undefined) throw notFound('VM', vmId);
    return instance;
  }

  add(vmId: string): Instance {
    const instance = new Instance(vmId, this.#row(vmId).state, this);
    this.#instances.set(vmId, instance);
    return instance;
  }

  forget(vmId: string): void {
    this.#instances.delete(vmId);
  }

  count(): number {
    return this.#instances.size;
  }

  running(): number {
    return [...this.#instances.values()].filter((instance) => instance.hasMachine).length;
  }

  /** `conflict` while a machine has the disk. */
  requireNoMachine(disk: Pick<DiskRow, 'vm_id' | 'device'>, remedy: string): void {
    if (disk.vm_id === null || !this.get(disk.vm_id).hasMachine) return;
    throw new AppError('conflict', `the disk is ${disk.device} of a VM that runs`, { field: 'disk', remedy });
  }

  /** At start: finds all VMs. Those that were running when an earlier process ended are halted now. */
  recover(): void {
    const { store } = this.#deps;
    for (const { id, state } of store.vms.all()) {
      if (state !== 'created' && state !== 'halted' && state !== 'failed') {
        this.changed(id, { state: 'halted', cause: null }, undefined);
      }
      this.add(id);
    }
  }

  /** Boots what shall run, one after the other. A VM that cannot start is `failed` and keeps nobody else from it. */
  async autostart(): Promise<void> {
    const wanted = (vm: VmRow): boolean =>
      vm.autostart === 'always' || (vm.autostart === 'last-state' && vm.want_running === 1);
    for (const vm of this.#deps.store.vms.all().filter(wanted)) {
      if (this.#closing) return;
      try {
        await this.get(vm.id).start();
      } catch (error) {
        this.log.warn(
          { vm: vm.id, error: String(error) },
          'a VM that was running could not be started again',
        );
      }
    }
  }

  /** Halts all machines, disks flushed; they boot again with the next daemon. */
  async close(): Promise<void> {
    this.#closing = true;
    await Promise.all([...this.#instances.values()].map((instance) => instance.shutDown()));
    for (const instance of this.#instances.values()) instance.consoles.close();
    await this.#deps.shares.settled();
  }

  // What an instance asks of its host.

  reserve(vmId: string): void {
    this.#deps.admission.reserve(vmId, this.#row(vmId).memory_bytes);
  }

  unreserve(vmId: string): void {
    this.#deps.admission.release(vmId);
  }

  async prepare(vmId: string): Promise<RunResources> {
    const vm = this.#row(vmId);
    const image = await this.#deps.library.use(vm.image_id);
    await this.claimDisks(vmId);
    const disks = this.#deps.store.disks.ofVm(vmId).map((disk) => this.#deps.disks.config(disk));
    const seed = this.#deps.cloudInits.seedDisk(vm);
    const watch = watchOf(vm);
    this.#deps.watches.set(vmId, watch);
    const nics = this.#deps.store.vms.nicsOf(vmId);
    const { plugged } = this.#deps;
    const procFiles = await this.#deps.procFiles.configs(vm);
    const shares = await this.#deps.shares.open(vmId);
    const nicRings = await plugged.plugAll(vm, nics).catch(async (error: unknown) => {
      await this.#deps.shares.close(vmId);
      throw error;
    });
    const config: MachineConfig = {
      name: vm.name,
      memoryBytes: vm.memory_bytes,
      kernel: image.kernel,
      initrd: image.initrd,
      append: [
        image.append,
        vm.append,
        this.#deps.cloudInits.kernelOptions(vmId, `${image.append} ${vm.append}`),
        `umlaut.name=${vm.name}`,
      ]
        .filter((part) => part !== '')
        .join(' '),
      disks: seed === undefined ? disks : [...disks, seed],
      consoleCount: consoleCountFor(this.linesOf(vmId).map(({ name }) => name)),
      nics: nics.map(nicConfig),
      shares,
      procFiles,
      trace: traceKinds(watch),
      debugExitPort: vm.debug_exit_port ?? undefined,
      jitCodeBytes: vm.jit_code_bytes ?? undefined,
    };
    const data: MachineWorkerData = { config, nicRings };
    return { data, release: () => this.#released(vmId) };
  }

  changed(vmId: string, { state, cause, end }: StateChange, wanted: boolean | undefined): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      const vm = this.#row(vmId);
      const startedAt = state === 'running' && vm.state === 'starting' ? Date.now() : vm.started_at;
      store.vms.setState(vmId, state, cause === null ? null : JSON.stringify(cause), startedAt);
      if (wanted !== undefined) store.vms.setWanted(vmId, wanted);
      events.append({
        type: 'vm.state',
        tenant: vm.tenant,
        resource: { type: 'vm', id: vmId },
        data: { state, previous: vm.state, cause, ...(end === undefined ? {} : { end }) },
      });
    });
    if (state === 'halted' || state === 'failed') this.#deps.watches.ended(vmId);
  }

  /** What the guest has let go of is no longer part of the VM. */
  deviceGone(vmId: string, device: string): void {
    this.#deps.store.transaction(() => {
      const vm = this.#row(vmId);
      if (device.startsWith('ubd')) this.#deps.disks.detach(vm, device);
      else if (device.startsWith(SHARE_PREFIX)) this.#removeShare(vm, device.slice(SHARE_PREFIX.length));
      else this.removeNic(vm, device);
    });
    this.#deps.plugged.unplug(vmId, device);
  }

  #released(vmId: string): void {
    this.#deps.plugged.unplugAll(vmId);
    void this.#deps.shares.close(vmId);
  }

  #removeShare(vm: VmRow, tag: string): void {
    const { store, events, shares } = this.#deps;
    shares.remove(vm.id, tag);
    void shares.close(vm.id, tag);
    store.vms.touch(vm.id, Date.now());
    events.append({ type: 'vm.updated', tenant: vm.tenant, resource: { type: 'vm', id: vm.id } });
  }

  /** Removes a network card from a VM's configuration. `not_found`. */
  removeNic(vm: Pick<VmRow, 'id' | 'tenant'>, device: string): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      this.#deps.addresses.takeBack(vm.id, device);
      if (!store.vms.removeNic(vm.id, device)) {
        throw new AppError('not_found', `the VM has no ${device}`, { field: 'device' });
      }
      store.vms.touch(vm.id, Date.now());
      events.append({ type: 'vm.updated', tenant: vm.tenant, resource: { type: 'vm', id: vm.id } });
    });
  }

  linesOf(vmId: string): ConfiguredLine[] {
    return this.#deps.store.lines.ofVm(vmId).flatMap(({ line: text, channel }) => {
      const line = parseLine(`${text}=${channel}`, channel);
      return line === undefined ? [] : [{ name: parseLineName(text), line }];
    });
  }

  nameOf(vmId: string): string {
    return this.#row(vmId).name;
  }

  lineChanged(
    vmId: string,
    line: string,
    { device = null, problem = null }: { readonly device?: string | null; readonly problem?: string | null },
  ): void {
    const { tenant } = this.#row(vmId);
    const data = { line, device, problem };
    this.#deps.events.append({ type: 'vm.console', tenant, resource: { type: 'vm', id: vmId }, data });
  }

  rebooted(vmId: string): void {
    const { tenant } = this.#row(vmId);
    this.#deps.events.append({ type: 'vm.rebooted', tenant, resource: { type: 'vm', id: vmId } });
  }

  panicked(vmId: string, message: string | null): void {
    const { tenant } = this.#row(vmId);
    const resource = { type: 'vm', id: vmId } as const;
    this.#deps.events.append({ type: 'vm.panicked', tenant, resource, data: { message } });
  }

  hung(vmId: string): void {
    const { tenant } = this.#row(vmId);
    this.#deps.events.append({ type: 'vm.hung', tenant, resource: { type: 'vm', id: vmId } });
  }

  loginPrompted(vmId: string, console: string): void {
    const { tenant } = this.#row(vmId);
    const resource = { type: 'vm', id: vmId } as const;
    this.#deps.events.append({ type: 'vm.login_prompt', tenant, resource, data: { console } });
  }

  /** Of a machine that runs: what is watched from now on. */
  async watch(vmId: string, watch: readonly Watch[]): Promise<void> {
    const instance = this.get(vmId);
    if (!instance.hasMachine) return;
    this.#deps.watches.set(vmId, watch);
    await instance.machine().request({ type: 'trace', kinds: traceKinds(watch) });
  }

  /** Of a machine that runs: which files of /proc are the host's from now on. */
  async setProcFiles(vmId: string): Promise<void> {
    const instance = this.get(vmId);
    if (!instance.hasMachine) return;
    const files = await this.#deps.procFiles.configs(this.#row(vmId));
    await instance.machine().request({ type: 'proc-files', files });
  }

  procFileFailed(vmId: string, path: string, why: string): void {
    this.log.warn({ vm: vmId, path, error: why }, "a file of a guest's /proc could not be made");
  }

  traced(vmId: string, records: readonly TraceRecord[], dropped: number): void {
    this.#deps.watches.traced(vmId, records, dropped);
  }

  console(vmId: string, console: string, direction: 'shown' | 'typed', bytes: Uint8Array): void {
    this.#deps.watches.console(vmId, console, direction, bytes);
  }

  consoleSized(
    vmId: string,
    console: string,
    size: { readonly columns: number; readonly rows: number },
  ): void {
    this.#deps.watches.resized(vmId, console, size);
  }

  notified(vmId: string, bytes: Uint8Array, dropped: number): void {
    const { tenant } = this.#row(vmId);
    const raw = Buffer.from(bytes);
    // Any bytes may come: those that are no text are there to be decoded.
    const encoded = isUtf8(raw) ? {} : { base64: raw.toString('base64') };
    const data = { text: raw.toString('utf8'), ...encoded, dropped };
    this.#deps.events.append({ type: 'vm.notification', tenant, resource: { type: 'vm', id: vmId }, data });
  }

  diskFailed(vmId: string, { device, request, code, message, held, unreported }: DiskErrorMessage): void {
    const { store, events } = this.#deps;
    const { tenant } = this.#row(vmId);
    this.log.warn({ vm: vmId, device, request, code, held }, 'a request of a disk failed');
    const disk = store.disks.ofVm(vmId).find((row) => row.device === device);
    const resource =
      disk === undefined ? ({ type: 'vm', id: vmId } as const) : ({ type: 'disk', id: disk.id } as const);
    const data = { vm_id: vmId, device, request, code, message, vm_stopped: held, unreported };
    events.append({ type: 'disk.error', tenant, resource, data });
  }

  #row(vmId: string): VmRow {
    const row = this.#deps.store.vms.get(vmId);
    if (row === undefined) throw notFound('VM', vmId);
    return row;
  }
}
