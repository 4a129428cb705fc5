/** Disks on new foundations: over another image, or over nothing. What the guest sees stays the same. */
import * as fs from 'node:fs';
import type { Operation } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { JobContext, JobPayloads, Jobs } from '../../contracts/jobs.ts';
import type { DiskRow } from '../../db/index.ts';
import { rebaseDisk } from '../../storage/index.ts';
import { notFound, type Principal } from '../access.ts';
import { newId } from '../ids.ts';
import type { Disks } from './disks.ts';
import type { Images } from './images.ts';
import { newLayerFile } from './layer-files.ts';
import type { LayerMergeDeps, LayerMerges } from './layer-merges.ts';

export interface RebaseDeps extends LayerMergeDeps {
  readonly disks: Disks;
  readonly images: Images;
  readonly merges: LayerMerges;
}

/** A disk whose content is being read. */
interface Reading {
  readonly diskId: string;
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

export class Rebases {
  readonly #deps: RebaseDeps;
  readonly #reading = new Set<Reading>();

  constructor(deps: RebaseDeps) {
    this.#deps = deps;
    deps.supervisor.beforeOpening((vmId) => this.#stop(vmId));
  }

  /**
   * Puts a disk over an image, or without one over nothing, and its layers so far are no longer its own. AppErrors: `conflict`
   * while its VM runs, `unsupported` for a file of the operator's, `invalid_input` for an image that is smaller.
   */
  begin(who: Principal, ref: string, imageRef: string | undefined): Promise<Operation> {
    const { disks, images, operations, store } = this.#deps;
    const disk = disks.find(who, ref);
    this.#requireIdle(disk);
    if (disk.layer_kind === 'external') {
      throw new AppError('unsupported', "the disk is a file of the operator's own", { field: 'disk' });
    }
    const image = imageRef === undefined ? undefined : images.find(imageRef, 'image');
    const sizeBytes = image === undefined ? undefined : store.disks.imageLayer(image.id)?.size_bytes;
    if (sizeBytes !== undefined && sizeBytes < disk.size_bytes) {
      throw new AppError(
        'invalid_input',
        `the image has ${sizeBytes} bytes, the disk ${disk.size_bytes}: it would lose its end`,
        { field: 'image', remedy: 'use an image of at least that size' },
      );
    }
    const resources = [{ type: 'disk', id: disk.id }] as const;
    return operations.enqueue(
      { kind: 'disk.rebase', tenant: disk.tenant, resources, mayCancel: true },
      'disk.rebase',
      (operationId) => ({ operationId, diskId: disk.id, imageId: image?.id ?? null }),
      { maxAttempts: 3 },
    );
  }

  processJobs(jobs: Jobs): void {
    jobs.process('disk.rebase', (payload, context) => this.#rebase(payload, context));
  }

  async #rebase({ diskId, imageId }: JobPayloads['disk.rebase'], context: JobContext): Promise<void> {
    const { store, home, library, merges } = this.#deps;
    const disk = store.disks.get(diskId);
    if (disk === undefined) throw notFound('disk', diskId);
    const base = imageId === null ? undefined : library.get(imageId).disk;
    const id = newId('layer');
    const file = newLayerFile(home, id);
    const { promise, resolve } = Promise.withResolvers<void>();
    const reading: Reading = { diskId, abort: new AbortController(), ended: promise };
    try {
      const sizeBytes = await this.#read(disk, reading, file, base, context).finally(resolve);
      await this.#idle(disk, () => {
        // A machine that has come and gone since may have written to it.
        reading.abort.signal.throwIfAborted();
        this.#take(disk, imageId, { id, path: home.relative(file), sizeBytes });
      });
    } catch (error) {
      fs.rmSync(file, { force: true });
      throw error;
    } finally {
      this.#reading.delete(reading);
    }
    merges.collect();
  }

  /** The size of what was written to `file`. */
  async #read(
    disk: DiskRow,
    reading: Reading,
    file: string,
    base: string | undefined,
    { signal, progress }: JobContext,
  ): Promise<number> {
    const config = await this.#idle(disk, () => {
      this.#reading.add(reading);
      return this.#deps.disks.config(disk);
    });
    return await rebaseDisk(config, file, {
      base,
      signal: AbortSignal.any([signal, reading.abort.signal]),
      onProgress: (done, total) => progress({ done, total, unit: 'bytes' }),
    });
  }

  /** Runs `task` with no machine on the disk. */
  #idle<T>(disk: DiskRow, task: () => Promise<T> | T): Promise<T> {
    const { store, supervisor } = this.#deps;
    const checked = (): Promise<T> | T => {
      const now = store.disks.get(disk.id);
      if (now?.layer_id !== disk.layer_id) throw changed();
      this.#requireIdle(now);
      return task();
    };
    if (disk.vm_id === null) return Promise.resolve().then(checked);
    return supervisor.get(disk.vm_id).exclusive(checked);
  }

  #take(
    disk: DiskRow,
    imageId: string | null,
    made: { readonly id: string; readonly path: string; readonly sizeBytes: number },
  ): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      const base = imageId === null ? undefined : store.disks.imageLayer(imageId);
      if (imageId !== null && base === undefined) throw notFound('image', imageId);
      store.layers.insert({
        id: made.id,
        kind: base === undefined ? 'raw' : 'cow',
        parent_id: base?.id ?? null,
        origin_id: disk.layer_id,
        image_id: null,
        path: made.path,
        size_bytes: made.sizeBytes,
        created_at: Date.now(),
      });
      store.disks.setLayer(disk.id, made.id);
      const resource = { type: 'disk', id: disk.id } as const;
      events.append({ type: 'disk.rebased', tenant: disk.tenant, resource, data: { image_id: imageId } });
    });
  }

  /** A machine comes first. */
  async #stop(vmId: string): Promise<void> {
    const { disks } = this.#deps.store;
    const readings = [...this.#reading].filter(({ diskId }) => disks.get(diskId)?.vm_id === vmId);
    for (const { abort } of readings) abort.abort(changed());
    await Promise.all(readings.map(({ ended }) => ended));
  }

  #requireIdle(disk: DiskRow): void {
    if (disk.vm_id === null || !this.#deps.supervisor.get(disk.vm_id).hasMachine) return;
    throw new AppError('conflict', `the VM that has the disk as ${disk.device} runs`, {
      field: 'disk',
      remedy: 'halt it first',
    });
  }
}

function changed(): AppError {
  return new AppError('conflict', 'the disk was used meanwhile', {
    field: 'disk',
    remedy: 'ask for it again while its VM is halted',
  });
}
