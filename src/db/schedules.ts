import type { Sqlite } from './database.ts';
import type { PageQuery, ScheduleRow } from './rows.ts';
import { definedOf } from './vms.ts';

export type NewSchedule = Omit<ScheduleRow, 'seq' | 'last_at' | 'last_operation_id'>;

export class ScheduleTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #page;
  readonly #due;
  readonly #nextDue;
  readonly #ofDestination;
  readonly #update;
  readonly #plan;
  readonly #ran;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[NewSchedule]>(
      `INSERT INTO backup_schedules (id, tenant, name, vm_id, destination_id, cron, time_zone, jitter_seconds, quiesce, keep,
        enabled, next_at, created_at) VALUES (@id, @tenant, @name, @vm_id, @destination_id, @cron, @time_zone,
        @jitter_seconds, @quiesce, @keep, @enabled, @next_at, @created_at)`,
    );
    this.#get = db.prepare<[string], ScheduleRow>('SELECT * FROM backup_schedules WHERE id = ?');
    this.#byName = db.prepare<[string], ScheduleRow>(
      'SELECT * FROM backup_schedules WHERE name = ? ORDER BY seq',
    );
    this.#page = db.prepare<[object], ScheduleRow>(
      `SELECT * FROM backup_schedules WHERE seq > @after AND (@tenant IS NULL OR tenant = @tenant)
        AND (@vmId IS NULL OR vm_id = @vmId) ORDER BY seq LIMIT @limit`,
    );
    this.#due = db.prepare<[number], ScheduleRow>(
      'SELECT * FROM backup_schedules WHERE enabled = 1 AND next_at <= ? ORDER BY next_at, seq',
    );
    this.#nextDue = db.prepare<[], { at: number | null }>(
      'SELECT min(next_at) AS at FROM backup_schedules WHERE enabled = 1',
    );
    this.#ofDestination = db.prepare<[string], ScheduleRow>(
      'SELECT * FROM backup_schedules WHERE destination_id = ?',
    );
    this.#update = db.prepare<[object]>(
      `UPDATE backup_schedules SET cron = @cron, time_zone = @time_zone, jitter_seconds = @jitter_seconds,
        quiesce = @quiesce, keep = @keep, enabled = @enabled, destination_id = @destination_id, next_at = @next_at
        WHERE id = @id`,
    );
    this.#plan = db.prepare<[number | null, string]>('UPDATE backup_schedules SET next_at = ? WHERE id = ?');
    this.#ran = db.prepare<[number, string | null, string]>(
      'UPDATE backup_schedules SET last_at = ?, last_operation_id = ? WHERE id = ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM backup_schedules WHERE id = ?');
  }

  insert(schedule: NewSchedule): void {
    this.#insert.run(schedule);
  }
  get(id: string): ScheduleRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): ScheduleRow[] {
    return this.#byName.all(name);
  }
  page(query: PageQuery, vmId: string | undefined): ScheduleRow[] {
    return this.#page.all({ tenant: null, ...definedOf(query), vmId: vmId ?? null });
  }
  /** Enabled ones whose time has come, the longest waiting first. */
  due(now: number): ScheduleRow[] {
    return this.#due.all(now);
  }
  /** When the next one is due; null when none ever is. */
  nextDue(): number | null {
    return this.#nextDue.get()?.at ?? null;
  }
  ofDestination(destinationId: string): ScheduleRow[] {
    return this.#ofDestination.all(destinationId);
  }
  update(schedule: NewSchedule): void {
    this.#update.run(schedule);
  }
  plan(id: string, nextAt: number | null): void {
    this.#plan.run(nextAt, id);
  }
  ran(id: string, at: number, operationId: string | null): void {
    this.#ran.run(at, operationId, id);
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
}
