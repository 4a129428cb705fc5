import type { Sqlite } from './database.ts';
import type { NicRow, PageQuery, VmRow } from './rows.ts';

const SELECT = 'SELECT vms.*, images.name AS image_name FROM vms JOIN images ON images.id = vms.image_id';
const SELECT_NIC =
  'SELECT nics.*, networks.name AS network_name FROM nics LEFT JOIN networks ON networks.id = nics.network_id';

export type NewVm = Omit<
  VmRow,
  'seq' | 'image_name' | 'version' | 'updated_at' | 'started_at' | 'cause' | 'want_running'
>;
export type VmConfig = Pick<
  VmRow,
  'name' | 'memory_bytes' | 'append' | 'autostart' | 'jit_code_bytes' | 'labels' | 'watch' | 'proc_files'
>;
export interface VmFilter {
  readonly name?: string | undefined;
  readonly state?: string | undefined;
  readonly labelKey?: string | undefined;
  readonly labelValue?: string | undefined;
}

export class VmTable {
  readonly #insert;
  readonly #insertNic;
  readonly #setNicSettings;
  readonly #get;
  readonly #byName;
  readonly #all;
  readonly #page;
  readonly #setState;
  readonly #setWanted;
  readonly #setConfig;
  readonly #setJitCode;
  readonly #touch;
  readonly #remove;
  readonly #nics;
  readonly #nicsOf;
  readonly #allNics;
  readonly #onNetwork;
  readonly #removeNic;
  readonly #mac;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[NewVm]>(
      `INSERT INTO vms (id, tenant, name, state, image_id, memory_bytes, append, autostart, debug_exit_port, jit_code_bytes, labels, watch, proc_files,
        created_at, updated_at) VALUES (@id, @tenant, @name, @state, @image_id, @memory_bytes, @append, @autostart,
        @debug_exit_port, @jit_code_bytes, @labels, @watch, @proc_files, @created_at, @created_at)`,
    );
    this.#insertNic = db.prepare<[Omit<NicRow, 'network_name'>]>(
      'INSERT INTO nics VALUES (@vm_id, @device, @mac, @network_id, @transport, @settings)',
    );
    this.#setNicSettings = db.prepare<[string, string, string]>(
      'UPDATE nics SET settings = ? WHERE vm_id = ? AND device = ?',
    );
    this.#get = db.prepare<[string], VmRow>(`${SELECT} WHERE vms.id = ?`);
    this.#byName = db.prepare<[string], VmRow>(`${SELECT} WHERE vms.name = ? ORDER BY vms.seq`);
    this.#all = db.prepare<[], VmRow>(`${SELECT} ORDER BY vms.seq`);
    this.#page = db.prepare<[Required<PageQuery> | object], VmRow>(
      `${SELECT} WHERE vms.seq > @after AND (@tenant IS NULL OR vms.tenant = @tenant)
        AND (@name IS NULL OR vms.name = @name) AND (@state IS NULL OR vms.state = @state)
        AND (@labelKey IS NULL OR EXISTS (SELECT 1 FROM json_each(vms.labels) AS label
          WHERE label.key = @labelKey AND (@labelValue IS NULL OR label.value = @labelValue)))
        ORDER BY vms.seq LIMIT @limit`,
    );
    this.#setState = db.prepare<[string, string | null, number | null, string]>(
      'UPDATE vms SET state = ?, cause = ?, started_at = ? WHERE id = ?',
    );
    this.#setWanted = db.prepare<[number, string]>('UPDATE vms SET want_running = ? WHERE id = ?');
    this.#setConfig = db.prepare<[VmConfig & { id: string; now: number }]>(
      `UPDATE vms SET name = @name, memory_bytes = @memory_bytes, append = @append, autostart = @autostart,
        jit_code_bytes = @jit_code_bytes, labels = @labels, watch = @watch, proc_files = @proc_files, version = version + 1, updated_at = @now WHERE id = @id`,
    );
    this.#setJitCode = db.prepare<[number | null, string]>('UPDATE vms SET jit_code_bytes = ? WHERE id = ?');
    this.#touch = db.prepare<[number, string]>(
      'UPDATE vms SET version = version + 1, updated_at = ? WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM vms WHERE id = ?');
    this.#nics = db.prepare<[string], NicRow>(
      `${SELECT_NIC} WHERE nics.vm_id IN (SELECT value FROM json_each(?)) ORDER BY nics.vm_id, nics.device`,
    );
    this.#nicsOf = db.prepare<[string], NicRow>(`${SELECT_NIC} WHERE nics.vm_id = ? ORDER BY nics.device`);
    this.#allNics = db.prepare<[], NicRow>(`${SELECT_NIC} ORDER BY nics.vm_id, nics.device`);
    this.#onNetwork = db.prepare<[string], { count: number }>(
      'SELECT count(*) AS count FROM nics WHERE network_id = ?',
    );
    this.#removeNic = db.prepare<[string, string]>('DELETE FROM nics WHERE vm_id = ? AND device = ?');
    this.#mac = db.prepare<[string]>('SELECT 1 FROM nics WHERE mac = ?');
  }

  insert(vm: NewVm): void {
    this.#insert.run(vm);
  }
  insertNic(nic: Omit<NicRow, 'network_name'>): void {
    this.#insertNic.run(nic);
  }
  setNicSettings(vmId: string, device: string, settings: string): void {
    this.#setNicSettings.run(settings, vmId, device);
  }
  get(id: string): VmRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): VmRow[] {
    return this.#byName.all(name);
  }
  all(): VmRow[] {
    return this.#all.all();
  }
  page(query: PageQuery, filter: VmFilter): VmRow[] {
    const { name = null, state = null, labelKey = null, labelValue = null } = filter;
    return this.#page.all({ tenant: null, ...definedOf(query), name, state, labelKey, labelValue });
  }
  setState(id: string, state: string, cause: string | null, startedAt: number | null): void {
    this.#setState.run(state, cause, startedAt, id);
  }
  setWanted(id: string, wanted: boolean): void {
    this.#setWanted.run(Number(wanted), id);
  }
  setJitCode(id: string, bytes: number | null): void {
    this.#setJitCode.run(bytes, id);
  }

  setConfig(id: string, config: VmConfig, now: number): void {
    this.#setConfig.run({ ...config, id, now });
  }
  touch(id: string, now: number): void {
    this.#touch.run(now, id);
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
  /** NICs of several VMs with one query. */
  nicsOfAll(vmIds: readonly string[]): NicRow[] {
    return this.#nics.all(JSON.stringify(vmIds));
  }
  allNics(): NicRow[] {
    return this.#allNics.all();
  }
  nicsOf(vmId: string): NicRow[] {
    return this.#nicsOf.all(vmId);
  }
  /** False when there was none. */
  removeNic(vmId: string, device: string): boolean {
    return this.#removeNic.run(vmId, device).changes === 1;
  }
  hasMac(mac: string): boolean {
    return this.#mac.get(mac) !== undefined;
  }
  countOnNetwork(networkId: string): number {
    return this.#onNetwork.get(networkId)?.count ?? 0;
  }
}

/** Without the keys whose value is undefined, so that defaults spread before it stay. */
export function definedOf<T extends object>(value: T): Partial<T> {
  // INVARIANT: only keys are left out, so what remains is part of T.
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Partial<T>;
}
