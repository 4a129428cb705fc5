import type { Sqlite } from './database.ts';
import type { IdempotencyRow, PageQuery, TokenRow } from './rows.ts';

export class TokenTable {
  readonly #insert;
  readonly #get;
  readonly #byName;
  readonly #byHash;
  readonly #page;
  readonly #remove;

  constructor(db: Sqlite) {
    this.#insert = db.prepare<[Omit<TokenRow, 'seq'>]>(
      `INSERT INTO tokens (id, name, role, tenant, hash, created_at)
        VALUES (@id, @name, @role, @tenant, @hash, @created_at)`,
    );
    this.#get = db.prepare<[string], TokenRow>('SELECT * FROM tokens WHERE id = ?');
    this.#byName = db.prepare<[string], TokenRow>('SELECT * FROM tokens WHERE name = ?');
    this.#byHash = db.prepare<[Buffer], TokenRow>('SELECT * FROM tokens WHERE hash = ?');
    this.#page = db.prepare<[number, number], TokenRow>(
      'SELECT * FROM tokens WHERE seq > ? ORDER BY seq LIMIT ?',
    );
    this.#remove = db.prepare<[string]>('DELETE FROM tokens WHERE id = ?');
  }

  insert(token: Omit<TokenRow, 'seq'>): void {
    this.#insert.run(token);
  }
  get(id: string): TokenRow | undefined {
    return this.#get.get(id);
  }
  byName(name: string): TokenRow | undefined {
    return this.#byName.get(name);
  }
  byHash(hash: Buffer): TokenRow | undefined {
    return this.#byHash.get(hash);
  }
  page(query: PageQuery): TokenRow[] {
    return this.#page.all(query.after, query.limit);
  }
  remove(id: string): void {
    this.#remove.run(id);
  }
}

export class IdempotencyTable {
  readonly #begin;
  readonly #get;
  readonly #finish;
  readonly #forget;
  readonly #forgetOpen;
  readonly #removeOld;

  constructor(db: Sqlite) {
    this.#begin = db.prepare<[string, string, Buffer, number]>(
      `INSERT INTO idempotency_keys (token_id, key, fingerprint, created_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`,
    );
    this.#get = db.prepare<[string, string], IdempotencyRow>(
      'SELECT * FROM idempotency_keys WHERE token_id = ? AND key = ?',
    );
    this.#finish = db.prepare<[number, string, string, string, string]>(
      'UPDATE idempotency_keys SET status = ?, headers = ?, body = ? WHERE token_id = ? AND key = ?',
    );
    this.#forget = db.prepare<[string, string]>(
      'DELETE FROM idempotency_keys WHERE token_id = ? AND key = ?',
    );
    this.#forgetOpen = db.prepare<[]>('DELETE FROM idempotency_keys WHERE status IS NULL');
    this.#removeOld = db.prepare<[number]>(
      'DELETE FROM idempotency_keys WHERE created_at < ? AND status IS NOT NULL',
    );
  }

  /** False when the key is there already. */
  begin(tokenId: string, key: string, fingerprint: Buffer, now: number): boolean {
    return this.#begin.run(tokenId, key, fingerprint, now).changes === 1;
  }
  get(tokenId: string, key: string): IdempotencyRow | undefined {
    return this.#get.get(tokenId, key);
  }
  finish(tokenId: string, key: string, status: number, headers: string, body: string): void {
    this.#finish.run(status, headers, body, tokenId, key);
  }
  forget(tokenId: string, key: string): void {
    this.#forget.run(tokenId, key);
  }
  /** Requests that an earlier process did not finish. */
  forgetUnfinished(): void {
    this.#forgetOpen.run();
  }
  removeBefore(time: number): void {
    this.#removeOld.run(time);
  }
}
