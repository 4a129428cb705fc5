/** The durable log of what has happened, and those who listen to it. */
import type { Event, EventType, ResourceType } from '../contracts/api/index.ts';
import type { EventRow, Store } from '../db/index.ts';
import { iso, mayRead, type Principal } from './access.ts';

/** Older events are deleted; a client that comes back later starts from the lists. */
const EVENTS_KEPT = 100_000;
const TRIM_EVERY = 1000;

export interface NewEvent {
  readonly type: EventType;
  /** null: for the operator alone. */
  readonly tenant: string | null;
  readonly resource?: { readonly type: ResourceType; readonly id: string } | undefined;
  readonly data?: Readonly<Record<string, unknown>> | undefined;
}

export interface LoggedEvent {
  readonly tenant: string | null;
  readonly event: Event;
}

export class EventLog {
  readonly #store: Store;
  readonly #listeners = new Set<(logged: LoggedEvent) => void>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Part of the running transaction, if there is one: listeners are told when it is committed. */
  append({ type, tenant, resource, data = {} }: NewEvent): void {
    const row: Omit<EventRow, 'seq'> = {
      time: Date.now(),
      tenant,
      type,
      resource_type: resource?.type ?? null,
      resource_id: resource?.id ?? null,
      data: JSON.stringify(data),
    };
    const seq = this.#store.events.insert(row);
    if (seq % TRIM_EVERY === 0) this.#store.events.removeUpTo(seq - EVENTS_KEPT);
    const logged = { tenant, event: view({ ...row, seq }) };
    this.#store.afterCommit(() => {
      for (const listener of [...this.#listeners]) listener(logged);
    });
  }

  /** Listeners must not throw. Returns the function that unsubscribes. */
  subscribe(listener: (logged: LoggedEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  lastSeq(): number {
    return this.#store.events.lastSeq();
  }

  /** Events after `after` that `who` may see, and the number up to which they were looked through. */
  after(
    who: Principal,
    after: number,
    limit: number,
    types: TypeFilter,
  ): { items: Event[]; last_seq: number } {
    const items: Event[] = [];
    let last = after;
    for (;;) {
      const rows = this.#store.events.after(last, limit);
      for (const row of rows) {
        last = row.seq;
        if (mayRead(who, row) && types(row.type)) items.push(view(row));
        if (items.length === limit) return { items, last_seq: last };
      }
      if (rows.length < limit) return { items, last_seq: last };
    }
  }

  /**
   * Waits until `done` gives something, looking again after every event. Undefined after `timeoutMs`, or when
   * `signal` is aborted.
   */
  waitFor<T>(done: () => T | undefined, timeoutMs: number, signal?: AbortSignal): Promise<T | undefined> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        unsubscribe();
        clearTimeout(timer);
        signal?.removeEventListener('abort', giveUp);
        settle();
      };
      const giveUp = (): void => finish(() => resolve(undefined));
      const look = (): void => {
        try {
          const value = done();
          if (value !== undefined) finish(() => resolve(value));
        } catch (error) {
          finish(() => reject(error));
        }
      };
      const unsubscribe = this.subscribe(look);
      const timer = setTimeout(giveUp, timeoutMs);
      signal?.addEventListener('abort', giveUp, { once: true });
      if (signal?.aborted) giveUp();
      else look();
    });
  }
}

export type TypeFilter = (type: string) => boolean;

/** From a comma-separated list of types, where `vm.*` stands for all of a resource. Missing: all. */
export function typeFilter(list: string | undefined): TypeFilter {
  if (list === undefined) return () => true;
  const wanted = list.split(',').map((type) => type.trim());
  return (type) =>
    wanted.some((pattern) =>
      pattern.endsWith('.*') ? type.startsWith(pattern.slice(0, -1)) : pattern === type,
    );
}

function view(row: EventRow): Event {
  const { seq, time, type, resource_type, resource_id, data } = row;
  return {
    seq,
    time: iso(time),
    // INVARIANT: rows are written by `append` alone.
    type: type as EventType,
    resource: resource_id === null ? null : { type: resource_type as ResourceType, id: resource_id },
    data: JSON.parse(data) as Record<string, unknown>,
  };
}
