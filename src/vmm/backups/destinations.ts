/** Where backups go: folders and remotes, and what is found in them. */
import type {
  BackupDestination,
  BackupDestinationCreate,
  Operation,
  Page,
} from '../../contracts/api/index.ts';
import type { BackedUpVm, BackupSummary } from '../../contracts/backup.ts';
import { AppError } from '../../contracts/errors.ts';
import type { JobContext, JobPayloads } from '../../contracts/jobs.ts';
import type { DestinationRow } from '../../db/index.ts';
import { iso, notFound, type Principal, pageOfRows } from '../access.ts';
import { newId } from '../ids.ts';
import { nameTaken } from '../services/networks.ts';
import type { SavedSettings } from '../services/saved-settings.ts';
import type { BackupConfig, BackupDeps } from './deps.ts';
import { recordDisks } from './records.ts';
import { LOCAL_DESTINATION } from './stores.ts';

export class BackupDestinations {
  readonly #deps: BackupDeps;

  constructor(deps: BackupDeps) {
    this.#deps = deps;
  }

  list(query: { limit: number; cursor?: string | undefined }): Page<BackupDestination> {
    const read = (after: number, limit: number): DestinationRow[] =>
      this.#deps.store.destinations.page({ after, limit });
    return pageOfRows(query, read, (rows) => rows.map((row) => this.#view(row)));
  }

  get(ref: string): BackupDestination {
    return this.#view(this.find(ref));
  }

  find(ref: string, field?: string): DestinationRow {
    const { destinations } = this.#deps.store;
    const row = destinations.get(ref) ?? destinations.byName(ref);
    if (row === undefined) throw notFound('backup destination', ref, field);
    return row;
  }

  /** Opens it too: a place that cannot be used is none. AppErrors: `forbidden`, `in_use`, `unreachable`, `tool_missing`. */
  async create(request: BackupDestinationCreate): Promise<BackupDestination> {
    const { name, kind, location } = request;
    const { store, stores, events, hostPaths } = this.#deps;
    const place = kind === 'directory' ? await hostPaths.check(location, 'location') : location;
    if (store.destinations.byName(name) !== undefined) throw nameTaken('backup destination', name);
    const id = newId('dst');
    store.destinations.insert({ id, name, kind, location: place, created_at: Date.now() });
    try {
      await stores.config(id, { takeOver: request.kind === 'rclone' && request.take_over });
    } catch (error) {
      store.destinations.remove(id);
      throw error;
    }
    const resource = { type: 'backup-destination', id } as const;
    events.append({ type: 'backup-destination.created', tenant: null, resource, data: { name } });
    return this.get(id);
  }

  /** Takes a remote from a daemon that is gone for good. AppErrors: `invalid_input` for a folder, and as `create`. */
  async takeOver(ref: string): Promise<BackupDestination> {
    const { id, name, kind } = this.find(ref);
    if (kind !== 'rclone') {
      throw new AppError(
        'invalid_input',
        `${name} is a folder, whose lock ends with the daemon that has it`,
        {
          field: 'destination',
          remedy: 'stop the other daemon',
        },
      );
    }
    await this.#deps.stores.takeOver(id);
    return this.get(id);
  }

  /** Forgets a place that no backup is in according to the database; what is stored there stays. */
  async delete(ref: string): Promise<void> {
    const { store, stores, events } = this.#deps;
    const row = this.find(ref);
    if (row.id === LOCAL_DESTINATION) {
      throw new AppError('protected', 'the destination in the state folder cannot be deleted');
    }
    const backups = store.backups.inDestination(row.id).length;
    const schedules = store.schedules.ofDestination(row.id).length;
    if (backups + schedules > 0) {
      throw new AppError('in_use', `${backups} backups and ${schedules} schedules are of ${row.name}`, {
        field: 'destination',
        remedy: 'delete them first',
      });
    }
    store.transaction(() => {
      store.destinations.remove(row.id);
      const resource = { type: 'backup-destination', id: row.id } as const;
      events.append({ type: 'backup-destination.deleted', tenant: null, resource, data: { name: row.name } });
    });
    await stores.forget(row.id);
  }

  /** Removes what no backup needs. */
  collect(who: Principal, ref: string): Promise<Operation> {
    return this.#enqueue(who, 'backup.collect', this.find(ref).id);
  }

  /** Writes the backups down that the store has and the database does not. */
  rebuild(who: Principal, ref: string): Promise<Operation> {
    return this.#enqueue(who, 'backup.rebuild', this.find(ref).id);
  }

  async runCollect({ destinationId }: JobPayloads['backup.collect'], context: JobContext): Promise<unknown> {
    const onProgress = (done: number, total: number): void =>
      context.progress({ done, total, unit: 'steps' });
    return await this.#deps.stores.run(destinationId, 'collect', {}, { signal: context.signal, onProgress });
  }

  async runRebuild({ destinationId }: JobPayloads['backup.rebuild']): Promise<unknown> {
    const { store, stores, log } = this.#deps;
    const { backups, damaged } = await stores.run(destinationId, 'list', {});
    let found = 0;
    for (const summary of backups.toSorted((a, b) => a.takenAt - b.takenAt)) {
      if (store.backups.get(summary.id) !== undefined) continue;
      store.transaction(() => this.#record(destinationId, summary));
      found++;
    }
    if (damaged.length > 0)
      log.warn({ destination: destinationId, damaged }, 'manifests that cannot be read');
    return { found, damaged: damaged.map(({ id }) => id) };
  }

  #record(destinationId: string, summary: BackupSummary): void {
    const { store, events } = this.#deps;
    const { id, tenant, vm } = summary;
    const taken = store.backups.byName(summary.name).some((backup) => backup.tenant === tenant);
    const name = taken ? `${summary.name.slice(0, 40)}-${id.slice('bak-'.length)}` : summary.name;
    store.backups.insert({
      id,
      tenant,
      name,
      state: 'creating',
      destination_id: destinationId,
      schedule_id: summary.scheduleId,
      vm_id: vm.id,
      vm_name: vm.name,
      image_id: vm.imageId,
      memory_bytes: vm.memoryBytes,
      append: vm.append,
      config: JSON.stringify(configOf(vm)),
      keep: null,
      taken_at: summary.takenAt,
      created_at: summary.createdAt,
    });
    recordDisks(store, summary);
    store.backups.publish(summary);
    const resource = { type: 'backup', id } as const;
    events.append({ type: 'backup.created', tenant, resource, data: { name, vm_id: vm.id, rebuilt: true } });
  }

  #enqueue(who: Principal, kind: 'backup.collect' | 'backup.rebuild', id: string): Promise<Operation> {
    return this.#deps.operations.enqueue(
      { kind, tenant: who.tenant, resources: [{ type: 'backup-destination', id }], mayCancel: true },
      kind,
      (operationId) => ({ operationId, destinationId: id }),
      { maxAttempts: 2 },
    );
  }

  #view(row: DestinationRow): BackupDestination {
    const location = this.#deps.stores.location(row);
    return {
      id: row.id,
      name: row.name,
      kind: row.kind,
      location: location.kind === 'directory' ? location.folder : location.remote,
      backups: this.#deps.store.backups.inDestination(row.id).filter(({ state }) => state === 'available')
        .length,
      created_at: iso(row.created_at),
    };
  }
}

/** What is no JSON is nobody's settings. */
function configOf({ networks, debugExitPort, settings }: BackedUpVm): BackupConfig {
  try {
    const saved = settings === undefined ? undefined : (JSON.parse(settings) as SavedSettings);
    return { networks, debugExitPort, settings: saved };
  } catch {
    return { networks, debugExitPort };
  }
}
