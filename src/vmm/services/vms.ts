/** VMs as their users see them: made, looked at, changed, deleted, and what can be done with them. */
import * as fs from 'node:fs';
import {
  type DiskSettings,
  MEMORY_DEFAULT_BYTES,
  type Nic,
  type Operation,
  type OperationKind,
  type Page,
  type ProcFile,
  type ShareCreate,
  type Vm,
  type VmCreate,
  type VmPlan,
  type VmState,
  type VmStats,
  type VmUpdate,
  type Watch,
} from '../../contracts/api/index.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { MachineStats } from '../../contracts/ports.ts';
import type { DiskRow, ShareRow, Store, VmRow } from '../../db/index.ts';
import { findOwned, type Principal, pageOfRows, SYSTEM, tenantFilter } from '../access.ts';
import type { Admission } from '../admission.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import { consoleNames } from '../console-names.ts';
import { madeUpName, newId } from '../ids.ts';
import type { Instance } from '../instance/instance.ts';
import { canceled, type Operations } from '../operations.ts';
import type { Addresses } from './addresses.ts';
import type { CloudInits } from './cloud-init.ts';
import type { Disks } from './disks.ts';
import type { Images } from './images.ts';
import { nameTaken } from './networks.ts';
import type { NewNic, Nics } from './nics.ts';
import type { PluggedNics } from './plugged-nics.ts';
import { removeVmFolder } from './layer-files.ts';
import type { LayerMerges } from './layer-merges.ts';
import type { ProcFiles } from './proc-files.ts';
import type { Shares } from './shares.ts';
import type { Supervisor } from './supervisor.ts';
import { statsView, vmView } from './vm-view.ts';

/** How long a guest has to react to the power button. */
const SHUTDOWN_TIMEOUT_MS = 120_000;

export interface VmDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly home: Home;
  readonly admission: Admission;
  readonly operations: Operations;
  readonly images: Images;
  readonly nics: Nics;
  readonly addresses: Addresses;
  readonly plugged: PluggedNics;
  readonly cloudInits: CloudInits;
  readonly disks: Disks;
  readonly shares: Shares;
  readonly procFiles: ProcFiles;
  readonly supervisor: Supervisor;
  readonly merges: LayerMerges;
}

export interface VmListQuery {
  readonly limit: number;
  readonly cursor?: string | undefined;
  readonly name?: string | undefined;
  readonly state?: VmState | undefined;
  readonly label?: string | undefined;
}

/** A VM to be written down; its disk files are ready. */
export interface VmRecord {
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly imageId: string;
  readonly memoryBytes: number;
  readonly append: string;
  readonly autostart: Vm['autostart'];
  readonly debugExitPort: number | null;
  readonly jitCodeBytes?: number | null;
  readonly labels: Readonly<Record<string, string>>;
  readonly watch?: readonly Watch[];
  readonly procFiles?: readonly ProcFile[];
  readonly nics: readonly NewNic[];
}

/** What is thrown to undo a transaction whose result is wanted. */
class DryRun extends Error {
  readonly vm: VmRow;
  readonly disks: DiskRow[];
  readonly nics: Nic[];
  readonly shares: ShareRow[];
  constructor(vm: VmRow, disks: DiskRow[], nics: Nic[], shares: ShareRow[]) {
    super('dry run');
    this.vm = vm;
    this.disks = disks;
    this.nics = nics;
    this.shares = shares;
  }
}

export class Vms {
  readonly #deps: VmDeps;

  constructor(deps: VmDeps) {
    this.#deps = deps;
  }

  async list(who: Principal, query: VmListQuery): Promise<Page<Vm>> {
    const [labelKey, labelValue] = query.label === undefined ? [] : splitOnce(query.label, '=');
    const { name, state } = query;
    const read = (after: number, limit: number): VmRow[] =>
      this.#deps.store.vms.page(
        { after, limit, tenant: tenantFilter(who) },
        { name, state, labelKey, labelValue },
      );
    const page = pageOfRows(query, read, (rows) => rows);
    return { ...page, items: await this.#views(who, page.items) };
  }

  async get(who: Principal, ref: string): Promise<Vm> {
    const [view] = await this.#views(who, [this.find(who, ref)]);
    // INVARIANT: there is a view for each row.
    return view!;
  }

  find(who: Principal, ref: string): VmRow {
    return findOwned(who, 'VM', ref, this.#deps.store.vms);
  }

  /** As `find`; undefined when there is none. */
  lookUp(who: Principal, ref: string): VmRow | undefined {
    try {
      return this.find(who, ref);
    } catch (error) {
      if (toAppError(error).code === 'not_found') return undefined;
      throw error;
    }
  }

  instance(who: Principal, ref: string): Instance {
    return this.#deps.supervisor.get(this.find(who, ref).id);
  }

  async create(who: Principal, body: VmCreate): Promise<Vm> {
    const { home, store, supervisor, disks, images } = this.#deps;
    const [checkedShares, procFiles] = await this.#checkedPaths(who, body);
    const id = newId('vm');
    const record = this.#recordOf(who, id, body, procFiles);
    this.#requireFreeName(record.tenant, record.name);
    const image = images.find(body.image, 'image');
    const folder = home.file('vms', id);
    const cow = home.file('vms', id, 'ubd0.cow');
    fs.mkdirSync(folder, { mode: 0o700 });
    try {
      const sizeBytes = disks.makeCow(cow, image.id);
      store.transaction(() => {
        this.insert(record);
        this.#recordRoot(record, sizeBytes, body.root_disk);
        for (const { disk } of body.disks) disks.attach(who, this.#row(id), { disk });
        this.#addShares(id, checkedShares);
        this.#deps.cloudInits.set(id, body.cloud_init);
      });
    } catch (error) {
      fs.rmSync(folder, { recursive: true, force: true });
      throw error;
    }
    const instance = supervisor.add(id);
    if (body.start) this.#operation('vm.start', this.#row(id), () => instance.start());
    return this.get(who, id);
  }

  /** All checks of `create`, and what it would make. */
  async plan(who: Principal, body: VmCreate): Promise<VmPlan> {
    const { store, disks, admission, images, nics } = this.#deps;
    const [checkedShares, procFiles] = await this.#checkedPaths(who, body);
    const id = newId('vm');
    const sizeBytes = store.disks.imageLayer(images.find(body.image, 'image').id)?.size_bytes ?? 0;
    try {
      store.transaction(() => {
        const record = this.#recordOf(who, id, body, procFiles);
        this.insert(record);
        this.#recordRoot(record, sizeBytes, body.root_disk);
        for (const { disk } of body.disks) disks.attach(who, this.#row(id), { disk });
        this.#addShares(id, checkedShares);
        this.#deps.cloudInits.set(id, body.cloud_init);
        const cards = nics.views([id]).get(id) ?? [];
        throw new DryRun(this.#row(id), store.disks.ofVm(id), cards, store.shares.ofVms([id]));
      });
    } catch (error) {
      if (!(error instanceof DryRun)) throw error;
      const vm = vmView(
        error.vm,
        await Promise.all(error.disks.map((disk) => disks.view(disk))),
        error.nics,
        error.shares,
        consoleNames(1),
        body.cloud_init ?? undefined,
      );
      if (body.start) this.#wouldFit(error.vm.memory_bytes);
      return { dry_run: true, vm, memory_available_bytes: admission.availableBytes };
    }
    throw new AppError('internal', 'the dry run came to no result');
  }

  /** Writes a VM down in the running transaction: `created`, with its NICs, without disks. */
  insert(record: VmRecord): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      this.#requireFreeName(record.tenant, record.name);
      store.vms.insert({
        id: record.id,
        tenant: record.tenant,
        name: record.name,
        state: 'created',
        image_id: record.imageId,
        memory_bytes: record.memoryBytes,
        append: record.append,
        autostart: record.autostart,
        debug_exit_port: record.debugExitPort,
        jit_code_bytes: record.jitCodeBytes ?? null,
        labels: JSON.stringify(record.labels),
        watch: JSON.stringify(record.watch ?? []),
        proc_files: JSON.stringify(record.procFiles ?? []),
        created_at: Date.now(),
      });
      for (const nic of record.nics) this.#deps.nics.insert(record.id, nic);
      events.append({
        type: 'vm.created',
        tenant: record.tenant,
        resource: { type: 'vm', id: record.id },
        data: { name: record.name },
      });
    });
  }

  /** `version`: refused with `precondition_failed` when the VM has another one. */
  async update(who: Principal, ref: string, body: VmUpdate, version?: number): Promise<Vm> {
    const { store, admission } = this.#deps;
    const { id } = this.find(who, ref);
    const instance = this.#deps.supervisor.get(id);
    await instance.exclusive(async () => {
      requireVersion(this.#row(id), version);
      const procFiles =
        body.proc_files === undefined ? undefined : await this.#deps.procFiles.checked(who, body.proc_files);
      if (body.memory_bytes !== undefined) {
        admission.checkBounds(body.memory_bytes);
        // A guest that runs gives memory away, and gets it back.
        if (instance.hasMachine)
          await instance.machine().request({ type: 'memory', bytes: body.memory_bytes });
      }
      store.transaction(() => {
        const vm = this.#row(id);
        const fixed = (['name', 'append'] as const).find((field) => body[field] !== undefined);
        if (fixed !== undefined) this.requireHalted(vm, fixed);
        if (body.name !== undefined && body.name !== vm.name) this.#requireFreeName(vm.tenant, body.name);
        const labels = body.labels === undefined ? vm.labels : JSON.stringify(body.labels);
        const watch = body.watch === undefined ? vm.watch : JSON.stringify(body.watch);
        const proc_files = procFiles === undefined ? vm.proc_files : JSON.stringify(procFiles);
        const { name, memory_bytes, append, autostart, jit_code_bytes } = { ...vm, ...definedOf(body) };
        if (body.cloud_init !== undefined) this.#deps.cloudInits.set(id, body.cloud_init);
        const config = { name, memory_bytes, append, autostart, jit_code_bytes, labels, watch, proc_files };
        store.vms.setConfig(id, config, Date.now());
        this.#updated(vm);
      });
      if (body.watch !== undefined) await this.#deps.supervisor.watch(id, body.watch);
      if (procFiles !== undefined) await this.#deps.supervisor.setProcFiles(id);
    });
    if (body.cloud_init !== undefined) await this.#deps.plugged.configureAll(id);
    return this.get(who, id);
  }

  async delete(who: Principal, ref: string, force: boolean, version?: number): Promise<void> {
    const { store, events, disks, supervisor } = this.#deps;
    const { id } = this.find(who, ref);
    const instance = supervisor.get(id);
    if (force && instance.hasMachine) await instance.halt().catch(ignoreConflict);
    await instance.delete(() => {
      const files = store.transaction(() => {
        const vm = this.#row(id);
        requireVersion(vm, version);
        const dropped = disks.dropOf(vm);
        for (const { device } of store.vms.nicsOf(id)) this.#deps.addresses.takeBack(id, device);
        store.vms.remove(id);
        const resource = { type: 'vm', id } as const;
        events.append({ type: 'vm.deleted', tenant: vm.tenant, resource, data: { name: vm.name } });
        return dropped;
      });
      for (const disk of files) disks.removeFile(disk);
      this.#removeFolder(id);
      supervisor.forget(id);
      this.#deps.merges.collect();
    });
  }

  /** Layers in it that others are over stay. */
  #removeFolder(id: string): void {
    const { home, store } = this.#deps;
    const folder = home.file('vms', id);
    const kept = new Set(store.layers.paths());
    for (const name of fs.readdirSync(folder)) {
      const file = home.file('vms', id, name);
      if (!kept.has(home.relative(file))) fs.rmSync(file, { recursive: true, force: true });
    }
    removeVmFolder(this.#deps, folder);
  }

  /** The VM when it is in `state`, or as it is after the timeout. `not_found` when it is deleted meanwhile. */
  async wait(
    who: Principal,
    ref: string,
    state: VmState,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<Vm> {
    const { id } = this.find(who, ref);
    const reached = (): true | undefined => (this.find(who, id).state === state ? true : undefined);
    await this.#deps.events.waitFor(reached, timeoutMs, signal);
    return this.get(who, id);
  }

  start(who: Principal, ref: string): Operation {
    const vm = this.find(who, ref);
    const instance = this.#deps.supervisor.get(vm.id);
    if (instance.hasMachine)
      throw new AppError('conflict', `the VM is ${instance.state} already`, { field: 'state' });
    return this.#operation('vm.start', vm, () => instance.start());
  }

  halt(who: Principal, ref: string): Operation {
    const { vm, instance } = this.#withMachine(who, ref);
    return this.#operation('vm.halt', vm, () => instance.halt());
  }

  reboot(who: Principal, ref: string): Operation {
    const { vm, instance } = this.#withMachine(who, ref);
    return this.#operation('vm.reboot', vm, () => instance.reboot());
  }

  /** The power button; the operation ends when the guest has powered off. */
  shutdown(who: Principal, ref: string): Operation {
    const { vm, instance } = this.#withMachine(who, ref);
    const task = async (signal: AbortSignal): Promise<void> => {
      await instance.request({ type: 'power-button' });
      const ended = instance.runEnded().then(() => true as const);
      const aborted = new Promise<undefined>((resolve) =>
        signal.addEventListener('abort', () => resolve(undefined), { once: true }),
      );
      const late = AbortSignal.timeout(SHUTDOWN_TIMEOUT_MS);
      const timedOut = new Promise<'late'>((resolve) =>
        late.addEventListener('abort', () => resolve('late')),
      );
      const result = await Promise.race([ended, aborted, timedOut]);
      if (result === undefined) throw signal.reason instanceof Error ? signal.reason : canceled();
      if (result === 'late') {
        const detail = `the guest did not power off within ${SHUTDOWN_TIMEOUT_MS / 1000} s`;
        throw new AppError('guest_not_responding', detail, { remedy: 'halt the VM' });
      }
    };
    return this.#operation('vm.shutdown', vm, task, true);
  }

  async stats(who: Principal, ref: string): Promise<VmStats> {
    const { vm, instance } = this.#withMachine(who, ref);
    // INVARIANT: the machine answers a `stats` request with MachineStats.
    const stats = (await instance.request({ type: 'stats' })) as MachineStats;
    return statsView(stats, await this.#deps.plugged.drops(vm.id));
  }

  requireHalted(vm: VmRow, field: string): void {
    if (!this.#deps.supervisor.get(vm.id).hasMachine) return;
    throw new AppError('conflict', `the VM is ${vm.state}; this can be changed only while it does not run`, {
      field,
      remedy: 'halt it first',
    });
  }

  #operation(
    kind: OperationKind,
    vm: VmRow,
    task: (signal: AbortSignal) => Promise<void>,
    mayCancel = false,
  ): Operation {
    const resources = [{ type: 'vm', id: vm.id }] as const;
    return this.#deps.operations.run({ kind, tenant: vm.tenant, resources, mayCancel }, task);
  }

  #withMachine(who: Principal, ref: string): { vm: VmRow; instance: Instance } {
    const vm = this.find(who, ref);
    const instance = this.#deps.supervisor.get(vm.id);
    if (!instance.hasMachine && instance.state !== 'starting') {
      throw new AppError('conflict', `the VM is ${instance.state}, not running`, {
        field: 'state',
        remedy: 'start it first',
      });
    }
    return { vm, instance };
  }

  #recordOf(who: Principal, id: string, body: VmCreate, procFiles: readonly ProcFile[]): VmRecord {
    const memoryBytes = body.memory_bytes ?? MEMORY_DEFAULT_BYTES;
    this.#deps.admission.checkBounds(memoryBytes);
    const nics = body.nics.map((nic, index) =>
      this.#deps.nics.plan(who, id, `eth${index}`, nic, `nics[${index}]`),
    );
    return {
      id,
      tenant: who.tenant,
      name: body.name ?? madeUpName(),
      imageId: this.#deps.images.find(body.image, 'image').id,
      memoryBytes,
      append: body.append,
      autostart: body.autostart,
      debugExitPort: body.debug_exit_port,
      jitCodeBytes: body.jit_code_bytes,
      labels: body.labels,
      watch: body.watch,
      procFiles,
      nics,
    };
  }

  /** What names files of the host. */
  #checkedPaths(who: Principal, body: VmCreate): Promise<[ShareCreate[], ProcFile[]]> {
    const { shares, procFiles } = this.#deps;
    return Promise.all([shares.checked(who, body.shares), procFiles.checked(who, body.proc_files)]);
  }

  #addShares(vmId: string, shares: readonly ShareCreate[]): void {
    for (const [index, share] of shares.entries()) this.#deps.shares.add(vmId, share, `shares[${index}].`);
  }

  #recordRoot(record: VmRecord, sizeBytes: number, settings: DiskSettings): void {
    const { disks, store } = this.#deps;
    disks.record({
      id: newId('disk'),
      tenant: record.tenant,
      name: `${record.id}-ubd0`,
      vmId: record.id,
      device: 'ubd0',
      readOnly: false,
      ownedByVm: true,
      kind: 'cow',
      path: `vms/${record.id}/ubd0.cow`,
      sizeBytes,
      parentLayerId: store.disks.imageLayer(record.imageId)?.id,
      settings,
    });
  }

  #wouldFit(memoryBytes: number): void {
    const probe = 'dry-run';
    this.#deps.admission.reserve(probe, memoryBytes);
    this.#deps.admission.release(probe);
  }

  #requireFreeName(tenant: string, name: string): void {
    const taken = this.#deps.store.vms.byName(name).some((vm) => vm.tenant === tenant);
    if (taken) throw nameTaken('VM', name);
  }

  #consolesOf(id: string): string[] {
    return this.#deps.supervisor
      .get(id)
      .consoles.list()
      .map(({ name }) => name);
  }

  #updated(vm: VmRow): void {
    this.#deps.events.append({ type: 'vm.updated', tenant: vm.tenant, resource: { type: 'vm', id: vm.id } });
  }

  #row(id: string): VmRow {
    return this.find(SYSTEM, id);
  }

  /** A constant number of queries, however many VMs. */
  async #views(who: Principal, rows: readonly VmRow[]): Promise<Vm[]> {
    const { store, nics } = this.#deps;
    const ids = rows.map((row) => row.id);
    const disks = Map.groupBy(store.disks.ofVms(ids), (disk) => disk.vm_id);
    const shares = Map.groupBy(store.shares.ofVms(ids), (share) => share.vm_id);
    const nicViews = await nics.withStates(who, nics.views(ids));
    const cloudInits = this.#deps.cloudInits.views(ids);
    const views = rows.map(async (row) => {
      const own = await Promise.all((disks.get(row.id) ?? []).map((disk) => this.#deps.disks.view(disk)));
      const ownNics = nicViews.get(row.id) ?? [];
      const ownShares = shares.get(row.id) ?? [];
      return vmView(row, own, ownNics, ownShares, this.#consolesOf(row.id), cloudInits.get(row.id));
    });
    return await Promise.all(views);
  }
}

function requireVersion(vm: VmRow, version: number | undefined): void {
  if (version === undefined || version === vm.version) return;
  throw new AppError('precondition_failed', `the VM has version ${vm.version}, not ${version}`, {
    field: 'If-Match',
    remedy: 'read the VM again, then repeat the change if it still makes sense',
  });
}

function definedOf<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  // INVARIANT: only undefined is left out.
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
}

/** It has ended by itself before it was halted. */
function ignoreConflict(error: unknown): void {
  if (!(error instanceof AppError && error.code === 'conflict')) throw error;
}
