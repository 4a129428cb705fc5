/** Bearer tokens. Only the SHA-256 of a secret is kept; the secret itself is 256 random bits. */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import * as fs from 'node:fs';
import type { Page, Token, TokenCreate, TokenSecret } from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import type { Store, TokenRow } from '../../db/index.ts';
import { iso, notFound, type Principal, pageOfRows } from '../access.ts';
import type { EventLog } from '../events.ts';
import { newId } from '../ids.ts';
import { nameTaken } from './networks.ts';

const PREFIX = 'umlaut_';
const ADMIN_NAME = 'admin';

export class Tokens {
  readonly #store: Store;
  readonly #events: EventLog;

  constructor(store: Store, events: EventLog) {
    this.#store = store;
    this.#events = events;
  }

  /** At start: makes the admin token if there is none, its secret in `file` with mode 0600. */
  ensureAdmin(file: string): void {
    if (this.#store.tokens.byName(ADMIN_NAME) !== undefined) return;
    const secret = newSecret();
    // The file first: a crash between the two leaves a file that the next start writes anew.
    fs.rmSync(file, { force: true });
    fs.writeFileSync(file, `${secret}\n`, { mode: 0o600, flag: 'wx', flush: true });
    this.#insert(secret, { name: ADMIN_NAME, role: 'admin', tenant: 'default' });
  }

  /** Undefined when no token has this secret. */
  authenticate(secret: string): Principal | undefined {
    const hash = hashOf(secret);
    const row = this.#store.tokens.byHash(hash);
    // The index finds the row by its hash, which tells nothing of the secret; the comparison takes constant time.
    if (row === undefined || !timingSafeEqual(row.hash, hash)) return undefined;
    return { tokenId: row.id, role: row.role, tenant: row.tenant };
  }

  list(query: { limit: number; cursor?: string | undefined }): Page<Token> {
    const read = (after: number, limit: number): TokenRow[] => this.#store.tokens.page({ after, limit });
    return pageOfRows(query, read, (rows) => rows.map(tokenView));
  }

  create(body: TokenCreate): TokenSecret {
    if (this.#store.tokens.byName(body.name) !== undefined) throw nameTaken('token', body.name);
    const secret = newSecret();
    return { ...tokenView(this.#insert(secret, body)), secret };
  }

  delete(who: Principal, ref: string): void {
    const row = this.#store.tokens.get(ref) ?? this.#store.tokens.byName(ref);
    if (row === undefined) throw notFound('token', ref);
    if (row.id === who.tokenId) {
      throw new AppError('protected', 'a token cannot delete itself', { remedy: 'use another admin token' });
    }
    this.#store.transaction(() => {
      this.#store.tokens.remove(row.id);
      const resource = { type: 'token', id: row.id } as const;
      this.#events.append({ type: 'token.deleted', tenant: null, resource, data: { name: row.name } });
    });
  }

  #insert(secret: string, { name, role, tenant }: TokenCreate): TokenRow {
    const id = newId('tok');
    return this.#store.transaction(() => {
      this.#store.tokens.insert({ id, name, role, tenant, hash: hashOf(secret), created_at: Date.now() });
      const resource = { type: 'token', id } as const;
      this.#events.append({ type: 'token.created', tenant: null, resource, data: { name, role } });
      return this.#store.tokens.get(id)!;
    });
  }
}

function newSecret(): string {
  return PREFIX + randomBytes(32).toString('base64url');
}

function hashOf(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

function tokenView({ id, name, role, tenant, created_at }: TokenRow): Token {
  return { id, name, role, tenant, created_at: iso(created_at) };
}
