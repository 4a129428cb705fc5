/** Disks: raw files and copy-on-write files over images, and where they are attached. */
import * as fs from 'node:fs';
import {
  type AttachDisk,
  DISKS_MAX,
  type Disk,
  type DiskCreate,
  type DiskSettings,
  type Page,
} from '../../contracts/api/index.ts';
import { AppError, systemErrorCode } from '../../contracts/errors.ts';
import type { DiskConfig } from '../../contracts/machine.ts';
import type { DiskRow, Store, VmRow } from '../../db/index.ts';
import { backingFileOf, createCow } from '../../storage/index.ts';
import { findOwned, iso, type Principal, pageOfRows, tenantFilter } from '../access.ts';
import type { EventLog } from '../events.ts';
import type { Home } from '../home.ts';
import type { HostPaths } from '../host-paths.ts';
import { madeUpName, newId } from '../ids.ts';
import type { ImageLibrary } from '../ports.ts';
import { changedSettings, limitsView, settingsOf } from './disk-settings.ts';
import type { Images } from './images.ts';
import { layerConfig } from './layer-files.ts';
import { nameTaken } from './networks.ts';

export interface DiskDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly home: Home;
  readonly library: ImageLibrary;
  readonly images: Images;
  readonly hostPaths: HostPaths;
}

/** The file of a disk. */
export interface DiskContent {
  readonly kind: 'cow' | 'raw' | 'external';
  /** As the database has it. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly parentLayerId?: string | undefined;
  readonly originLayerId?: string | undefined;
}

/** A disk file of the daemon's that is to be written down. */
export interface DiskRecord extends DiskContent {
  readonly id: string;
  readonly tenant: string;
  readonly name: string;
  readonly vmId: string | null;
  readonly device: string | null;
  readonly readOnly: boolean;
  readonly ownedByVm: boolean;
  readonly settings?: DiskSettings | undefined;
}

/** A file of the operator's as a disk. */
export interface AttachedFile {
  /** The COW file where there is a backing file. */
  readonly file: string;
  readonly backing: string | undefined;
  readonly readOnly: boolean;
  /** Not to be taken for a COW file. */
  readonly plain: boolean;
}

/** With real paths. */
export interface CheckedFile extends AttachedFile {
  /** The COW file is not there yet. */
  readonly isMissing: boolean;
}

export class Disks {
  readonly #deps: DiskDeps;
  /** Layers below a disk that is gone may be needed by nobody now. */
  onForgotten: () => void = () => undefined;

  constructor(deps: DiskDeps) {
    this.#deps = deps;
  }

  async list(
    who: Principal,
    query: { limit: number; cursor?: string | undefined; name?: string | undefined },
  ): Promise<Page<Disk>> {
    const read = (after: number, limit: number): DiskRow[] =>
      this.#deps.store.disks.page({ after, limit, tenant: tenantFilter(who) }, query.name);
    const page = pageOfRows(query, read, (rows) => rows);
    return { ...page, items: await Promise.all(page.items.map((row) => this.view(row))) };
  }

  get(who: Principal, ref: string): Promise<Disk> {
    return this.view(this.find(who, ref));
  }

  find(who: Principal, ref: string, field?: string): DiskRow {
    return findOwned(who, 'disk', ref, this.#deps.store.disks, field);
  }

  async create(who: Principal, body: DiskCreate): Promise<Disk> {
    const { home, store } = this.#deps;
    const name = body.name ?? madeUpName();
    this.requireFreeName(who.tenant, name);
    const id = newId('disk');
    const image = body.image === undefined ? undefined : this.#deps.images.find(body.image, 'image');
    const file = home.file('disks', image === undefined ? `${id}.img` : `${id}.cow`);
    const size = image === undefined ? makeSparse(file, body.size_bytes ?? 0) : this.makeCow(file, image.id);
    const parentLayerId = image === undefined ? undefined : store.disks.imageLayer(image.id)?.id;
    try {
      this.record({
        id,
        tenant: who.tenant,
        name,
        vmId: null,
        device: null,
        readOnly: body.read_only,
        ownedByVm: false,
        kind: image === undefined ? 'raw' : 'cow',
        path: home.relative(file),
        sizeBytes: size,
        parentLayerId,
        settings: body,
      });
    } catch (error) {
      fs.rmSync(file, { force: true });
      throw error;
    }
    return await this.get(who, id);
  }

  /** Writes new settings down; a machine that has the disk is the caller's to tell. */
  updateSettings(disk: DiskRow, change: DiskSettings): DiskRow {
    const { store, events } = this.#deps;
    const settings = changedSettings(change, disk);
    store.transaction(() => {
      store.disks.setSettings(disk.id, settings);
      events.append({
        type: 'disk.updated',
        tenant: disk.tenant,
        resource: { type: 'disk', id: disk.id },
        data: { name: disk.name, limits: limitsView(settings), on_error: settings.on_error },
      });
    });
    return { ...disk, ...settings };
  }

  /** `in_use` while it is attached. The file goes last: without its record it is only garbage. */
  delete(who: Principal, ref: string): void {
    const disk = this.find(who, ref);
    if (disk.vm_id !== null) {
      throw new AppError('in_use', `the disk is ${disk.device} of VM ${disk.vm_id}`, {
        field: 'disk',
        remedy: 'detach it first',
      });
    }
    this.#deps.store.transaction(() => this.forget(disk));
    this.removeFile(disk);
    this.onForgotten();
  }

  /** Attaches to a VM that the caller keeps from running. `in_use`, `conflict`, `quota_exceeded`. */
  attach(who: Principal, vm: VmRow, { disk: ref, device, read_only }: AttachDisk): void {
    const { store } = this.#deps;
    store.transaction(() => {
      const disk = this.find(who, ref, 'disk');
      if (disk.vm_id !== null) {
        throw new AppError('in_use', `disk ${disk.name} is ${disk.device} of VM ${disk.vm_id}`, {
          field: 'disk',
          remedy: 'detach it there first',
        });
      }
      const at = this.#deviceFor(vm.id, device);
      store.disks.attach(disk.id, vm.id, at, read_only ?? disk.read_only === 1);
      this.#changed('disk.attached', vm, disk, at);
    });
  }

  /** Before `attachFile`. AppErrors: `forbidden` unless its path is allowed, `not_found`, `unreachable`. */
  async checkFile({ file, backing, ...rest }: AttachedFile): Promise<CheckedFile> {
    const { hostPaths } = this.#deps;
    if (backing === undefined) {
      const path = await hostPaths.check(file, 'value');
      return { ...rest, file: path, backing, isMissing: false };
    }
    const { path, isMissing } = await hostPaths.checkNew(file, 'value');
    return { ...rest, file: path, backing: await hostPaths.check(backing, 'value'), isMissing };
  }

  /** Attaches a file of the operator's. With `backing` it is a COW file, which is made if it is not there. */
  attachFile(vm: VmRow, device: string, { file, backing, readOnly, plain, isMissing }: CheckedFile): void {
    const { store } = this.#deps;
    if (backing !== undefined && isMissing) createCow(file, backing);
    if (backing === undefined && !plain) requireNoCow(file);
    const sizeBytes = sizeOfFile(backing ?? file);
    store.transaction(() => {
      if (store.disks.byPath(file) !== undefined) {
        throw new AppError('in_use', `${file} is attached already`, { field: 'value' });
      }
      const at = this.#deviceFor(vm.id, device);
      const id = newId('disk');
      const parentLayerId = backing === undefined ? undefined : this.#externalLayer(backing, sizeBytes);
      this.record({
        id,
        tenant: vm.tenant,
        name: madeUpName(),
        vmId: vm.id,
        device: at,
        readOnly,
        ownedByVm: true,
        kind: 'external',
        path: file,
        sizeBytes,
        parentLayerId,
      });
      this.#changed('disk.attached', vm, { id }, at);
    });
  }

  /** `not_found` when the device is not there. */
  detach(vm: VmRow, device: string): void {
    const { store } = this.#deps;
    store.transaction(() => {
      const disk = store.disks.ofVm(vm.id).find((row) => row.device === device);
      if (disk === undefined) {
        throw new AppError('not_found', `the VM has no ${device}`, { field: 'device' });
      }
      this.#changed('disk.detached', vm, disk, device);
      // Nobody but the VM knew an operator's file: it is left alone and forgotten.
      if (disk.layer_kind === 'external') this.forget(disk);
      else store.disks.detach(disk.id, disk.read_only === 1);
    });
  }

  /** For a VM that is deleted: removes its own disks' records (their files are the result), detaches the others. */
  dropOf(vm: VmRow): DiskRow[] {
    const disks = this.#deps.store.disks.ofVm(vm.id);
    for (const disk of disks) {
      if (disk.owned_by_vm === 1) this.forget(disk);
      else this.#deps.store.disks.detach(disk.id, disk.read_only === 1);
    }
    return disks.filter((disk) => disk.owned_by_vm === 1);
  }

  record(disk: DiskRecord): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      this.requireFreeName(disk.tenant, disk.name);
      const layerId = newId('layer');
      const created_at = Date.now();
      store.disks.insertLayer({
        id: layerId,
        kind: disk.kind,
        parent_id: disk.parentLayerId ?? null,
        origin_id: disk.originLayerId ?? null,
        image_id: null,
        path: disk.path,
        size_bytes: disk.sizeBytes,
        created_at,
      });
      store.disks.insert({
        id: disk.id,
        tenant: disk.tenant,
        name: disk.name,
        layer_id: layerId,
        vm_id: disk.vmId,
        device: disk.device,
        read_only: Number(disk.readOnly),
        owned_by_vm: Number(disk.ownedByVm),
        created_at,
        ...changedSettings(disk.settings ?? {}),
      });
      events.append({
        type: 'disk.created',
        tenant: disk.tenant,
        resource: { type: 'disk', id: disk.id },
        data: { name: disk.name, vm_id: disk.vmId },
      });
    });
  }

  /**
   * Gives a disk of ours a file that has been made as its content, in the running transaction, with nobody using it. The layer that
   * it had is for `onForgotten` to remove, unless others need it.
   */
  replaceContent(disk: DiskRow, content: DiskContent): void {
    const { store } = this.#deps;
    const id = newId('layer');
    store.disks.insertLayer({
      id,
      kind: content.kind,
      parent_id: content.parentLayerId ?? null,
      origin_id: content.originLayerId ?? null,
      image_id: null,
      path: content.path,
      size_bytes: content.sizeBytes,
      created_at: Date.now(),
    });
    store.disks.setLayer(disk.id, id);
  }

  /** The raw file of an image's disk. */
  imageFile(imageId: string): string {
    return this.#deps.library.get(imageId).disk;
  }

  forget(disk: DiskRow): void {
    const { store, events } = this.#deps;
    store.disks.remove(disk);
    events.append({
      type: 'disk.deleted',
      tenant: disk.tenant,
      resource: { type: 'disk', id: disk.id },
      data: { name: disk.name },
    });
  }

  /** Never an operator's own. */
  removeFile(disk: DiskRow): void {
    if (disk.layer_kind !== 'external') fs.rmSync(this.#deps.home.absolute(disk.path), { force: true });
  }

  /** An empty COW file over an image's disk; its size as the guest sees it. */
  makeCow(file: string, imageId: string): number {
    return createCow(file, this.#deps.library.get(imageId).disk).sizeBytes;
  }

  /** How the machine opens a disk that is attached. */
  config(disk: DiskRow): DiskConfig {
    const tracking = this.#deps.home.file('changes', disk.id);
    const common = {
      device: disk.device ?? '',
      readOnly: disk.read_only === 1,
      tracking,
      ...settingsOf(disk),
      ...(disk.ubd_flags.includes('s') && { synchronous: true }),
      ...(disk.ubd_flags.includes('t') && { noDiscard: true }),
    };
    return { ...common, ...layerConfig(this.#deps, disk.layer_id) };
  }

  async view(disk: DiskRow): Promise<Disk> {
    const file = this.#deps.home.absolute(disk.path);
    return {
      id: disk.id,
      name: disk.name,
      vm_id: disk.vm_id,
      device: disk.device,
      format: disk.layer_kind === 'cow' || disk.parent_path !== null ? 'cow' : 'raw',
      size_bytes: disk.size_bytes,
      allocated_bytes: await this.#deps.hostPaths.allocatedBytes(file),
      read_only: disk.read_only === 1,
      image_id: disk.image_id,
      path: disk.layer_kind === 'external' ? disk.path : null,
      owned_by_vm: disk.owned_by_vm === 1,
      limits: limitsView(disk),
      on_error: disk.on_error,
      created_at: iso(disk.created_at),
    };
  }

  #externalLayer(path: string, sizeBytes: number): string {
    const id = newId('layer');
    this.#deps.store.disks.insertLayer({
      id,
      kind: 'external',
      parent_id: null,
      origin_id: null,
      image_id: null,
      path,
      size_bytes: sizeBytes,
      created_at: Date.now(),
      frozen: true,
    });
    return id;
  }

  #deviceFor(vmId: string, wanted: string | undefined): string {
    const taken = new Set(this.#deps.store.disks.ofVm(vmId).map((disk) => disk.device));
    if (wanted !== undefined) {
      if (!taken.has(wanted)) return wanted;
      throw new AppError('conflict', `the VM has a ${wanted} already`, {
        field: 'device',
        remedy: 'remove it first, or use another device',
      });
    }
    for (let index = 0; index < DISKS_MAX; index++) if (!taken.has(`ubd${index}`)) return `ubd${index}`;
    throw new AppError('quota_exceeded', `the VM has ${DISKS_MAX} disks, which is the most`, {
      field: 'disk',
    });
  }

  /** `already_exists`. */
  requireFreeName(tenant: string, name: string): void {
    const taken = this.#deps.store.disks.byName(name).some((disk) => disk.tenant === tenant);
    if (taken) throw nameTaken('disk', name);
  }

  #changed(
    type: 'disk.attached' | 'disk.detached',
    vm: VmRow,
    disk: { readonly id: string },
    device: string,
  ): void {
    this.#deps.store.vms.touch(vm.id, Date.now());
    this.#deps.events.append({
      type,
      tenant: vm.tenant,
      resource: { type: 'disk', id: disk.id },
      data: { vm_id: vm.id, device },
    });
  }
}

/** A file of zeros that takes no space; durable. */
function makeSparse(file: string, sizeBytes: number): number {
  const fd = fs.openSync(file, 'wx', 0o600);
  try {
    fs.ftruncateSync(fd, sizeBytes);
    fs.fsyncSync(fd);
  } catch (error) {
    fs.rmSync(file, { force: true });
    if (systemErrorCode(error) === 'EFBIG') {
      throw new AppError('invalid_input', `the host's file system cannot hold a file of ${sizeBytes} bytes`, {
        field: 'size_bytes',
        remedy: 'choose a smaller size',
        cause: error,
      });
    }
    throw error;
  } finally {
    fs.closeSync(fd);
  }
  return sizeBytes;
}

function sizeOfFile(file: string): number {
  const stat = fs.statSync(file);
  if (stat.isFile() && stat.size > 0) return stat.size;
  throw new AppError('bad_image', `${file} is ${stat.isFile() ? 'empty' : 'no regular file'}`, {
    field: 'value',
    remedy: 'name a disk image',
  });
}

/** A guest that has had the file may have written the header of a COW file itself, with any path: nothing is opened on its word. */
function requireNoCow(path: string): void {
  const named = backingFileOf(path);
  if (named === undefined) return;
  throw new AppError('invalid_input', `${path} is a COW file over ${named}`, {
    field: 'value',
    remedy: 'name that one too, as in ubd1=COW,BACKING; or give the flag d, ubd1d=FILE, for a plain disk',
  });
}
