/** Where the files of layers are, and how a disk is made of them. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import type { DiskConfig } from '../../contracts/machine.ts';
import type { LayerRow, Store } from '../../db/index.ts';
import type { Home } from '../home.ts';
import type { ImageLibrary } from '../ports.ts';

export interface LayerFileDeps {
  readonly store: Store;
  readonly home: Home;
  readonly library: ImageLibrary;
}

/** New layers have their files here; the name is the layer's id, whatever becomes of it. */
export function newLayerFile(home: Home, layerId: string): string {
  return home.file('layers', layerId);
}

export function layerFile({ home, library }: Omit<LayerFileDeps, 'store'>, layer: LayerRow): string {
  return layer.image_id === null ? home.absolute(layer.path) : library.get(layer.image_id).disk;
}

/** A layer with all that is below it, as the storage opens it. */
export function layerConfig(
  deps: LayerFileDeps,
  layerId: string,
): Pick<DiskConfig, 'file' | 'cow' | 'frozen' | 'merging'> {
  const chain = deps.store.layers.chain(layerId).reverse();
  const files = chain.map((layer) => layerFile(deps, layer));
  const merging = files.filter((_, index) => chain[index]!.state === 'merging');
  const [file = '', ...above] = files;
  if (above.length === 0) return { file };
  const common = { file, cow: above.at(-1), ...(merging.length > 0 && { merging }) };
  return above.length === 1 ? common : { ...common, frozen: above.slice(0, -1) };
}

/** Removes the folder of a VM that is gone when nothing is left in it: layers in it may outlive the VM. */
export function removeVmFolder({ home, store }: Omit<LayerFileDeps, 'library'>, folder: string): void {
  if (path.dirname(folder) !== home.file('vms') || store.vms.get(path.basename(folder)) !== undefined) return;
  if (fs.existsSync(folder) && fs.readdirSync(folder).length === 0) fs.rmdirSync(folder);
}
