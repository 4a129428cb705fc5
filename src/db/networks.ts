import type { Sqlite } from './database.ts';
import type { AddressRow, NetworkRow, PageQuery } from './rows.ts';

export class NetworkTable {
  readonly #insert;
  readonly #update;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #all;
  readonly #count;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<NetworkRow, 'seq'>]>(
      `INSERT INTO networks (id, tenant, name, shared, subnet, settings, created_at)
        VALUES (@id, @tenant, @name, @shared, @subnet, @settings, @created_at)`,
    );
    this.#update = db.prepare<[Pick<NetworkRow, 'id' | 'name' | 'shared' | 'settings'>]>(
      'UPDATE networks SET name = @name, shared = @shared, settings = @settings WHERE id = @id',
    );
    this.#get = db.prepare<[string], NetworkRow>('SELECT * FROM networks WHERE id = ?');
    this.#byName = db.prepare<[string], NetworkRow>('SELECT * FROM networks WHERE name = ? ORDER BY seq');
    this.#page = db.prepare<[object], NetworkRow>(
      `SELECT * FROM networks WHERE seq > @after AND (@tenant IS NULL OR tenant = @tenant OR shared = 1)
        ORDER BY seq LIMIT @limit`,
    );
    this.#all = db.prepare<[], NetworkRow>('SELECT * FROM networks ORDER BY seq');
    this.#count = db.prepare<[string], { count: number }>(
      'SELECT count(*) AS count FROM networks WHERE tenant = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM networks WHERE id = ?');
  }

  insert(network: Omit<NetworkRow, 'seq'>): void {
    this.#insert.run(network);
  }
  update({ id, name, shared, settings }: NetworkRow): void {
    this.#update.run({ id, name, shared, settings });
  }
  get(id: string): NetworkRow | undefined {
    return this.#get.get(id);
  }
  /** Of all tenants. */
  byName(name: string): NetworkRow[] {
    return this.#byName.all(name);
  }
  /** A tenant's own, and those that are shared. */
  page({ after, limit, tenant }: PageQuery): NetworkRow[] {
    return this.#page.all({ after, limit, tenant: tenant ?? null });
  }
  all(): NetworkRow[] {
    return this.#all.all();
  }
  countOf(tenant: string): number {
    return this.#count.get(tenant)?.count ?? 0;
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
}

/** Whose the addresses of networks are. */
export class AddressTable {
  readonly #insert;
  readonly #get;
  readonly #ofNetwork;
  readonly #ofVms;
  readonly #ofNic;
  readonly #removeOfNic;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[AddressRow]>(
      'INSERT INTO addresses VALUES (@network_id, @address, @mac, @vm_id, @device, @position)',
    );
    this.#get = db.prepare<[string, string], AddressRow>(
      'SELECT * FROM addresses WHERE network_id = ? AND address = ?',
    );
    this.#ofNetwork = db.prepare<[string], AddressRow>(
      'SELECT * FROM addresses WHERE network_id = ? ORDER BY vm_id, device, position',
    );
    this.#ofVms = db.prepare<[string], AddressRow>(
      'SELECT * FROM addresses WHERE vm_id IN (SELECT value FROM json_each(?)) ORDER BY vm_id, device, position',
    );
    this.#ofNic = db.prepare<[string, string], AddressRow>(
      'SELECT * FROM addresses WHERE vm_id = ? AND device = ? ORDER BY position',
    );
    this.#removeOfNic = db.prepare<[string, string]>('DELETE FROM addresses WHERE vm_id = ? AND device = ?');
    this.#remove = db.prepare<[string, string]>('DELETE FROM addresses WHERE network_id = ? AND address = ?');
  }

  insert(row: AddressRow): void {
    this.#insert.run(row);
  }
  get(networkId: string, address: string): AddressRow | undefined {
    return this.#get.get(networkId, address);
  }
  ofNetwork(networkId: string): AddressRow[] {
    return this.#ofNetwork.all(networkId);
  }
  /** Of several VMs with one query. */
  ofVms(vmIds: readonly string[]): AddressRow[] {
    return this.#ofVms.all(JSON.stringify(vmIds));
  }
  ofNic(vmId: string, device: string): AddressRow[] {
    return this.#ofNic.all(vmId, device);
  }
  removeOfNic(vmId: string, device: string): void {
    this.#removeOfNic.run(vmId, device);
  }
  remove(networkId: string, address: string): void {
    this.#remove.run(networkId, address);
  }
}
