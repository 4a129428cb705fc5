import { z } from 'zod';
import { Forward, ForwardCreate, Forwards, Ref } from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['networks'];
const params = z.object({ network: Ref });
const ForwardParams = z.object({ network: Ref, forward: z.string().max(40) });
/** Ports of the host are the operator's. */
const config = { access: 'admin' } as const;

export const forwardRoutes: RouteGroup = (app, { forwards }) => {
  app.route({
    ...address('listForwards'),
    schema: { operationId: 'listForwards', tags, params, response: { 200: Forwards, ...problems } },
    handler: async (request) => ({ items: forwards.list(principalOf(request), request.params.network) }),
  });

  app.route({
    ...address('createForward'),
    schema: {
      operationId: 'createForward',
      tags,
      params,
      body: ForwardCreate,
      response: { 201: Forward, ...problems },
    },
    config,
    handler: async (request, reply) => {
      const made = await forwards.create(principalOf(request), request.params.network, request.body);
      return reply.code(201).send(made);
    },
  });

  app.route({
    ...address('deleteForward'),
    schema: {
      operationId: 'deleteForward',
      tags,
      params: ForwardParams,
      response: { 204: NoContent, ...problems },
    },
    config,
    handler: async (request, reply) => {
      await forwards.delete(principalOf(request), request.params.network, request.params.forward);
      return reply.code(204).send(null);
    },
  });
};
