import { z } from 'zod';
import { TtyQuery } from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, problems, type RouteGroup, VmParams } from '../route.ts';

const tags = ['vms'];
/** Not JSON: sent as it is. */
const Body = z.unknown();

export const watchRoutes: RouteGroup = (app, { vms, watches }) => {
  app.route({
    ...address('getTrace'),
    schema: {
      operationId: 'getTrace',
      tags,
      summary: 'JSON lines: what its programs did while it was watched, the oldest first',
      params: VmParams,
      response: { 200: Body, ...problems },
    },
    handler: (request, reply) => {
      const { id } = vms.find(principalOf(request), request.params.vm);
      return reply.type('application/x-ndjson').send(watches.trace(id));
    },
  });

  app.route({
    ...address('getTtyLog'),
    schema: {
      operationId: 'getTtyLog',
      tags,
      summary:
        "What was on its consoles while they were watched: UML's tty_log, or asciicast v2 of one console",
      params: VmParams,
      querystring: TtyQuery,
      response: { 200: Body, ...problems },
    },
    handler: (request, reply) => {
      const { id } = vms.find(principalOf(request), request.params.vm);
      const { format, console } = request.query;
      if (format === 'uml') return reply.type('application/octet-stream').send(watches.tty(id));
      return reply.type('application/x-asciicast').send(watches.cast(id, console));
    },
  });
};
