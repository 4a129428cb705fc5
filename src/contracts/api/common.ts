import { z } from 'zod';
import { ERROR_CODES } from '../errors.ts';

/** Names of VMs, images, disks, networks and backups: a DNS label, so that they can be host names. */
export const NAME_PATTERN = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export const Name = z
  .string()
  .regex(NAME_PATTERN, 'use 1 to 63 of a-z, 0-9 and "-", not starting or ending with "-"')
  .meta({ description: 'A DNS label', examples: ['web-1'] });

/** An id or a name, wherever the API takes one in a path or a body. */
export const Ref = z.string().min(1).max(80).meta({ description: 'Id or name' });

export const Timestamp = z.iso.datetime().meta({ description: 'UTC, RFC 3339' });
export const Bytes = z.int().min(0).meta({ description: 'Bytes' });
export const Labels = z
  .record(
    z.string().regex(/^[A-Za-z0-9._/-]{1,63}$/, 'use 1 to 63 of A-Z, a-z, 0-9 and "._/-"'),
    z.string().max(255),
  )
  .refine((labels) => Object.keys(labels).length <= 64, 'at most 64 labels');

export const LIST_LIMIT_DEFAULT = 100;
export const LIST_LIMIT_MAX = 1000;

/** Query of every list. */
export const ListQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(LIST_LIMIT_MAX).default(LIST_LIMIT_DEFAULT),
  cursor: z.string().max(200).optional().meta({ description: '`next_cursor` of the page before' }),
});
export type ListQuery = z.infer<typeof ListQuery>;

/** A page of a list; `next_cursor` is null on the last. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), next_cursor: z.string().nullable() });
}
export interface Page<T> {
  items: T[];
  next_cursor: string | null;
}

export const WAIT_TIMEOUT_MAX_SECONDS = 600;
/** Seconds that a `wait` request holds on before it answers with the state as it is. */
export const WaitTimeout = z.coerce.number().min(0).max(WAIT_TIMEOUT_MAX_SECONDS).default(30);

export const ErrorBody = z.object({
  code: z.enum(ERROR_CODES),
  detail: z.string(),
  field: z.string().optional(),
  remedy: z.string().optional(),
});
export type ErrorBody = z.infer<typeof ErrorBody>;

/** RFC 9457 problem details, `application/problem+json`. */
export const Problem = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  instance: z.string(),
  code: z.enum(ERROR_CODES),
  request_id: z.string(),
  retryable: z.boolean(),
  field: z.string().optional().meta({ description: 'The field of the request at fault' }),
  remedy: z.string().optional().meta({ description: 'What to do next' }),
});
export type Problem = z.infer<typeof Problem>;

/** `GET /v1`, the only route under /v1 that needs no token. */
export const ApiInfo = z.object({
  api_version: z.literal('v1'),
  version: z.string().meta({ description: "The daemon's version" }),
  extensions: z.array(z.string()).meta({ description: 'Features a client can ask for by name' }),
  auth: z.literal('bearer'),
});
export type ApiInfo = z.infer<typeof ApiInfo>;

export const HostInfo = z.object({
  version: z.string(),
  started_at: Timestamp,
  home: z.string(),
  memory: z.object({
    available_bytes: Bytes,
    limit_bytes: Bytes.meta({ description: 'All guests together' }),
    committed_bytes: Bytes.meta({ description: 'Running guests with their overhead' }),
  }),
  vms: z.object({ total: z.int(), running: z.int() }),
});
export type HostInfo = z.infer<typeof HostInfo>;
