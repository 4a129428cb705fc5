import { z } from 'zod';
import { Ref, TokenCreate, TokenListQuery, TokenPage, TokenSecret } from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['tokens'];
const config = { access: 'admin' } as const;

export const tokenRoutes: RouteGroup = (app, { tokens }) => {
  app.route({
    ...address('listTokens'),
    schema: {
      operationId: 'listTokens',
      tags,
      querystring: TokenListQuery,
      response: { 200: TokenPage, ...problems },
    },
    config,
    handler: async (request) => tokens.list(request.query),
  });

  app.route({
    ...address('createToken'),
    schema: {
      operationId: 'createToken',
      tags,
      body: TokenCreate,
      response: { 201: TokenSecret, ...problems },
    },
    config: { ...config, replayable: false },
    handler: async (request, reply) =>
      reply.code(201).header('cache-control', 'no-store').send(tokens.create(request.body)),
  });

  app.route({
    ...address('deleteToken'),
    schema: {
      operationId: 'deleteToken',
      tags,
      params: z.object({ token: Ref }),
      response: { 204: NoContent, ...problems },
    },
    config,
    handler: async (request, reply) => {
      tokens.delete(principalOf(request), request.params.token);
      return reply.code(204).send(null);
    },
  });
};
