/** Firewalls: sets of rules that network cards have. A change reaches the cards of running VMs at once. */
import type {
  Firewall,
  FirewallCreate,
  FirewallRule,
  FirewallUpdate,
  Page,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { FirewallRow, Store } from '../../db/index.ts';
import { findOwned, iso, type Principal, pageOfRows, tenantFilter } from '../access.ts';
import type { EventLog } from '../events.ts';
import { newId } from '../ids.ts';
import { mapMembers, memberGroups } from './firewall-groups.ts';
import { nameTaken } from './networks.ts';
import { settingsOf } from './nic-row.ts';
import type { PluggedNics } from './plugged-nics.ts';

export interface FirewallDeps {
  readonly store: Store;
  readonly events: EventLog;
  readonly plugged: PluggedNics;
}

export class Firewalls {
  readonly #deps: FirewallDeps;

  constructor(deps: FirewallDeps) {
    this.#deps = deps;
  }

  list(who: Principal, query: { limit: number; cursor?: string | undefined }): Page<Firewall> {
    const tenant = tenantFilter(who);
    const read = (after: number, limit: number): FirewallRow[] =>
      this.#deps.store.firewalls.page({ after, limit, tenant });
    return pageOfRows(query, read, (rows) => rows.map((row) => this.#view(row)));
  }

  get(who: Principal, ref: string): Firewall {
    return this.#view(this.find(who, ref));
  }

  find(who: Principal, ref: string, field?: string): FirewallRow {
    return findOwned(who, 'firewall', ref, this.#deps.store.firewalls, field);
  }

  create(who: Principal, { name, rules }: FirewallCreate): Firewall {
    const { store, events } = this.#deps;
    const { tenant } = who;
    const id = newId('fw');
    return store.transaction(() => {
      this.#requireFreeName(tenant, name);
      const kept = this.withMemberIds(who, rules, 'rules', { id, name });
      store.firewalls.insert({ id, tenant, name, rules: JSON.stringify(kept), created_at: Date.now() });
      events.append({ type: 'firewall.created', tenant, resource: { type: 'firewall', id }, data: { name } });
      return this.get(who, id);
    });
  }

  async update(who: Principal, ref: string, body: FirewallUpdate): Promise<Firewall> {
    const { store, events } = this.#deps;
    const { id, tenant, name, rules } = this.find(who, ref);
    store.transaction(() => {
      if (body.name !== undefined && body.name !== name) this.#requireFreeName(tenant, body.name);
      const kept = body.rules && this.withMemberIds(who, body.rules, 'rules');
      const text = kept === undefined ? rules : JSON.stringify(kept);
      store.firewalls.update(id, body.name ?? name, text);
      events.append({ type: 'firewall.updated', tenant, resource: { type: 'firewall', id } });
    });
    await this.#apply(id);
    return this.get(who, id);
  }

  /** `in_use` while a network card has it. */
  delete(who: Principal, ref: string): void {
    const { store, events } = this.#deps;
    store.transaction(() => {
      const { id, tenant, name } = this.find(who, ref);
      const nics = store.firewalls.nics(id).length;
      if (nics > 0) {
        throw new AppError('in_use', `${nics} network interfaces have the firewall ${name}`, {
          field: 'firewall',
          remedy: 'take it from them first',
        });
      }
      if (this.#isNamed(id)) {
        throw new AppError('in_use', `rules of others name the members of the firewall ${name}`, {
          field: 'firewall',
          remedy: 'change those rules first',
        });
      }
      store.firewalls.remove(id);
      events.append({ type: 'firewall.deleted', tenant, resource: { type: 'firewall', id }, data: { name } });
    });
  }

  /** Firewalls are named by whoever writes, and kept by their ids. `own` is being made. */
  withMemberIds(
    who: Principal,
    rules: readonly FirewallRule[],
    field: string,
    own?: { readonly id: string; readonly name: string },
  ): FirewallRule[] {
    return mapMembers(rules, (ref, index) =>
      ref === own?.name ? own.id : this.find(who, ref, `${field}[${index}].members`).id,
    );
  }

  /** For people to read. */
  withMemberNames(rules: readonly FirewallRule[]): FirewallRule[] {
    const groups = this.#deps.store.firewalls.all(memberGroups(rules));
    const names = new Map(groups.map(({ id, name }) => [id, name]));
    return mapMembers(rules, (id) => names.get(id) ?? id);
  }

  #isNamed(id: string): boolean {
    const { store } = this.#deps;
    const shared = store.firewalls.everything().filter((row) => row.id !== id);
    // INVARIANT: rules were checked against the schema before they were written.
    const rules = shared.flatMap((row) => JSON.parse(row.rules) as FirewallRule[]);
    const own = store.vms.allNics().flatMap((nic) => settingsOf(nic).rules ?? []);
    return memberGroups([...rules, ...own]).includes(id);
  }

  async #apply(id: string): Promise<void> {
    const { store, plugged } = this.#deps;
    // A VM that does not run is not plugged in, and gets the rules when it is.
    for (const nic of store.firewalls.nics(id)) await plugged.configure(nic);
  }

  #requireFreeName(tenant: string, name: string): void {
    const isTaken = this.#deps.store.firewalls.byName(name).some((row) => row.tenant === tenant);
    if (isTaken) throw nameTaken('firewall', name);
  }

  #view(row: FirewallRow): Firewall {
    return {
      id: row.id,
      name: row.name,
      tenant: row.tenant,
      // INVARIANT: they were checked against the schema before they were written.
      rules: this.withMemberNames(JSON.parse(row.rules) as FirewallRule[]),
      nics: this.#deps.store.firewalls.nics(row.id).length,
      created_at: iso(row.created_at),
    };
  }
}
