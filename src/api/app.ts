/** The HTTP and WebSocket front door. It is made without listening, so that tests can call it directly. */
import { randomBytes } from 'node:crypto';
import websocket from '@fastify/websocket';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Services } from '../vmm/index.ts';
import { installAuth, type RateLimit } from './plugins/auth.ts';
import { installBodyParser } from './plugins/body.ts';
import { installDashboard } from './plugins/dashboard.ts';
import { installIdempotency } from './plugins/idempotency.ts';
import { installOpenApi } from './plugins/openapi.ts';
import { installProblems } from './plugins/problem.ts';
import { backupDestinationRoutes } from './routes/backup-destinations.ts';
import { backupScheduleRoutes } from './routes/backup-schedules.ts';
import { backupRoutes } from './routes/backups.ts';
import { consoleRoutes } from './routes/consoles.ts';
import { deviceRoutes } from './routes/devices.ts';
import { diskRoutes } from './routes/disks.ts';
import { eventRoutes } from './routes/events.ts';
import { hostRoutes } from './routes/host.ts';
import { firewallRoutes } from './routes/firewalls.ts';
import { imageRoutes } from './routes/images.ts';
import { lineageRoutes } from './routes/lineage.ts';
import { mconsoleRoutes } from './routes/mconsole.ts';
import { forwardRoutes } from './routes/forwards.ts';
import { networkRoutes } from './routes/networks.ts';
import { operationRoutes } from './routes/operations.ts';
import { snapshotRoutes } from './routes/snapshots.ts';
import { tokenRoutes } from './routes/tokens.ts';
import { vmRoutes } from './routes/vms.ts';
import { watchRoutes } from './routes/watches.ts';

const BODY_BYTES_MAX = 1024 * 1024;
/** Of one message from a console's viewer. */
const MESSAGE_BYTES_MAX = 64 * 1024;
const RATE_LIMIT: RateLimit = { burst: 1000, perSecond: 200 };

const GROUPS = [
  hostRoutes,
  vmRoutes,
  watchRoutes,
  deviceRoutes,
  mconsoleRoutes,
  consoleRoutes,
  diskRoutes,
  imageRoutes,
  networkRoutes,
  firewallRoutes,
  forwardRoutes,
  backupRoutes,
  snapshotRoutes,
  backupDestinationRoutes,
  backupScheduleRoutes,
  lineageRoutes,
  operationRoutes,
  eventRoutes,
  tokenRoutes,
];

export interface ApiOptions {
  readonly services: Services;
  readonly log: FastifyBaseLogger;
  readonly rateLimit?: RateLimit | undefined;
}

export async function buildApi({
  services,
  log,
  rateLimit = RATE_LIMIT,
}: ApiOptions): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log,
    bodyLimit: BODY_BYTES_MAX,
    genReqId: () => `req-${randomBytes(8).toString('hex')}`,
    // Failures are logged by the error handler; what was done is in the event log.
    logController: new LogController({ disableRequestLogging: true }),
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 200 },
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  installProblems(app);
  installBodyParser(app);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
  });
  await app.register(websocket, { options: { maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false } });
  installAuth(app, services, rateLimit);
  installIdempotency(app, services);
  await installOpenApi(app, services.version);
  await installDashboard(app);
  for (const group of GROUPS) group(app, services);
  await app.ready();
  return app;
}
