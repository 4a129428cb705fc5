import { z } from 'zod';
import {
  Firewall,
  FirewallCreate,
  FirewallListQuery,
  FirewallPage,
  FirewallUpdate,
  Ref,
} from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['firewalls'];
const params = z.object({ firewall: Ref });

export const firewallRoutes: RouteGroup = (app, { firewalls }) => {
  app.route({
    ...address('listFirewalls'),
    schema: {
      operationId: 'listFirewalls',
      tags,
      querystring: FirewallListQuery,
      response: { 200: FirewallPage, ...problems },
    },
    handler: async (request) => firewalls.list(principalOf(request), request.query),
  });

  app.route({
    ...address('createFirewall'),
    schema: {
      operationId: 'createFirewall',
      tags,
      body: FirewallCreate,
      response: { 201: Firewall, ...problems },
    },
    handler: async (request, reply) => {
      const made = firewalls.create(principalOf(request), request.body);
      return reply.code(201).header('location', `/v1/firewalls/${made.id}`).send(made);
    },
  });

  app.route({
    ...address('getFirewall'),
    schema: { operationId: 'getFirewall', tags, params, response: { 200: Firewall, ...problems } },
    handler: async (request) => firewalls.get(principalOf(request), request.params.firewall),
  });

  app.route({
    ...address('updateFirewall'),
    schema: {
      operationId: 'updateFirewall',
      tags,
      summary: 'Changes rules, at once on all network cards that have them',
      params,
      body: FirewallUpdate,
      response: { 200: Firewall, ...problems },
    },
    handler: (request) => firewalls.update(principalOf(request), request.params.firewall, request.body),
  });

  app.route({
    ...address('deleteFirewall'),
    schema: { operationId: 'deleteFirewall', tags, params, response: { 204: NoContent, ...problems } },
    handler: async (request, reply) => {
      firewalls.delete(principalOf(request), request.params.firewall);
      return reply.code(204).send(null);
    },
  });
};
