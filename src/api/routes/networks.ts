import { z } from 'zod';
import { Network, NetworkCreate, NetworkListQuery, NetworkPage, Ref } from '../../contracts/api/index.ts';
import type { Principal } from '../../vmm/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['networks'];
const params = z.object({ network: Ref });
const config = { access: 'admin' } as const;

/** Whose VMs are on a network is no tenant's business. */
function shown(who: Principal, network: Network): Network {
  return who.role === 'admin' ? network : { ...network, leases: [], ports: 0 };
}

export const networkRoutes: RouteGroup = (app, { networks }) => {
  app.route({
    ...address('listNetworks'),
    schema: {
      operationId: 'listNetworks',
      tags,
      querystring: NetworkListQuery,
      response: { 200: NetworkPage, ...problems },
    },
    handler: async (request) => {
      const page = await networks.list(request.query);
      return { ...page, items: page.items.map((network) => shown(principalOf(request), network)) };
    },
  });

  app.route({
    ...address('createNetwork'),
    schema: {
      operationId: 'createNetwork',
      tags,
      body: NetworkCreate,
      response: { 201: Network, ...problems },
    },
    config,
    handler: async (request, reply) => {
      const network = await networks.create(request.body);
      return reply.code(201).header('location', `/v1/networks/${network.id}`).send(network);
    },
  });

  app.route({
    ...address('getNetwork'),
    schema: { operationId: 'getNetwork', tags, params, response: { 200: Network, ...problems } },
    handler: async (request) => shown(principalOf(request), await networks.get(request.params.network)),
  });

  app.route({
    ...address('deleteNetwork'),
    schema: { operationId: 'deleteNetwork', tags, params, response: { 204: NoContent, ...problems } },
    config,
    handler: async (request, reply) => {
      await networks.delete(request.params.network);
      return reply.code(204).send(null);
    },
  });
};
