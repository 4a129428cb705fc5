import type { Sqlite } from './database.ts';
import type { OperationResourceRow, OperationRow, PageQuery } from './rows.ts';
import { definedOf } from './vms.ts';

export type NewOperation = Pick<
  OperationRow,
  'id' | 'tenant' | 'kind' | 'status' | 'may_cancel' | 'is_job' | 'created_at'
>;
export interface OperationFilter {
  readonly status?: string | undefined;
  readonly resource?: string | undefined;
}

export class OperationTable {
  readonly #insert;
  readonly #addResource;
  readonly #resources;
  readonly #get;
  readonly #page;
  readonly #open;
  readonly #openOn;
  readonly #setProgress;
  readonly #setStatus;
  readonly #end;
  readonly #removeEnded;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[NewOperation]>(
      `INSERT INTO operations (id, tenant, kind, status, may_cancel, is_job, created_at, updated_at)
        VALUES (@id, @tenant, @kind, @status, @may_cancel, @is_job, @created_at, @created_at)`,
    );
    this.#addResource = db.prepare<[string, string, string, string]>(
      `INSERT INTO operation_resources VALUES
        (?, (SELECT count(*) FROM operation_resources WHERE operation_id = ?), ?, ?)`,
    );
    this.#resources = db.prepare<[string], OperationResourceRow>(
      `SELECT operation_id, type, resource_id FROM operation_resources
        WHERE operation_id IN (SELECT value FROM json_each(?)) ORDER BY operation_id, position`,
    );
    this.#get = db.prepare<[string], OperationRow>('SELECT * FROM operations WHERE id = ?');
    this.#page = db.prepare<[object], OperationRow>(
      `SELECT * FROM operations WHERE seq > @after AND (@tenant IS NULL OR tenant = @tenant)
        AND (@status IS NULL OR status = @status) AND (@resource IS NULL OR EXISTS (
          SELECT 1 FROM operation_resources WHERE operation_id = operations.id AND resource_id = @resource))
        ORDER BY seq LIMIT @limit`,
    );
    this.#open = db.prepare<[], OperationRow>('SELECT * FROM operations WHERE ended_at IS NULL ORDER BY seq');
    this.#openOn = db.prepare<[string, string], { id: string }>(
      `SELECT id FROM operations JOIN operation_resources ON operation_id = id
        WHERE ended_at IS NULL AND kind = ? AND resource_id = ?`,
    );
    this.#setProgress = db.prepare<[string | null, number, string]>(
      "UPDATE operations SET status = 'running', progress = ?, updated_at = ? WHERE id = ? AND ended_at IS NULL",
    );
    this.#setStatus = db.prepare<[string, number, string]>(
      'UPDATE operations SET status = ?, updated_at = ? WHERE id = ? AND ended_at IS NULL',
    );
    this.#end = db.prepare<[object]>(
      `UPDATE operations SET status = @status, error = @error, progress = coalesce(@progress, progress), may_cancel = 0,
        updated_at = @now, ended_at = @now WHERE id = @id AND ended_at IS NULL`,
    );
    this.#removeEnded = db.prepare<[number]>('DELETE FROM operations WHERE ended_at < ?');
  }

  insert(operation: NewOperation): void {
    this.#insert.run(operation);
  }
  addResource(id: string, type: string, resourceId: string): void {
    this.#addResource.run(id, id, type, resourceId);
  }
  resources(ids: readonly string[]): OperationResourceRow[] {
    return this.#resources.all(JSON.stringify(ids));
  }
  get(id: string): OperationRow | undefined {
    return this.#get.get(id);
  }
  page(query: PageQuery, filter: OperationFilter): OperationRow[] {
    const { status = null, resource = null } = filter;
    return this.#page.all({ tenant: null, ...definedOf(query), status, resource });
  }
  /** Ids of those on a resource that have not ended. */
  openOn(kind: string, resourceId: string): string[] {
    return this.#openOn.all(kind, resourceId).map((row) => row.id);
  }
  /** Those that have not ended. */
  open(): OperationRow[] {
    return this.#open.all();
  }
  setRunning(id: string, now: number): void {
    this.#setStatus.run('running', now, id);
  }
  setProgress(id: string, progress: string | null, now: number): void {
    this.#setProgress.run(progress, now, id);
  }
  /** False when it had ended already. */
  end(id: string, status: string, error: string | null, progress: string | null, now: number): boolean {
    return this.#end.run({ id, status, error, progress, now }).changes === 1;
  }
  removeEndedBefore(time: number): number {
    return this.#removeEnded.run(time).changes;
  }
}
