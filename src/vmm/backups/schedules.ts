/** Backups by the clock. A run that was missed while the daemon was away is made up once, however many there were. */
import { Cron } from 'croner';
import type {
  BackupSchedule,
  BackupScheduleCreate,
  BackupScheduleUpdate,
  KeepPolicy,
  Operation,
  Page,
} from '../../contracts/api/index.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';
import type { ScheduleRow } from '../../db/index.ts';
import { findOwned, iso, isoOrNull, type Principal, pageOfRows, tenantFilter } from '../access.ts';
import { madeUpName, newId } from '../ids.ts';
import { nameTaken } from '../services/networks.ts';
import type { BackupDeps } from './deps.ts';
import type { BackupDestinations } from './destinations.ts';
import { keptBackups } from './retention.ts';

/** Timers count wrong over a change of the clock: they are looked at again this often. */
const TIMER_MS_MAX = 15 * 60 * 1000;
/** A VM whose backup is still being made gets the next one so much later. */
const BUSY_RETRY_MS = 5000;
/** Later than this a run counts as missed. */
const LATE_MS = 2 * 60 * 1000;

/** Begins the backup of a schedule. */
export type BeginScheduled = (schedule: ScheduleRow) => Promise<Operation>;

export class BackupSchedules {
  readonly #deps: BackupDeps;
  readonly #destinations: BackupDestinations;
  readonly #begin: BeginScheduled;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #closed = true;

  constructor(deps: BackupDeps, destinations: BackupDestinations, begin: BeginScheduled) {
    this.#deps = deps;
    this.#destinations = destinations;
    this.#begin = begin;
  }

  start(): void {
    this.#closed = false;
    this.#arm();
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  list(
    who: Principal,
    query: { limit: number; cursor?: string | undefined; vm?: string | undefined },
  ): Page<BackupSchedule> {
    const { store, vms } = this.#deps;
    const vmId = query.vm === undefined ? undefined : vms.find(who, query.vm).id;
    const read = (after: number, limit: number): ScheduleRow[] =>
      store.schedules.page({ after, limit, tenant: tenantFilter(who) }, vmId);
    return pageOfRows(query, read, (rows) => rows.map((row) => this.#view(row)));
  }

  get(who: Principal, ref: string): BackupSchedule {
    return this.#view(this.#find(who, ref));
  }

  create(who: Principal, vmRef: string, body: BackupScheduleCreate): BackupSchedule {
    const { store, vms } = this.#deps;
    const vm = vms.find(who, vmRef);
    const id = newId('sched');
    const { name = madeUpName(), cron, time_zone, jitter_seconds, keep, enabled } = body;
    if (store.schedules.byName(name).some((one) => one.vm_id === vm.id)) throw nameTaken('schedule', name);
    store.transaction(() => {
      store.schedules.insert({
        id,
        tenant: vm.tenant,
        name,
        vm_id: vm.id,
        destination_id: this.#destinations.find(body.destination, 'destination').id,
        cron,
        time_zone,
        jitter_seconds,
        quiesce: Number(body.quiesce),
        keep: keepText(keep, time_zone),
        enabled: Number(enabled),
        next_at: nextRun({ cron, time_zone, jitter_seconds }, Date.now()),
        created_at: Date.now(),
      });
      this.#tell('backup-schedule.created', this.#row(id));
    });
    this.#arm();
    return this.get(who, id);
  }

  update(who: Principal, ref: string, body: BackupScheduleUpdate): BackupSchedule {
    const { store } = this.#deps;
    const row = this.#find(who, ref);
    const destination =
      body.destination === undefined ? undefined : this.#destinations.find(body.destination, 'destination');
    const timing = {
      cron: body.cron ?? row.cron,
      time_zone: body.time_zone ?? row.time_zone,
      jitter_seconds: body.jitter_seconds ?? row.jitter_seconds,
    };
    store.transaction(() => {
      store.schedules.update({
        ...row,
        ...timing,
        destination_id: destination?.id ?? row.destination_id,
        quiesce: Number(body.quiesce ?? row.quiesce),
        keep: body.keep === undefined ? row.keep : keepText(body.keep, timing.time_zone),
        enabled: Number(body.enabled ?? row.enabled),
        next_at: nextRun(timing, Date.now()),
      });
      this.#tell('backup-schedule.updated', row);
    });
    this.#arm();
    return this.get(who, row.id);
  }

  /** Its backups stay. */
  delete(who: Principal, ref: string): void {
    const { store } = this.#deps;
    const row = this.#find(who, ref);
    store.transaction(() => {
      store.schedules.remove(row.id);
      this.#tell('backup-schedule.deleted', row);
    });
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const next = this.#deps.store.schedules.nextDue();
    if (this.#closed || next === null) return;
    const wait = Math.min(Math.max(next - Date.now(), 0), TIMER_MS_MAX);
    this.#timer = setTimeout(() => {
      this.#running = this.#runDue();
    }, wait).unref();
  }

  async #runDue(): Promise<void> {
    const now = Date.now();
    for (const schedule of this.#deps.store.schedules.due(now)) {
      if (this.#closed) return;
      await this.#runOne(schedule, now);
    }
    this.#arm();
  }

  /** Plans the next run before this one begins: a crash in between loses a run, it does not repeat it for ever. */
  async #runOne(schedule: ScheduleRow, now: number): Promise<void> {
    const { store, operations, events, log } = this.#deps;
    if (operations.openOn('backup.create', schedule.vm_id).length > 0) {
      store.schedules.plan(schedule.id, now + BUSY_RETRY_MS);
      return;
    }
    const lateMs = now - (schedule.next_at ?? now);
    store.schedules.plan(schedule.id, nextRun(schedule, now));
    if (lateMs > LATE_MS) {
      const resource = { type: 'backup-schedule', id: schedule.id } as const;
      const data = { name: schedule.name, vm_id: schedule.vm_id, late_seconds: Math.round(lateMs / 1000) };
      events.append({ type: 'backup.missed', tenant: schedule.tenant, resource, data });
    }
    let operationId: string | null = null;
    try {
      operationId = (await this.#begin(schedule)).id;
    } catch (error) {
      log.error(
        { schedule: schedule.id, error: toAppError(error).message },
        'a scheduled backup could not begin',
      );
    }
    store.schedules.ran(schedule.id, now, operationId);
  }

  #tell(
    type: 'backup-schedule.created' | 'backup-schedule.updated' | 'backup-schedule.deleted',
    row: ScheduleRow,
  ): void {
    const resource = { type: 'backup-schedule', id: row.id } as const;
    this.#deps.events.append({
      type,
      tenant: row.tenant,
      resource,
      data: { name: row.name, vm_id: row.vm_id },
    });
  }

  #find(who: Principal, ref: string): ScheduleRow {
    return findOwned(who, 'schedule', ref, this.#deps.store.schedules);
  }

  #row(id: string): ScheduleRow {
    // INVARIANT: it has just been written.
    return this.#deps.store.schedules.get(id)!;
  }

  #view(row: ScheduleRow): BackupSchedule {
    return {
      id: row.id,
      name: row.name,
      vm_id: row.vm_id,
      destination: this.#destinations.find(row.destination_id).name,
      cron: row.cron,
      time_zone: row.time_zone,
      jitter_seconds: row.jitter_seconds,
      quiesce: row.quiesce === 1,
      keep: row.keep === null ? null : (JSON.parse(row.keep) as KeepPolicy),
      enabled: row.enabled === 1,
      next_at: row.enabled === 1 ? isoOrNull(row.next_at) : null,
      last_at: isoOrNull(row.last_at),
      last_operation_id: row.last_operation_id,
      created_at: iso(row.created_at),
    };
  }
}

/** Refuses a time zone that could not be used when the time comes. */
function keepText(keep: KeepPolicy | null, timeZone: string): string | null {
  keptBackups([], { last: 1 }, timeZone);
  return keep === null ? null : JSON.stringify(keep);
}

/** When it is next due after `now`, put off at random by up to the jitter; null when never again. `invalid_input`. */
function nextRun(
  { cron, time_zone, jitter_seconds }: Pick<ScheduleRow, 'cron' | 'time_zone' | 'jitter_seconds'>,
  now: number,
): number | null {
  let next: Date | null;
  try {
    next = new Cron(cron, { timezone: time_zone, paused: true }).nextRun(new Date(now));
  } catch (cause) {
    throw new AppError(
      'invalid_input',
      `${JSON.stringify(cron)} is no time to run at: ${toAppError(cause).message}`,
      {
        field: 'cron',
        remedy: 'write five fields, minute hour day month weekday, such as "30 2 * * *"',
        cause,
      },
    );
  }
  return next === null ? null : next.getTime() + Math.floor(Math.random() * jitter_seconds * 1000);
}
