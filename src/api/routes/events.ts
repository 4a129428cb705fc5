import {
  EventListQuery,
  EventPage,
  EventStreamQuery,
  EventTicket,
  EVENTS_PATH,
} from '../../contracts/api/index.ts';
import { typeFilter } from '../../vmm/index.ts';
import { findPrincipal, principalOf, setPrincipal, unauthenticated } from '../request.ts';
import { address, NoBody, problems, type RouteGroup } from '../route.ts';
import { serveEvents } from '../sockets/event-socket.ts';

const tags = ['events'];
const PURPOSE = 'events';

export const eventRoutes: RouteGroup = (app, { events, tickets }) => {
  app.route({
    ...address('listEvents'),
    schema: {
      operationId: 'listEvents',
      tags,
      description: 'With an Upgrade header: a WebSocket with one JSON text message per event, for ever.',
      querystring: EventListQuery.extend(EventStreamQuery.pick({ ticket: true }).shape),
      response: { 200: EventPage, ...problems },
    },
    config: { access: 'ticket' },
    preHandler: async (request) => {
      if (findPrincipal(request) !== undefined) return;
      const use = request.ws ? tickets.redeem(request.query.ticket ?? '', PURPOSE) : undefined;
      if (use === undefined) throw unauthenticated('the ticket is unknown, used or too old');
      setPrincipal(request, use.who);
    },
    handler: async (request) => {
      const { after, limit, type } = request.query;
      return events.after(principalOf(request), after ?? 0, limit, typeFilter(type));
    },
    wsHandler: (socket, request) => {
      const { after, type } = request.query;
      serveEvents(socket, events, principalOf(request), { after, type });
    },
  });

  app.route({
    ...address('createEventTicket'),
    schema: {
      operationId: 'createEventTicket',
      tags,
      body: NoBody,
      response: { 201: EventTicket, ...problems },
    },
    config: { access: 'read', replayable: false },
    handler: async (request, reply) => {
      const minted = tickets.mint({ who: principalOf(request), purpose: PURPOSE, readOnly: true });
      const answer = { ...minted, path: `${EVENTS_PATH}?ticket=${minted.ticket}` };
      return reply.code(201).header('cache-control', 'no-store').send(answer);
    },
  });
};
