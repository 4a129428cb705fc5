/** The dashboard's files at `/`, and the terminal it uses at /vendor/xterm. */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { fileURLToPath } from 'node:url';
import fastifyStatic from '@fastify/static';
import type { FastifyInstance } from 'fastify';

const PUBLIC = fileURLToPath(new URL('../../dashboard/public/', import.meta.url));

const HEADERS = {
  // xterm.js sets styles on its elements.
  'content-security-policy':
    "default-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
} as const;

const VENDOR = {
  'xterm.mjs': '@xterm/xterm/lib/xterm.mjs',
  'xterm.css': '@xterm/xterm/css/xterm.css',
  'addon-fit.mjs': '@xterm/addon-fit/lib/addon-fit.mjs',
} as const;

/** Without the files (a daemon that was built without them) there is no dashboard, only the API. */
export async function installDashboard(app: FastifyInstance): Promise<void> {
  await app.register(async (scope) => {
    scope.addHook('onRoute', (route) => {
      route.config = { ...route.config, access: 'public' };
      route.schema = { ...route.schema, hide: true };
    });
    scope.addHook('onSend', async (_request, reply) => {
      reply.headers(HEADERS);
    });
    const files = fs.existsSync(PUBLIC);
    await scope.register(fastifyStatic, { root: PUBLIC, prefix: '/', wildcard: false, serve: files });
    for (const [name, module] of Object.entries(VENDOR)) {
      const file = fileURLToPath(import.meta.resolve(module));
      scope.get(`/vendor/xterm/${name}`, (_request, reply) =>
        reply.sendFile(path.basename(file), path.dirname(file)),
      );
    }
  });
}
