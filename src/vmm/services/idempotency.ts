/** Idempotency-Key: the first answer again for a repeated request (IETF draft-ietf-httpapi-idempotency-key-header). */
import { createHash } from 'node:crypto';
import { AppError } from '../../contracts/errors.ts';
import type { Store } from '../../db/index.ts';

const KEPT_MS = 24 * 3600 * 1000;

export interface RecordedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export class Idempotency {
  readonly #store: Store;

  constructor(store: Store) {
    this.#store = store;
  }

  /** Undefined: carry it out, then `finish` or `forget`. `idempotency_mismatch`, `idempotency_in_flight`. */
  begin(tokenId: string, key: string, request: string): RecordedAnswer | undefined {
    const { idempotency } = this.#store;
    const fingerprint = createHash('sha256').update(request).digest();
    if (idempotency.begin(tokenId, key, fingerprint, Date.now())) return undefined;
    const row = idempotency.get(tokenId, key)!;
    if (!row.fingerprint.equals(fingerprint)) {
      throw new AppError(
        'idempotency_mismatch',
        'this key was used for a request with another address or body',
        {
          field: 'Idempotency-Key',
          remedy: 'use a new key for a new request',
        },
      );
    }
    if (row.status === null) {
      throw new AppError('idempotency_in_flight', 'the first request with this key has no answer yet', {
        field: 'Idempotency-Key',
        remedy: 'try again in a moment, with the same key',
      });
    }
    return {
      status: row.status,
      headers: JSON.parse(row.headers ?? '{}') as Record<string, string>,
      body: row.body ?? '',
    };
  }

  finish(tokenId: string, key: string, answer: RecordedAnswer): void {
    this.#store.idempotency.finish(tokenId, key, answer.status, JSON.stringify(answer.headers), answer.body);
  }

  /** The request came to nothing that is worth repeating: the key is free again. */
  forget(tokenId: string, key: string): void {
    this.#store.idempotency.forget(tokenId, key);
  }

  /** At start: what an earlier process was doing has no answer any more. */
  recover(): void {
    this.#store.idempotency.forgetUnfinished();
  }

  sweep(): void {
    this.#store.idempotency.removeBefore(Date.now() - KEPT_MS);
  }
}
