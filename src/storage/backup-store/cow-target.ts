/** A disk that is restored over the base image that it was over: a copy-on-write file with what differs. */
import * as fs from 'node:fs';
import { AppError } from '../../contracts/errors.ts';
import { createLayers, layerFacts, openLayers } from '../layers/files.ts';
import type { LayeredVolume } from '../layers/layered-volume.ts';
import { writeDifferences } from '../layers/rebase.ts';
import { CHUNK_BYTES, chunksOf } from './format.ts';
import type { TaskControl } from './restore.ts';

const ZEROS = Buffer.alloc(CHUNK_BYTES);

export class CowTarget {
  readonly #file: string;
  readonly #volume: LayeredVolume;
  readonly #sizeBytes: number;
  /** Chunks of the backup that are not zeros. */
  readonly #written: Uint8Array;

  /** Makes the file. AppErrors: `already_exists`, `conflict` when the base is of another size, errors of files. */
  constructor(file: string, base: string, sizeBytes: number) {
    const facts = layerFacts(base, true);
    if (facts.sizeBytes !== sizeBytes) {
      throw new AppError('conflict', `${base} is of another size than the disk in the backup`, {
        field: 'full_copy',
        remedy: 'restore a full copy',
      });
    }
    createLayers([{ file, below: base, ...facts }]);
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#written = new Uint8Array(chunksOf(sizeBytes));
    try {
      this.#volume = openLayers({ device: '', file: base, cow: file, readOnly: false });
    } catch (error) {
      fs.rmSync(file, { force: true });
      throw error;
    }
  }

  /** Whole chunks. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    const first = offset / CHUNK_BYTES;
    this.#written.fill(1, first, first + chunksOf(bytes.length));
    await this.#differ(offset, bytes);
  }

  /** What has not been written is zeros. Makes the content durable, and lets go of the file. */
  async complete({ signal }: Pick<TaskControl, 'signal'>): Promise<void> {
    for (const [chunk, written] of this.#written.entries()) {
      if (written === 1) continue;
      signal.throwIfAborted();
      const offset = chunk * CHUNK_BYTES;
      await this.#differ(offset, ZEROS.subarray(0, Math.min(CHUNK_BYTES, this.#sizeBytes - offset)));
    }
    await this.#volume.close();
  }

  /** It has its name already: who restores removes what is not complete. */
  publish(): void {}

  async discard(): Promise<void> {
    fs.rmSync(this.#file, { force: true });
    // It may be what has failed.
    await this.#volume.close().catch(() => undefined);
  }

  async #differ(offset: number, bytes: Uint8Array): Promise<void> {
    const base = Buffer.allocUnsafe(bytes.length);
    await this.#volume.read(offset, [base], true);
    await writeDifferences(
      this.#volume,
      offset,
      Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
      base,
    );
  }
}
