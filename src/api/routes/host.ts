import { ApiInfo, HostInfo } from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, problems, type RouteGroup } from '../route.ts';

/** Features that clients can ask for by name; a new one is added at the end. */
export const EXTENSIONS = [
  'console_tickets',
  'events_resume',
  'idempotency_keys',
  'dry_run',
  'mconsole',
  'online_backup',
  'tokens',
] as const;

export const hostRoutes: RouteGroup = (app, services) => {
  app.route({
    ...address('getApi'),
    schema: { operationId: 'getApi', tags: ['host'], security: [], response: { 200: ApiInfo } },
    config: { access: 'public' },
    handler: async () => ({
      api_version: 'v1' as const,
      version: services.version,
      extensions: [...EXTENSIONS],
      auth: 'bearer' as const,
    }),
  });

  app.route({
    ...address('getHost'),
    schema: { operationId: 'getHost', tags: ['host'], response: { 200: HostInfo, ...problems } },
    handler: async (request) => {
      const { admission, supervisor, home, startedAt } = services;
      const who = principalOf(request);
      return {
        version: services.version,
        started_at: startedAt.toISOString(),
        home: who.role === 'admin' ? home.dir : '',
        memory: {
          available_bytes: Math.max(admission.hostAvailableBytes, 0),
          limit_bytes: admission.limitBytes,
          committed_bytes: admission.committedBytes,
        },
        vms: { total: supervisor.count(), running: supervisor.running() },
      };
    },
  });
};
