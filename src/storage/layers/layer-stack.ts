/** The frozen layers of a disk, read as one: a raw base, and copy-on-write files over each other above it. */
import type { MaybePromise } from '../../engine/backends.ts';
import { filePageReader } from '../cow/bitmap.ts';
import { COW_SECTOR_BYTES, dataAt } from '../cow/header.ts';
import type { CowPlacement } from '../cow/volume.ts';
import type { HostFile } from '../host-file.ts';
import { type Runs, readRuns } from '../runs.ts';
import type { DiskBelow } from '../volume.ts';
import { OwnerIndex } from './owner-index.ts';

/** A file that nobody writes to any more. */
export interface FrozenLayer {
  readonly file: HostFile;
  /** Of a copy-on-write file; undefined: the raw base. */
  readonly placement: CowPlacement | undefined;
}

export class LayerStack implements DiskBelow, Runs {
  readonly layers: readonly FrozenLayer[];
  readonly #index: OwnerIndex;

  /** The raw base first. The files are the stack's from now on. */
  constructor(layers: readonly FrozenLayer[]) {
    const [base, ...above] = layers;
    if (base === undefined || base.placement !== undefined)
      throw new TypeError('a stack of layers has a raw base');
    this.layers = layers;
    this.#index = new OwnerIndex(
      above.map(({ file, placement }) => {
        // INVARIANT: only the base is raw.
        const { bitmapOffset, bitmapBytes } = placement!;
        return filePageReader(file, bitmapOffset, bitmapBytes);
      }),
    );
  }

  read(offset: number, into: readonly Uint8Array[], background = false): MaybePromise<void> {
    if (this.layers.length === 1) return this.layers[0]!.file.read(offset, into, background);
    return readRuns(this, offset, into, background);
  }

  runEnd(sector: number, end: number): number {
    return this.#index.runEnd(sector, end);
  }

  readRun(sector: number, into: readonly Uint8Array[], background: boolean): MaybePromise<void> {
    const { file, placement } = this.layers[this.#index.owner(sector)]!;
    const at = sector * COW_SECTOR_BYTES;
    return file.read(placement === undefined ? at : dataAt(placement, at), into, background);
  }

  close(): void {
    for (const { file } of this.layers) file.close();
  }
}
