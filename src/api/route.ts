/** Routes take their method, address and success status from the contract's table. */
import type { FastifyInstance, RawServerDefault } from 'fastify';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { FastifyBaseLogger } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type OperationId, Problem, ROUTES, type RouteRow, Ref } from '../contracts/api/index.ts';
import type { Services } from '../vmm/index.ts';

export type Api = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  ZodTypeProvider
>;

/** A resource's routes. */
export type RouteGroup = (app: Api, services: Services) => void;

export function address(operationId: OperationId): {
  readonly method: RouteRow['method'];
  readonly url: string;
} {
  // INVARIANT: OperationId is made of the table's rows.
  const row: RouteRow = ROUTES.find((candidate) => candidate.operationId === operationId)!;
  return { method: row.method, url: row.path.replaceAll(/\{(\w+)\}/g, ':$1') };
}

/** Error answers, for the description. */
export const problems = { '4xx': Problem, '5xx': Problem } as const;

export const NoBody = z.strictObject({});
export const NoContent = z.null().meta({ description: 'No content' });

/** `dry_run=true` and `force=1` alike. */
export const Flag = z
  .enum(['true', 'false', '1', '0'])
  .default('false')
  .transform((text) => text === 'true' || text === '1');

export const VmParams = z.object({ vm: Ref });
