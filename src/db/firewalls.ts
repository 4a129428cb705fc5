import type { Sqlite } from './database.ts';
import type { FirewallRow, NicRow, PageQuery } from './rows.ts';

export class FirewallTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #of;
  readonly #update;
  readonly #remove;
  readonly #everything;
  readonly #nics;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<FirewallRow, 'seq'>]>(
      `INSERT INTO firewalls (id, tenant, name, rules, created_at)
        VALUES (@id, @tenant, @name, @rules, @created_at)`,
    );
    this.#get = db.prepare<[string], FirewallRow>('SELECT * FROM firewalls WHERE id = ?');
    this.#byName = db.prepare<[string], FirewallRow>('SELECT * FROM firewalls WHERE name = ? ORDER BY seq');
    this.#page = db.prepare<[object], FirewallRow>(
      `SELECT * FROM firewalls WHERE seq > @after AND (@tenant IS NULL OR tenant = @tenant)
        ORDER BY seq LIMIT @limit`,
    );
    this.#of = db.prepare<[string], FirewallRow>(
      'SELECT * FROM firewalls WHERE id IN (SELECT value FROM json_each(?))',
    );
    this.#update = db.prepare<[string, string, string]>(
      'UPDATE firewalls SET name = ?, rules = ? WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM firewalls WHERE id = ?');
    this.#everything = db.prepare<[], FirewallRow>('SELECT * FROM firewalls ORDER BY seq');
    this.#nics = db.prepare<[string], NicRow>(
      `SELECT nics.*, networks.name AS network_name FROM nics LEFT JOIN networks ON networks.id = nics.network_id
        WHERE EXISTS (SELECT 1 FROM json_each(nics.settings, '$.firewalls') AS firewall WHERE firewall.value = ?)
        ORDER BY nics.vm_id, nics.device`,
    );
  }

  insert(firewall: Omit<FirewallRow, 'seq'>): void {
    this.#insert.run(firewall);
  }
  get(id: string): FirewallRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): FirewallRow[] {
    return this.#byName.all(name);
  }
  page({ after, limit, tenant }: PageQuery): FirewallRow[] {
    return this.#page.all({ after, limit, tenant: tenant ?? null });
  }
  /** Several with one query, in no order. */
  all(ids: readonly string[]): FirewallRow[] {
    return this.#of.all(JSON.stringify(ids));
  }
  update(id: string, name: string, rules: string): void {
    this.#update.run(name, rules, id);
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
  /** Of all tenants. */
  everything(): FirewallRow[] {
    return this.#everything.all();
  }
  /** Network cards that have it. */
  nics(id: string): NicRow[] {
    return this.#nics.all(id);
  }
}
