/** Bearer tokens (RFC 6750) and what their roles may do; a bucket of requests for each token. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../../contracts/errors.ts';
import type { Principal, Services } from '../../vmm/index.ts';
import { type Access, setPrincipal, unauthenticated } from '../request.ts';

const BEARER = /^Bearer +([\x21-\x7e]{1,200}) *$/i;

export interface RateLimit {
  /** Requests at once. */
  readonly burst: number;
  /** Given back. */
  readonly perSecond: number;
}

interface Bucket {
  level: number;
  at: number;
}

export function installAuth(app: FastifyInstance, services: Services, limit: RateLimit): void {
  const buckets = new Map<string, Bucket>();
  app.addHook('onRequest', async (request, reply) => {
    const { access = request.method === 'GET' ? 'read' : 'write' } = request.routeOptions.config;
    if (access === 'public' || request.is404) return;
    const secret = bearerOf(request);
    if (secret === undefined && access === 'ticket' && hasTicket(request)) return;
    if (secret === undefined) throw unauthenticated('the request has no bearer token');
    const who = services.tokens.authenticate(secret);
    if (who === undefined) throw unauthenticated('the bearer token is not known');
    spend(buckets, who.tokenId, limit, reply);
    requireRole(who, access);
    setPrincipal(request, who);
  });
}

function bearerOf(request: FastifyRequest): string | undefined {
  const header = request.headers.authorization;
  if (header === undefined) return undefined;
  const secret = BEARER.exec(header)?.[1];
  if (secret === undefined) throw unauthenticated('the Authorization header is not "Bearer TOKEN"');
  return secret;
}

function hasTicket(request: FastifyRequest): boolean {
  const { query } = request;
  return typeof query === 'object' && query !== null && 'ticket' in query;
}

function requireRole({ role }: Principal, access: Access): void {
  if (role === 'admin' || access === 'read' || access === 'ticket') return;
  if (access === 'write' && role === 'user') return;
  const needed = access === 'admin' ? 'an admin' : 'a user';
  throw new AppError('forbidden', `a ${role} token does not allow this`, { remedy: `use ${needed} token` });
}

/** Headers as in draft-ietf-httpapi-ratelimit-headers. */
function spend(buckets: Map<string, Bucket>, tokenId: string, limit: RateLimit, reply: FastifyReply): void {
  const now = performance.now();
  const bucket = buckets.get(tokenId) ?? { level: limit.burst, at: now };
  buckets.set(tokenId, bucket);
  bucket.level = Math.min(limit.burst, bucket.level + ((now - bucket.at) / 1000) * limit.perSecond);
  bucket.at = now;
  const empty = bucket.level < 1;
  if (!empty) bucket.level -= 1;
  reply.headers({
    'ratelimit-limit': limit.burst,
    'ratelimit-remaining': Math.floor(bucket.level),
    'ratelimit-reset': Math.ceil((limit.burst - bucket.level) / limit.perSecond),
  });
  if (empty) {
    throw new AppError(
      'rate_limited',
      `more than ${limit.burst} requests at once, or ${limit.perSecond} a second`,
      {
        remedy: 'wait a second; RateLimit-Remaining tells how many are left',
      },
    );
  }
}
