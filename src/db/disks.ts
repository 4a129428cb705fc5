import type { Sqlite } from './database.ts';
import type { LayerTable, NewLayer } from './layers.ts';
import type { DiskRow, LayerRow, PageQuery } from './rows.ts';
import { definedOf } from './vms.ts';

/** The base: what is below all layers of a disk that is over others. */
const BASE = `(WITH RECURSIVE down (id, parent_id) AS (
    SELECT layers.id, layers.parent_id
    UNION ALL SELECT below.id, below.parent_id FROM down JOIN layers AS below ON below.id = down.parent_id)
  SELECT id FROM down WHERE parent_id IS NULL)`;

const SELECT = `SELECT disks.*, layers.kind AS layer_kind, layers.path, layers.size_bytes, base.image_id,
  base.path AS parent_path, images.name AS image_name
  FROM disks JOIN layers ON layers.id = disks.layer_id
  LEFT JOIN layers AS base ON layers.parent_id IS NOT NULL AND base.id = ${BASE}
  LEFT JOIN images ON images.id = base.image_id`;

export type NewDisk = Omit<
  DiskRow,
  'seq' | 'ubd_flags' | 'layer_kind' | 'path' | 'size_bytes' | 'image_id' | 'parent_path' | 'image_name'
>;

/** Disks: which layer each writes to, and what has them. */
export class DiskTable {
  readonly #removeLayer;
  readonly #imageLayer;
  readonly #setLayer;
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #ofVms;
  readonly #ofVm;
  readonly #attach;
  readonly #setSettings;
  readonly #remove;
  readonly #removeOrphans;
  readonly #byPath;
  readonly #byLayer;

  readonly #setUbdFlags;
  readonly #layers: LayerTable;

  constructor(db: Sqlite, layers: LayerTable) {
    this.#layers = layers;
    this.#removeLayer = db.prepare<[string]>('DELETE FROM layers WHERE id = ?');
    this.#imageLayer = db.prepare<[string], LayerRow>('SELECT * FROM layers WHERE image_id = ?');
    this.#setLayer = db.prepare<[string, string]>('UPDATE disks SET layer_id = ? WHERE id = ?');
    this.#insert = db.prepare<[NewDisk]>(
      `INSERT INTO disks
        (id, tenant, name, layer_id, vm_id, device, read_only, owned_by_vm, created_at, limits, on_error) VALUES
        (@id, @tenant, @name, @layer_id, @vm_id, @device, @read_only, @owned_by_vm, @created_at, @limits, @on_error)`,
    );
    this.#get = db.prepare<[string], DiskRow>(`${SELECT} WHERE disks.id = ?`);
    this.#byName = db.prepare<[string], DiskRow>(`${SELECT} WHERE disks.name = ? ORDER BY disks.seq`);
    this.#byPath = db.prepare<[string], DiskRow>(
      `${SELECT} WHERE layers.kind = 'external' AND layers.path = ?`,
    );
    this.#byLayer = db.prepare<[string], DiskRow>(`${SELECT} WHERE disks.layer_id = ?`);
    this.#page = db.prepare<[object], DiskRow>(
      `${SELECT} WHERE disks.seq > @after AND (@tenant IS NULL OR disks.tenant = @tenant)
        AND (@name IS NULL OR disks.name = @name) ORDER BY disks.seq LIMIT @limit`,
    );
    // ubd10 comes after ubd9: longer names last.
    this.#ofVms = db.prepare<[string], DiskRow>(
      `${SELECT} WHERE disks.vm_id IN (SELECT value FROM json_each(?)) ORDER BY disks.vm_id, length(device), device`,
    );
    this.#ofVm = db.prepare<[string], DiskRow>(
      `${SELECT} WHERE disks.vm_id = ? ORDER BY length(device), device`,
    );
    this.#attach = db.prepare<[string | null, string | null, number, string]>(
      "UPDATE disks SET vm_id = ?, device = ?, read_only = ?, ubd_flags = '' WHERE id = ?",
    );
    this.#setSettings = db.prepare<[string, string, string]>(
      'UPDATE disks SET limits = ?, on_error = ? WHERE id = ?',
    );
    this.#setUbdFlags = db.prepare<[string, string]>('UPDATE disks SET ubd_flags = ? WHERE id = ?');
    this.#remove = db.prepare<[string]>('DELETE FROM disks WHERE id = ?');
    this.#removeOrphans = db.prepare<[]>(
      `DELETE FROM layers WHERE kind = 'external' AND id NOT IN (SELECT layer_id FROM disks)
        AND NOT EXISTS (SELECT 1 FROM layers AS child WHERE child.parent_id = layers.id)`,
    );
  }

  insertLayer(layer: NewLayer): void {
    this.#layers.insert(layer);
  }
  imageLayer(imageId: string): LayerRow | undefined {
    return this.#imageLayer.get(imageId);
  }
  insert(disk: NewDisk): void {
    this.#insert.run(disk);
  }
  get(id: string): DiskRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): DiskRow[] {
    return this.#byName.all(name);
  }
  byPath(path: string): DiskRow | undefined {
    return this.#byPath.get(path);
  }
  /** The disk that writes to a layer. */
  byLayer(layerId: string): DiskRow | undefined {
    return this.#byLayer.get(layerId);
  }
  page(query: PageQuery, name: string | undefined): DiskRow[] {
    return this.#page.all({ tenant: null, ...definedOf(query), name: name ?? null });
  }
  ofVms(vmIds: readonly string[]): DiskRow[] {
    return this.#ofVms.all(JSON.stringify(vmIds));
  }
  ofVm(vmId: string): DiskRow[] {
    return this.#ofVm.all(vmId);
  }
  attach(id: string, vmId: string, device: string, readOnly: boolean): void {
    this.#attach.run(vmId, device, Number(readOnly), id);
  }
  detach(id: string, readOnly: boolean): void {
    this.#attach.run(null, null, Number(readOnly), id);
  }
  setUbdFlags(id: string, flags: string): void {
    this.#setUbdFlags.run(flags, id);
  }
  setSettings(id: string, { limits, on_error }: Pick<DiskRow, 'limits' | 'on_error'>): void {
    this.#setSettings.run(limits, on_error, id);
  }
  /** The disk writes to another layer from now on. */
  setLayer(id: string, layerId: string): void {
    this.#setLayer.run(layerId, id);
  }
  /** Removes the disk and its layer, and an operator's backing file from the lineage when nothing is over it now. */
  remove(disk: Pick<DiskRow, 'id' | 'layer_id'>): void {
    this.#remove.run(disk.id);
    this.#removeLayer.run(disk.layer_id);
    this.#removeOrphans.run();
  }
}
