import type { Sqlite } from './database.ts';
import type { LayerRow } from './rows.ts';

export type NewLayer = Omit<LayerRow, 'frozen' | 'state' | 'mtime' | 'merged_bytes'> & {
  /** From the start, as what an image has always is. */
  readonly frozen?: boolean | undefined;
};

/** A layer that no disk and no snapshot needs for itself. */
export interface LooseLayerRow extends LayerRow {
  readonly children: number;
}

/** Who sees a layer's content as its own. */
export interface LayerUserRow {
  readonly layer_id: string;
  readonly type: 'disk' | 'snapshot';
  readonly id: string;
  readonly name: string;
  readonly tenant: string;
  readonly vm_id: string | null;
}

/** Itself and all that are over it, and over those. */
const OVER = `WITH RECURSIVE over (id) AS (
  SELECT ? UNION SELECT layers.id FROM over JOIN layers ON layers.parent_id = over.id)`;

const IS_NEEDED = `(EXISTS (SELECT 1 FROM disks WHERE disks.layer_id = layers.id) OR EXISTS (
  SELECT 1 FROM vm_snapshot_disks AS d JOIN vm_snapshots AS s ON s.id = d.snapshot_id
    WHERE d.layer_id = layers.id AND s.state <> 'deleting'))`;

/** Layers: files with disk content, and which is over which. */
export class LayerTable {
  readonly #insert;
  readonly #get;
  readonly #chain;
  readonly #children;
  readonly #over;
  readonly #vmsOver;
  readonly #users;
  readonly #loose;
  readonly #inState;
  readonly #freeze;
  readonly #thaw;
  readonly #setState;
  readonly #setSize;
  readonly #setMerged;
  readonly #setMtime;
  readonly #move;
  readonly #remove;
  readonly #paths;
  readonly #isNeeded;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<NewLayer, 'frozen'> & { frozen: number }]>(
      `INSERT INTO layers (id, kind, parent_id, origin_id, image_id, path, size_bytes, created_at, frozen) VALUES
        (@id, @kind, @parent_id, @origin_id, @image_id, @path, @size_bytes, @created_at, @frozen)`,
    );
    this.#get = db.prepare<[string], LayerRow>('SELECT * FROM layers WHERE id = ?');
    this.#chain = db.prepare<[string], LayerRow>(
      `WITH RECURSIVE down (id, depth) AS (
        SELECT ?, 0 UNION ALL
        SELECT layers.parent_id, depth + 1 FROM down JOIN layers ON layers.id = down.id WHERE parent_id IS NOT NULL)
        SELECT layers.* FROM down JOIN layers ON layers.id = down.id ORDER BY depth`,
    );
    this.#children = db.prepare<[string], LayerRow>(
      'SELECT * FROM layers WHERE parent_id = ? ORDER BY created_at, id',
    );
    this.#over = db.prepare<[string], LayerRow>(
      `${OVER} SELECT layers.* FROM over JOIN layers ON layers.id = over.id ORDER BY layers.created_at, layers.id`,
    );
    this.#vmsOver = db.prepare<[string], { id: string }>(
      `${OVER} SELECT DISTINCT disks.vm_id AS id FROM over JOIN disks ON disks.layer_id = over.id
        WHERE disks.vm_id IS NOT NULL ORDER BY id`,
    );
    this.#users = db.prepare<[string, string], LayerUserRow>(
      `SELECT layer_id, 'disk' AS type, id, name, tenant, vm_id FROM disks
          WHERE layer_id IN (SELECT value FROM json_each(?))
        UNION ALL SELECT d.layer_id, 'snapshot', s.id, s.name, s.tenant, s.vm_id
          FROM vm_snapshot_disks AS d JOIN vm_snapshots AS s ON s.id = d.snapshot_id
          WHERE d.layer_id IN (SELECT value FROM json_each(?)) AND s.state <> 'deleting'`,
    );
    this.#loose = db.prepare<[], LooseLayerRow>(
      `SELECT layers.*, (SELECT count(*) FROM layers AS child WHERE child.parent_id = layers.id) AS children
        FROM layers WHERE kind IN ('cow', 'raw') AND NOT ${IS_NEEDED}`,
    );
    this.#inState = db.prepare<[string], LayerRow>('SELECT * FROM layers WHERE state = ? ORDER BY id');
    this.#freeze = db.prepare<[number, string]>(
      "UPDATE layers SET frozen = 1, state = 'sealing', mtime = ? WHERE id = ?",
    );
    this.#thaw = db.prepare<[string]>(
      "UPDATE layers SET frozen = 0, state = 'ready', mtime = NULL WHERE id = ?",
    );
    this.#setSize = db.prepare<[number, string]>('UPDATE layers SET size_bytes = ? WHERE id = ?');
    this.#setState = db.prepare<[string, string]>(
      'UPDATE layers SET state = ?, merged_bytes = 0 WHERE id = ?',
    );
    this.#setMerged = db.prepare<[number, string]>('UPDATE layers SET merged_bytes = ? WHERE id = ?');
    this.#setMtime = db.prepare<[number, string]>('UPDATE layers SET mtime = ? WHERE id = ?');
    this.#move = db.prepare<[string, string | null, string | null, string]>(
      'UPDATE layers SET kind = ?, parent_id = ?, origin_id = coalesce(origin_id, ?) WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM layers WHERE id = ?');
    this.#paths = db.prepare<[], { path: string }>("SELECT path FROM layers WHERE path <> ''");
    this.#isNeeded = db.prepare<[string]>(`SELECT 1 FROM layers WHERE id = ? AND ${IS_NEEDED}`);
  }

  insert(layer: NewLayer): void {
    const { frozen = layer.kind === 'image' || layer.kind === 'backup' } = layer;
    this.#insert.run({ ...layer, frozen: Number(frozen) });
  }
  get(id: string): LayerRow | undefined {
    return this.#get.get(id);
  }
  /** The layer and all below it, the base last. */
  chain(id: string): LayerRow[] {
    return this.#chain.all(id);
  }
  /** What is directly over it. */
  children(id: string): LayerRow[] {
    return this.#children.all(id);
  }
  /** The layer and all that are over it. */
  over(id: string): LayerRow[] {
    return this.#over.all(id);
  }
  /** VMs with disks over it, in a fixed order. */
  vmsOver(id: string): string[] {
    return this.#vmsOver.all(id).map((row) => row.id);
  }
  /** The disks and snapshots that these layers are the newest content of. */
  users(ids: readonly string[]): LayerUserRow[] {
    const list = JSON.stringify(ids);
    return this.#users.all(list, list);
  }
  /** Whether it is the newest content of a disk or a snapshot. */
  isNeeded(id: string): boolean {
    return this.#isNeeded.get(id) !== undefined;
  }
  /** Those of the daemon's files that are only there because others are over them, or by mistake. */
  loose(): LooseLayerRow[] {
    return this.#loose.all();
  }
  inState(state: LayerRow['state']): LayerRow[] {
    return this.#inState.all(state);
  }
  /** Nobody writes to it any more; `sealing` until that is durable. `mtime` in Unix seconds. */
  freeze(id: string, mtime: number): void {
    this.#freeze.run(mtime, id);
  }
  /** Undoes `freeze` before it is sealed. */
  thaw(id: string): void {
    this.#thaw.run(id);
  }
  setState(id: string, state: LayerRow['state']): void {
    this.#setState.run(state, id);
  }
  setSize(id: string, sizeBytes: number): void {
    this.#setSize.run(sizeBytes, id);
  }
  setMerged(id: string, bytes: number): void {
    this.#setMerged.run(bytes, id);
  }
  setMtime(id: string, mtime: number): void {
    this.#setMtime.run(mtime, id);
  }
  /** `upper` has all of `lower`, its parent, which goes: it is what `lower` was now, with its own place in the graph. */
  merged(lower: LayerRow, upper: string): void {
    this.#move.run(lower.kind, lower.parent_id, lower.origin_id, upper);
    this.#remove.run(lower.id);
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
  /** Of all files, as the database has them. */
  paths(): string[] {
    return this.#paths.all().map((row) => row.path);
  }
}
