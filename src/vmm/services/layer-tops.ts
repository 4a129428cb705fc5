/** New tops of disks: empty layers over others. */
import type { DiskRow, LayerRow } from '../../db/index.ts';
import type { NewLayer } from '../../db/layers.ts';
import { createLayers, layerFacts } from '../../storage/index.ts';
import { type LayerFileDeps, layerFile } from './layer-files.ts';

/** An empty layer that a disk is to write to. */
export interface NewTop {
  readonly disk: DiskRow;
  readonly below: LayerRow;
  readonly id: string;
  readonly file: string;
  /** Of the file below, Unix seconds. */
  readonly mtime: number;
}

/** Makes their files, all of them or none; durable. */
export function makeTops(
  deps: LayerFileDeps,
  tops: readonly Pick<NewTop, 'below' | 'file' | 'mtime'>[],
): void {
  createLayers(
    tops.map(({ below, file, mtime }) => {
      const belowFile = layerFile(deps, below);
      const { sizeBytes } = layerFacts(belowFile, below.parent_id === null);
      return { file, below: belowFile, mtime, sizeBytes };
    }),
  );
}

/** The modification time of a frozen layer, as the layers over it have it in their headers. */
export function mtimeOf(deps: LayerFileDeps, layer: LayerRow): number {
  return layer.mtime ?? layerFacts(layerFile(deps, layer), layer.parent_id === null).mtime;
}

/** How it is written down; `file` as the database has it. */
export function newTopRow(id: string, below: LayerRow, file: string): NewLayer {
  return {
    id,
    kind: 'cow',
    parent_id: below.id,
    origin_id: null,
    image_id: null,
    path: file,
    size_bytes: below.size_bytes,
    created_at: Date.now(),
  };
}
