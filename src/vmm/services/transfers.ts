/** Disks that come in and go out as files, over the API. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  DISK_SIZE_MAX_BYTES,
  type DiskExport,
  type DiskImportQuery,
  type DiskToImage,
  type Operation,
} from '../../contracts/api/index.ts';
import { AppError, systemErrorCode, toAppError } from '../../contracts/errors.ts';
import type { DiskConfig } from '../../contracts/machine.ts';
import type { DiskRow } from '../../db/index.ts';
import { type ConvertOptions, convertDisk, detectFormat, exportDisk } from '../../storage/index.ts';
import { notFound, type Principal, SYSTEM } from '../access.ts';
import { madeUpName, newId } from '../ids.ts';
import { bytesOf, type Operations } from '../operations.ts';
import type { Disks } from './disks.ts';
import type { Images } from './images.ts';
import { type LayerFileDeps, layerConfig } from './layer-files.ts';
import type { Snapshots } from './snapshots.ts';
import type { Supervisor } from './supervisor.ts';

/** How long a file that was made for download is kept. */
const KEEP_MS = 24 * 3600 * 1000;

export interface TransferDeps extends LayerFileDeps {
  readonly operations: Operations;
  readonly disks: Disks;
  readonly images: Images;
  readonly supervisor: Supervisor;
  readonly snapshots: Snapshots;
}

export interface Download {
  readonly file: string;
  /** For whoever keeps it. */
  readonly name: string;
  readonly sizeBytes: number;
}

export class Transfers {
  readonly #deps: TransferDeps;

  constructor(deps: TransferDeps) {
    this.#deps = deps;
  }

  /**
   * Makes a file of a disk, which is then at the operation's `file`. Of a disk of a VM that runs as it is at a moment: in a
   * snapshot that is deleted again. AppErrors: those of snapshots; `unsupported` for a backing file without an image.
   */
  export(who: Principal, ref: string, body: DiskExport): Operation {
    const { disks, operations } = this.#deps;
    const disk = disks.find(who, ref);
    const backing = body.backing_file === null ? undefined : this.#imageBelow(disk);
    const resources = [{ type: 'disk', id: disk.id }] as const;
    return operations.run(
      { kind: 'disk.export', tenant: disk.tenant, resources, mayCancel: true },
      async (signal, progress, id) => {
        const folder = this.#folder(id);
        fs.mkdirSync(folder, { mode: 0o700 });
        const to = path.join(folder, `${disk.name}.${body.format === 'raw' ? 'img' : 'qcow2'}`);
        const options = { qcow2: qcow2Of(body), backing, backingName: body.backing_file ?? undefined };
        try {
          await this.#atRest(disk, id, (config) =>
            exportDisk(config, to, { ...options, signal, onProgress: bytesOf(progress) }),
          );
        } catch (error) {
          fs.rmSync(folder, { recursive: true, force: true });
          throw error;
        }
      },
    );
  }

  /** Calls `read` with a configuration of the disk that nobody writes to. */
  async #atRest(
    disk: DiskRow,
    operationId: string,
    read: (config: DiskConfig) => Promise<void>,
  ): Promise<void> {
    const { store, disks, supervisor, snapshots } = this.#deps;
    if (disk.vm_id === null || !supervisor.get(disk.vm_id).hasMachine) return await read(disks.config(disk));
    const vmId = disk.vm_id;
    const { id } = await snapshots.create(SYSTEM, vmId, { name: snapshotName(operationId), quiesce: true });
    try {
      const frozen = store.snapshots.disks([id]).find(({ disk_id }) => disk_id === disk.id);
      if (frozen === undefined) throw notFound('disk', disk.id);
      const layers = layerConfig(this.#deps, frozen.layer_id);
      await read({ device: frozen.device, readOnly: true, ...layers });
    } finally {
      await snapshots.delete(SYSTEM, vmId, id).catch((error: unknown) => {
        // Somebody has deleted it, or the VM.
        if (!['locked', 'not_found'].includes(toAppError(error).code)) throw error;
      });
    }
  }

  /** The file of the image that a disk is over, in the end. */
  #imageBelow(disk: DiskRow): string {
    const { store, library } = this.#deps;
    const imageId = store.layers.chain(disk.layer_id).at(-1)?.image_id ?? null;
    if (imageId !== null) return library.get(imageId).disk;
    throw new AppError('unsupported', 'the disk is over no image', {
      field: 'backing_file',
      remedy: 'leave it out, or rebase the disk to an image first',
    });
  }

  /** What an operation has made for download. `not_found`. */
  download(who: Principal, operationId: string): Download {
    const { id } = this.#deps.operations.get(who, operationId);
    const folder = this.#folder(id);
    const name = readFolder(folder).find((file) => !file.endsWith('.partial'));
    const stat = name === undefined ? undefined : fs.statSync(path.join(folder, name));
    if (name !== undefined && stat !== undefined)
      return { file: path.join(folder, name), name, sizeBytes: stat.size };
    throw new AppError('not_found', `the operation ${id} has no file`, {
      field: 'operation',
      remedy: 'export the disk again, and wait for the end of the operation: its file is kept for a day',
    });
  }

  /** Removes it earlier than after a day. */
  drop(who: Principal, operationId: string): void {
    fs.rmSync(path.dirname(this.download(who, operationId).file), { recursive: true, force: true });
  }

  /** Takes a raw or qcow2 file in, then makes a disk of it. A qcow2 file must be independent of others. */
  async import(who: Principal, { name, format }: DiskImportQuery, body: Readable): Promise<Operation> {
    const { disks, operations } = this.#deps;
    const diskName = name ?? madeUpName();
    disks.requireFreeName(who.tenant, diskName);
    // A folder of its own: a qcow2 file may name files beside it.
    const folder = this.#folder(newId('up'));
    const file = path.join(folder, 'disk');
    fs.mkdirSync(folder, { mode: 0o700 });
    try {
      await receive(body, file);
      const found = format ?? detectFormat(file);
      if (found === 'cow') throw noCow();
      return operations.run(
        { kind: 'disk.import', tenant: who.tenant, resources: [], mayCancel: true },
        async (signal, progress, id) => {
          try {
            const onProgress = bytesOf(progress);
            const diskId = await this.#make(who, diskName, (to) =>
              convertDisk(file, to, { format: found, signal, onProgress }),
            );
            operations.addResource(id, { type: 'disk', id: diskId });
          } finally {
            fs.rmSync(folder, { recursive: true, force: true });
          }
        },
      );
    } catch (error) {
      fs.rmSync(folder, { recursive: true, force: true });
      throw error;
    }
  }

  /** An image whose disk, kernel and initial RAM disk are those of a raw disk. */
  async toImage(who: Principal, ref: string, { name, append }: DiskToImage): Promise<Operation> {
    const { disks, images, supervisor } = this.#deps;
    const disk = disks.find(who, ref);
    supervisor.requireNoMachine(disk, 'halt the VM first');
    const { file, cow } = disks.config(disk);
    if (cow === undefined) return await images.importFile({ name, disk: file, append }, who);
    throw new AppError('unsupported', `the disk ${disk.name} is a copy-on-write disk`, {
      field: 'disk',
      remedy: 'export it and import the file as a disk, which is whole then',
    });
  }

  /** Files that nobody has fetched, and what a daemon that ended has left. */
  sweep(now = Date.now()): void {
    const root = this.#deps.home.file('transfers');
    for (const name of readFolder(root)) {
      const stat = fs.statSync(path.join(root, name), { throwIfNoEntry: false });
      if (stat !== undefined && now - stat.mtimeMs > KEEP_MS)
        fs.rmSync(path.join(root, name), { recursive: true, force: true });
    }
  }

  /** At start: what was cut off, with the snapshots that were taken for it. Files for download stay. */
  async recover(): Promise<void> {
    const { store, snapshots } = this.#deps;
    for (const { id, vm_id, name } of store.snapshots.inState('available')) {
      const operation = SNAPSHOT_NAME.test(name) ? store.operations.get(operationOf(name)) : undefined;
      if (operation?.kind === 'disk.export') await snapshots.delete(SYSTEM, vm_id, id);
    }
    const root = this.#deps.home.file('transfers');
    for (const name of readFolder(root)) {
      const folder = path.join(root, name);
      const isDone = name.startsWith('op') && readFolder(folder).some((file) => !file.endsWith('.partial'));
      if (!isDone) fs.rmSync(folder, { recursive: true, force: true });
    }
  }

  async #make(who: Principal, name: string, write: (to: string) => Promise<void>): Promise<string> {
    const { disks, home } = this.#deps;
    const id = newId('disk');
    const file = home.file('disks', `${id}.img`);
    try {
      await write(file);
      const sizeBytes = Math.ceil(fs.statSync(file).size / 512) * 512;
      if (sizeBytes > DISK_SIZE_MAX_BYTES) {
        throw new AppError('quota_exceeded', `the disk has ${sizeBytes} bytes, which is too large`, {
          field: 'body',
        });
      }
      fs.truncateSync(file, sizeBytes);
      disks.record({
        id,
        tenant: who.tenant,
        name,
        vmId: null,
        device: null,
        readOnly: false,
        ownedByVm: false,
        kind: 'raw',
        path: home.relative(file),
        sizeBytes,
      });
      return id;
    } catch (error) {
      fs.rmSync(file, { force: true });
      throw error;
    }
  }

  #folder(id: string): string {
    return this.#deps.home.file('transfers', id);
  }
}

async function receive(body: Readable, file: string): Promise<void> {
  try {
    await pipeline(body, fs.createWriteStream(file, { mode: 0o600 }));
  } catch (error) {
    if (systemErrorCode(error) === 'ENOSPC') throw toAppError(error);
    throw new AppError('invalid_input', 'the upload was cut off', { field: 'body', cause: error });
  }
  if (fs.statSync(file).size > 0) return;
  throw new AppError('invalid_input', 'the upload is empty', {
    field: 'body',
    remedy: 'send the disk file as the body, application/octet-stream',
  });
}

function noCow(): AppError {
  return new AppError('unsupported', 'the file is a copy-on-write file without what is below it', {
    field: 'body',
    remedy: 'merge it first (umlaut moo), or say format=raw if it is a whole disk',
  });
}

function readFolder(folder: string): string[] {
  try {
    return fs.readdirSync(folder);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

/** Of the snapshot that an export is made from. */
const SNAPSHOT_NAME = /^export-[0-9a-f]+$/;

function snapshotName(operationId: string): string {
  return `export-${operationId.slice('op-'.length)}`;
}

function operationOf(name: string): string {
  return `op-${name.slice('export-'.length)}`;
}

function qcow2Of({ format, qcow2_version, compression }: DiskExport): ConvertOptions['qcow2'] {
  return format === 'raw' ? undefined : { version: qcow2_version, compression: compression ?? undefined };
}
