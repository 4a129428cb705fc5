/** What the API keeps of a request beside Fastify's own. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Vm } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';
import type { Principal } from '../vmm/index.ts';

/** Who may call a route. `ticket`: a WebSocket, opened with a ticket or a bearer token. */
export type Access = 'public' | 'read' | 'write' | 'admin' | 'ticket';

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
    /** False: its answer is a secret, which is not kept for an Idempotency-Key. */
    replayable?: boolean;
  }
}

const principals = new WeakMap<FastifyRequest, Principal>();

export function setPrincipal(request: FastifyRequest, who: Principal): void {
  principals.set(request, who);
}

export function findPrincipal(request: FastifyRequest): Principal | undefined {
  return principals.get(request);
}

/** The VM's version is its ETag. */
export function withEtag(reply: FastifyReply, vm: Vm): Vm {
  reply.header('etag', `"${vm.version}"`);
  return vm;
}

/** Of a route that is not public. */
export function principalOf(request: FastifyRequest): Principal {
  const who = principals.get(request);
  if (who === undefined) throw unauthenticated('the request has no bearer token');
  return who;
}

export function unauthenticated(detail: string): AppError {
  return new AppError('unauthenticated', detail, {
    field: 'Authorization',
    remedy:
      'send "Authorization: Bearer TOKEN"; the admin token is in the file admin-token of the state folder',
  });
}

/** Aborted when the client goes away before its answer, and after the answer, when nobody listens any more. */
export function clientGone(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  // Of the answer and not of its connection, which serves many requests.
  reply.raw.once('close', () => gone.abort());
  return gone.signal;
}

const IF_MATCH = /^(?:W\/)?"(\d{1,15})"$/;

/** The version of If-Match; undefined when the header is missing or `*`. */
export function ifMatch(request: FastifyRequest): number | undefined {
  const header = request.headers['if-match'];
  if (header === undefined || header.trim() === '*') return undefined;
  const match = IF_MATCH.exec(header.trim());
  if (match !== null) return Number(match[1]);
  throw new AppError('invalid_input', 'If-Match is not an ETag of this API', {
    field: 'If-Match',
    remedy: 'send the ETag of an earlier answer, in quotation marks',
  });
}
