import type { Sqlite } from './database.ts';
import type { DiskRow, LayerRow, PageQuery } from './rows.ts';
import { definedOf } from './vms.ts';

const SELECT = `SELECT disks.*, layers.kind AS layer_kind, layers.path, layers.size_bytes, parent.image_id,
  parent.path AS parent_path, images.name AS image_name
  FROM disks JOIN layers ON layers.id = disks.layer_id LEFT JOIN layers AS parent ON parent.id = layers.parent_id
  LEFT JOIN images ON images.id = parent.image_id`;

export type NewDisk = Omit<
  DiskRow,
  'seq' | 'layer_kind' | 'path' | 'size_bytes' | 'image_id' | 'parent_path' | 'image_name'
>;

/** Layers (files with disk content, and which is over which) and the disks made of them. */
export class DiskTable {
  readonly #insertLayer;
  readonly #removeLayer;
  readonly #imageLayer;
  readonly #children;
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

  constructor(db: Sqlite) {
    this.#insertLayer = db.prepare<[LayerRow]>(
      `INSERT INTO layers VALUES (@id, @kind, @parent_id, @origin_id, @image_id, @path, @size_bytes, @created_at)`,
    );
    this.#removeLayer = db.prepare<[string]>('DELETE FROM layers WHERE id = ?');
    this.#imageLayer = db.prepare<[string], LayerRow>('SELECT * FROM layers WHERE image_id = ?');
    this.#children = db.prepare<[string], { name: string }>(
      `SELECT disks.name FROM layers AS base JOIN layers ON layers.parent_id = base.id
        JOIN disks ON disks.layer_id = layers.id WHERE base.image_id = ? ORDER BY disks.seq`,
    );
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
      'UPDATE disks SET vm_id = ?, device = ?, read_only = ? WHERE id = ?',
    );
    this.#setSettings = db.prepare<[string, string, string]>(
      'UPDATE disks SET limits = ?, on_error = ? WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM disks WHERE id = ?');
    this.#removeOrphans = db.prepare<[]>(
      `DELETE FROM layers WHERE kind = 'external' AND id NOT IN (SELECT layer_id FROM disks)
        AND NOT EXISTS (SELECT 1 FROM layers AS child WHERE child.parent_id = layers.id)`,
    );
  }

  insertLayer(layer: LayerRow): void {
    this.#insertLayer.run(layer);
  }
  imageLayer(imageId: string): LayerRow | undefined {
    return this.#imageLayer.get(imageId);
  }
  /** Names of the disks over an image. */
  namesOver(imageId: string): string[] {
    return this.#children.all(imageId).map((row) => row.name);
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
  setSettings(id: string, { limits, on_error }: Pick<DiskRow, 'limits' | 'on_error'>): void {
    this.#setSettings.run(limits, on_error, id);
  }
  /** Removes the disk and its layer, and an operator's backing file from the lineage when nothing is over it now. */
  remove(disk: Pick<DiskRow, 'id' | 'layer_id'>): void {
    this.#remove.run(disk.id);
    this.#removeLayer.run(disk.layer_id);
    this.#removeOrphans.run();
  }
}
