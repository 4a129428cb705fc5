/** JSON bodies, and files as streams where a route takes them. A body that is no JSON is answered with the place where it stops being one. */
import type { FastifyInstance } from 'fastify';
import { AppError } from '../../contracts/errors.ts';
import { jsonErrorPosition } from './json-position.ts';

export function installBodyParser(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    'application/json',
    { parseAs: 'string' },
    async (_request: unknown, body: string | Buffer) => parseJson(body.toString()),
  );
  // Its content goes where the route puts it; other routes refuse what is no object.
  app.addContentTypeParser('application/octet-stream', (_request, body, done) => done(null, body));
  // A body that is not sent is an empty object, so that its fields' defaults apply.
  app.addHook('preValidation', async (request) => {
    if (request.body === undefined && request.method !== 'GET') request.body = {};
  });
}

function parseJson(text: string): unknown {
  if (text.trim() === '') return {};
  try {
    return JSON.parse(text, refusePrototype);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError('invalid_input', `the body is not JSON: ${placeOf(text)}`, {
      field: 'body',
      remedy: 'send a JSON object',
      cause: error,
    });
  }
}

function placeOf(text: string): string {
  const position = jsonErrorPosition(text);
  const before = text.slice(0, position).split('\n');
  const place = `line ${before.length}, column ${before.at(-1)!.length + 1} (position ${position})`;
  return position >= text.length
    ? `it ends too early, at ${place}`
    : `unexpected ${JSON.stringify(text[position])} at ${place}`;
}

function refusePrototype(this: unknown, key: string, value: unknown): unknown {
  if (key !== '__proto__') return value;
  throw new AppError('invalid_input', 'the body has a field "__proto__"', {
    field: '__proto__',
    remedy: 'leave it out',
  });
}
