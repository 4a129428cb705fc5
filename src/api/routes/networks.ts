import { z } from 'zod';
import {
  CAPTURE_TYPE,
  CaptureQuery,
  Network,
  NetworkAddress,
  NetworkAddresses,
  NetworkCaptureQuery,
  NetworkCreate,
  NetworkListQuery,
  NetworkPage,
  NetworkPorts,
  NetworkStations,
  NetworkUpdate,
  Ref,
  ReservationCreate,
} from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['networks'];
const params = z.object({ network: Ref });
const NicParams = z.object({ vm: Ref, device: z.string().max(20) });
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
    ...address('updateNetwork'),
    schema: {
      operationId: 'updateNetwork',
      tags,
      params,
      body: NetworkUpdate,
      response: { 200: Network, ...problems },
    },
    handler: (request) => networks.update(principalOf(request), request.params.network, request.body),
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
  captureRoutes(app, services);
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

const captured = z
  .unknown()
  .meta({ description: `A stream of ${CAPTURE_TYPE}, which tcpdump and Wireshark read` });

/** The answer goes on until the capture ends; who goes away ends it. */
const captureRoutes: RouteGroup = (app, { networks, vms }) => {
  app.route({
    ...address('captureNetwork'),
    schema: {
      operationId: 'captureNetwork',
      tags,
      summary: 'Frames as they go by, as pcapng: of the network, each once, or of one port',
      params,
      querystring: NetworkCaptureQuery,
      response: { 200: captured, ...problems },
    },
    handler: async (request, reply) => {
      const stream = await networks.capture(principalOf(request), request.params.network, request.query);
      return reply.type(CAPTURE_TYPE).send(stream);
    },
  });

  app.route({
    ...address('captureNic'),
    schema: {
      operationId: 'captureNic',
      tags,
      summary: 'Frames of a network card of a VM that runs, as pcapng',
      params: NicParams,
      querystring: CaptureQuery,
      response: { 200: captured, ...problems },
    },
    handler: async (request, reply) => {
      const vm = vms.find(principalOf(request), request.params.vm);
      const stream = await networks.captureNic(vm, request.params.device, request.query);
      return reply.type(CAPTURE_TYPE).send(stream);
    },
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
