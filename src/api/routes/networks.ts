import { z } from 'zod';
import {
  Network,
  NetworkAddress,
  NetworkAddresses,
  NetworkCreate,
  NetworkListQuery,
  NetworkPage,
  NetworkPorts,
  NetworkStations,
  Ref,
  ReservationCreate,
} from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['networks'];
const params = z.object({ network: Ref });
const AddressParams = z.object({ network: Ref, address: z.string().max(45) });

export const networkRoutes: RouteGroup = (app, services) => {
  const { networks } = services;

  app.route({
    ...address('listNetworks'),
    schema: {
      operationId: 'listNetworks',
      tags,
      querystring: NetworkListQuery,
      response: { 200: NetworkPage, ...problems },
    },
    handler: (request) => networks.list(principalOf(request), request.query),
  });

  app.route({
    ...address('createNetwork'),
    schema: {
      operationId: 'createNetwork',
      tags,
      body: NetworkCreate,
      response: { 201: Network, ...problems },
    },
    handler: async (request, reply) => {
      const network = await networks.create(principalOf(request), request.body);
      return reply.code(201).header('location', `/v1/networks/${network.id}`).send(network);
    },
  });

  app.route({
    ...address('getNetwork'),
    schema: { operationId: 'getNetwork', tags, params, response: { 200: Network, ...problems } },
    handler: (request) => networks.get(principalOf(request), request.params.network),
  });

  app.route({
    ...address('deleteNetwork'),
    schema: { operationId: 'deleteNetwork', tags, params, response: { 204: NoContent, ...problems } },
    handler: async (request, reply) => {
      await networks.delete(principalOf(request), request.params.network);
      return reply.code(204).send(null);
    },
  });

  watchingRoutes(app, services);
  addressRoutes(app, services);
};

/** What goes on in a network. */
const watchingRoutes: RouteGroup = (app, { networks }) => {
  app.route({
    ...address('listNetworkPorts'),
    schema: { operationId: 'listNetworkPorts', tags, params, response: { 200: NetworkPorts, ...problems } },
    handler: async (request) => ({
      items: await networks.ports(principalOf(request), request.params.network),
    }),
  });

  app.route({
    ...address('listNetworkStations'),
    schema: {
      operationId: 'listNetworkStations',
      tags,
      params,
      response: { 200: NetworkStations, ...problems },
    },
    handler: async (request) => ({
      items: await networks.stations(principalOf(request), request.params.network),
    }),
  });
};

const addressRoutes: RouteGroup = (app, { networks }) => {
  app.route({
    ...address('listNetworkAddresses'),
    schema: {
      operationId: 'listNetworkAddresses',
      tags,
      params,
      response: { 200: NetworkAddresses, ...problems },
    },
    handler: (request) => ({ items: networks.addressesOf(principalOf(request), request.params.network) }),
  });

  app.route({
    ...address('reserveAddress'),
    schema: {
      operationId: 'reserveAddress',
      tags,
      params,
      body: ReservationCreate,
      response: { 201: NetworkAddress, ...problems },
    },
    handler: async (request, reply) => {
      const made = await networks.reserve(principalOf(request), request.params.network, request.body);
      return reply.code(201).send(made);
    },
  });

  app.route({
    ...address('releaseAddress'),
    schema: {
      operationId: 'releaseAddress',
      tags,
      params: AddressParams,
      response: { 204: NoContent, ...problems },
    },
    handler: async (request, reply) => {
      await networks.release(principalOf(request), request.params.network, request.params.address);
      return reply.code(204).send(null);
    },
  });
};
