/** Every error answer: RFC 9457 problem details from the error catalogue. Nothing else makes one. */
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import type { Problem } from '../../contracts/api/index.ts';
import { AppError, toAppError } from '../../contracts/errors.ts';

export function installProblems(app: FastifyInstance): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const problem = asAppError(error);
    if (problem.status >= 500 && problem.code === 'internal')
      request.log.error({ err: error }, 'a request failed');
    return sendProblem(request, reply, problem);
  });
  app.setNotFoundHandler((request, reply) => {
    const detail = `there is no ${request.method} ${pathOf(request)}`;
    return sendProblem(request, reply, new AppError('not_found', detail, { remedy: 'see /openapi.json' }));
  });
}

export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: AppError): FastifyReply {
  if (error.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer realm="umlaut"');
  if (error.retryable && error.status !== 500) reply.header('retry-after', '1');
  return reply
    .code(error.status)
    .header('cache-control', 'no-store')
    .type('application/problem+json')
    .send(JSON.stringify(problemOf(request, error)));
}

function problemOf(request: FastifyRequest, error: AppError): Problem {
  const { code, title, status, field, remedy, retryable } = error;
  return {
    type: `urn:umlaut:error:${code}`,
    title,
    status,
    // What went wrong inside is in the log, under the request's id.
    detail:
      code === 'internal'
        ? 'something went wrong inside the daemon; its log has this request id'
        : error.detail,
    instance: pathOf(request),
    code,
    request_id: request.id,
    retryable,
    ...(field === undefined ? {} : { field }),
    ...(remedy === undefined ? {} : { remedy }),
  };
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0]!;
}

function asAppError(error: FastifyError): AppError {
  if (hasZodFastifySchemaValidationErrors(error)) {
    const { instancePath, message, params } = error.validation[0]!;
    return invalidField(fieldName(instancePath), message ?? 'is not valid', params, error.validationContext);
  }
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new AppError('payload_too_large', error.message);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new AppError('unsupported_media_type', error.message, {
        field: 'Content-Type',
        remedy: 'send application/json',
      });
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
    case 'FST_ERR_BAD_URL':
      return new AppError('invalid_input', error.message);
    default:
      return toAppError(error);
  }
}

/** `/disks/0/disk` as `disks[0].disk`. */
function fieldName(instancePath: string): string {
  const parts = instancePath.split('/').filter((part) => part !== '');
  return parts.reduce((name, part) => {
    if (/^\d+$/.test(part)) return `${name}[${part}]`;
    return name === '' ? part : `${name}.${part}`;
  }, '');
}

function invalidField(
  field: string,
  message: string,
  params: unknown,
  context: string | undefined,
): AppError {
  const unknown = unknownKeys(params);
  if (unknown !== undefined) {
    const full = field === '' ? unknown : `${field}.${unknown}`;
    return new AppError(
      'invalid_input',
      `there is no field ${JSON.stringify(full)} in the ${context ?? 'request'}`,
      {
        field: full,
        remedy: 'leave it out, or see /openapi.json for the right name',
      },
    );
  }
  const name = field === '' ? (context ?? 'body') : field;
  return new AppError('invalid_input', `${name}: ${message}`, {
    field: name,
    remedy: 'see /openapi.json for what is possible',
  });
}

/** Of zod's issue `unrecognized_keys`, the first. */
function unknownKeys(params: unknown): string | undefined {
  if (typeof params !== 'object' || params === null) return undefined;
  const keys: unknown = 'keys' in params ? params.keys : undefined;
  if (Array.isArray(keys) && typeof keys[0] === 'string') return keys[0];
  return 'issue' in params ? unknownKeys(params.issue) : undefined;
}
