/** A disk kept byte for byte in a file or block device of the host. */
import type { MaybePromise } from '../engine/backends.ts';
import { DiskLost } from './errors.ts';
import { Flusher } from './flusher.ts';
import type { HostFile } from './host-file.ts';
import { type Volume, writeZerosTo } from './volume.ts';

export class RawVolume implements Volume {
  #sizeBytes: number;
  readonly #file: HostFile;
  readonly #flusher = new Flusher(() => this.#sync());
  #changed = false;
  #lost: DiskLost | undefined;

  /** A size that is no multiple of 512 is rounded up: the rest of the last sector reads as zeros. */
  constructor(file: HostFile, fileBytes: number) {
    this.#file = file;
    this.#sizeBytes = Math.ceil(fileBytes / 512) * 512;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Makes the file larger, at once; the end is durable when this resolves. Throws or rejects with BlockError. */
  async grow(sizeBytes: number): Promise<void> {
    this.#file.setSize(sizeBytes);
    this.#sizeBytes = sizeBytes;
    this.#changed = true;
    await this.#flusher.request();
  }

  read(offset: number, into: readonly Uint8Array[], background = false): MaybePromise<void> {
    return this.#file.read(offset, into, background);
  }

  write(offset: number, from: readonly Uint8Array[]): MaybePromise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    const pending = this.#file.write(offset, from);
    if (pending === undefined) this.#changed = true;
    else {
      return pending.finally(() => {
        this.#changed = true;
      });
    }
  }

  flush(): MaybePromise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    if (this.#changed || !this.#flusher.idle) return this.#flusher.request();
  }

  async #sync(): Promise<void> {
    if (!this.#changed) return;
    this.#changed = false;
    try {
      await this.#file.sync();
    } catch (error) {
      this.#lost = new DiskLost(error);
      throw this.#lost;
    }
  }

  discard(offset: number, length: number): MaybePromise<void> {
    return this.#hole('punch', offset, length, () => undefined);
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): MaybePromise<void> {
    return this.#hole(mayUnmap ? 'punch' : 'zero', offset, length, () =>
      writeZerosTo((at, from) => this.write(at, from), offset, length),
    );
  }

  #hole(
    how: 'punch' | 'zero',
    offset: number,
    length: number,
    otherwise: () => MaybePromise<void>,
  ): MaybePromise<void> {
    if (this.#lost !== undefined) throw this.#lost;
    const done = this.#file.makeHole(how, offset, length);
    const settle = (result: 'done' | 'unsupported'): MaybePromise<void> => {
      if (result === 'unsupported') return otherwise();
      this.#changed = true;
    };
    return typeof done === 'string' ? settle(done) : done.then(settle);
  }

  async close(): Promise<void> {
    try {
      if (this.#lost === undefined) await this.#flusher.request();
    } finally {
      this.#file.close();
    }
  }
}
