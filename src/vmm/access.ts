/** Who asks, and what exists for them: another tenant's resources do not. */
import type { TokenRole } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';

export interface Principal {
  readonly tokenId: string;
  readonly role: TokenRole;
  readonly tenant: string;
}

/** The daemon itself. */
export const SYSTEM: Principal = { tokenId: 'system', role: 'admin', tenant: 'default' };

/** The tenant that lists are limited to; undefined for all. */
export function tenantFilter(who: Principal): string | undefined {
  return who.role === 'admin' ? undefined : who.tenant;
}

export function mayRead(who: Principal, resource: { readonly tenant: string | null }): boolean {
  return who.role === 'admin' || resource.tenant === who.tenant;
}

interface Owned {
  readonly tenant: string;
}

/** The resource with this id, or else the asker's own of this name, or (for an admin) the only one of this name. */
export function findOwned<T extends Owned>(
  who: Principal,
  what: string,
  ref: string,
  table: { get(id: string): T | undefined; byName(name: string): T[] },
  field?: string,
): T {
  const byId = table.get(ref);
  if (byId !== undefined && mayRead(who, byId)) return byId;
  const named = table.byName(ref).filter((row) => mayRead(who, row));
  const own = named.find((row) => row.tenant === who.tenant);
  if (own !== undefined) return own;
  if (named.length > 1) {
    throw new AppError('conflict', `several tenants have a ${what} named ${ref}`, {
      field,
      remedy: 'use its id',
    });
  }
  if (named[0] !== undefined) return named[0];
  throw notFound(what, ref, field);
}

export function notFound(what: string, ref: string, field?: string): AppError {
  return new AppError('not_found', `there is no ${what} ${JSON.stringify(ref.slice(0, 80))}`, {
    field,
    remedy: `list the ${what}s to see their ids and names`,
  });
}

export function iso(time: number): string {
  return new Date(time).toISOString();
}
/** As `iso`, for a time that may not have come. */
export function isoOrNull(time: number | null): string | null {
  return time === null ? null : iso(time);
}

const CURSOR = /^[0-9a-z]{1,12}$/;

/** A list's cursor is the last row's `seq`; opaque to clients. */
export function cursorSeq(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (!CURSOR.test(cursor)) {
    throw new AppError('invalid_input', 'the cursor is not one that a list has given', {
      field: 'cursor',
      remedy: 'use next_cursor of the page before, or leave it out',
    });
  }
  return Number.parseInt(cursor, 36);
}

/** Asks for one row more than wanted, to know whether there is a next page. */
export function pageOfRows<R extends { readonly seq: number }, T>(
  query: { readonly limit: number; readonly cursor?: string | undefined },
  read: (after: number, limit: number) => R[],
  view: (rows: R[]) => T[],
): { items: T[]; next_cursor: string | null } {
  const rows = read(cursorSeq(query.cursor), query.limit + 1);
  const shown = rows.slice(0, query.limit);
  const more = rows.length > query.limit;
  return { items: view(shown), next_cursor: more ? shown.at(-1)!.seq.toString(36) : null };
}
