/** Idempotency-Key on POST: a repeated request gets the first answer again. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { AppError } from '../../contracts/errors.ts';
import type { Services } from '../../vmm/index.ts';
import { findPrincipal } from '../request.ts';

const KEY = /^[\x21-\x7e]{1,128}$/;
const REPLAYED_HEADERS = ['content-type', 'location', 'etag'] as const;

export function installIdempotency(app: FastifyInstance, { idempotency }: Services): void {
  const open = new WeakMap<FastifyRequest, { tokenId: string; key: string }>();

  app.addHook('preHandler', async (request, reply) => {
    const key = request.headers['idempotency-key'];
    const who = findPrincipal(request);
    if (request.method !== 'POST' || key === undefined || who === undefined) return;
    if (request.routeOptions.config.replayable === false) return;
    if (typeof key !== 'string' || !KEY.test(key)) {
      throw new AppError('invalid_input', 'the idempotency key is not 1 to 128 visible ASCII characters', {
        field: 'Idempotency-Key',
        remedy: 'send a UUID',
      });
    }
    const answer = idempotency.begin(
      who.tokenId,
      key,
      `POST ${request.url}\n${JSON.stringify(request.body)}`,
    );
    if (answer === undefined) {
      open.set(request, { tokenId: who.tokenId, key });
      return;
    }
    return reply
      .code(answer.status)
      .headers({ ...answer.headers, 'idempotency-replayed': 'true' })
      .send(answer.body);
  });

  app.addHook('onSend', async (request, reply, payload) => {
    const begun = open.get(request);
    if (begun === undefined) return;
    open.delete(request);
    const { tokenId, key } = begun;
    // What may succeed on another try is not an answer to keep.
    if (reply.statusCode >= 500 || [409, 423, 429].includes(reply.statusCode))
      idempotency.forget(tokenId, key);
    else {
      const headers = REPLAYED_HEADERS.flatMap((name) => {
        const value = reply.getHeader(name);
        return value === undefined ? [] : [[name, String(value)] as const];
      });
      const body = typeof payload === 'string' ? payload : '';
      idempotency.finish(tokenId, key, {
        status: reply.statusCode,
        headers: Object.fromEntries(headers),
        body,
      });
    }
  });
}
