import { z } from 'zod';
import {
  Console,
  ConsoleList,
  ConsoleTicket,
  ConsoleTicketCreate,
  ConsoleUpdate,
  Ref,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { findPrincipal, principalOf, unauthenticated } from '../request.ts';
import { address, problems, type RouteGroup, VmParams } from '../route.ts';
import { serveConsole } from '../sockets/console-socket.ts';

const tags = ['consoles'];
const params = z.object({ vm: Ref, console: z.string().max(40) });
const querystring = z.strictObject({ ticket: z.string().max(200).optional() });

export const consoleRoutes: RouteGroup = (app, services) => {
  const { vms, tickets, consoles } = services;

  app.route({
    ...address('listConsoles'),
    schema: {
      operationId: 'listConsoles',
      tags,
      params: VmParams,
      response: { 200: ConsoleList, ...problems },
    },
    handler: async (request) => ({
      items: consoles.list(principalOf(request), request.params.vm),
    }),
  });

  app.route({
    ...address('updateConsole'),
    schema: {
      operationId: 'updateConsole',
      tags,
      summary: "Joins a console to a channel of the host, in UML's words",
      params,
      body: ConsoleUpdate,
      response: { 200: Console, ...problems },
    },
    handler: (request) => {
      const { vm, console } = request.params;
      return consoles.set(principalOf(request), vm, console, request.body.channel);
    },
  });

  app.route({
    ...address('createConsoleTicket'),
    schema: {
      operationId: 'createConsoleTicket',
      tags,
      params,
      body: ConsoleTicketCreate,
      response: { 201: ConsoleTicket, ...problems },
    },
    // Reading a console needs no more than reading the VM; writing to it is decided below.
    config: { access: 'read', replayable: false },
    handler: async (request, reply) => {
      const who = principalOf(request);
      const { id } = vms.find(who, request.params.vm);
      const { console } = request.params;
      services.supervisor.get(id).consoles.require(console);
      const readOnly = request.body.read_only || who.role === 'viewer';
      const { ticket, expires_at } = tickets.mint({ who, purpose: `console ${id} ${console}`, readOnly });
      const path = `/v1/vms/${id}/consoles/${console}?ticket=${ticket}`;
      return reply.code(201).header('cache-control', 'no-store').send({ ticket, path, expires_at });
    },
  });

  app.route({
    ...address('openConsole'),
    schema: {
      operationId: 'openConsole',
      tags,
      summary: 'WebSocket: raw bytes both ways, the scrollback first',
      params,
      querystring,
    },
    config: { access: 'ticket' },
    // Before the connection is upgraded, so that refusals are HTTP answers.
    preHandler: async (request) => {
      const ticket = request.query.ticket;
      const who = findPrincipal(request);
      if (who !== undefined) {
        const { id } = vms.find(who, request.params.vm);
        services.supervisor.get(id).consoles.require(request.params.console);
        return;
      }
      const use = tickets.redeem(ticket ?? '', `console ${request.params.vm} ${request.params.console}`);
      if (use === undefined) throw unauthenticated('the ticket is unknown, used or too old');
      readOnlyTickets.set(request, use.readOnly);
      vms.find(use.who, request.params.vm);
    },
    handler: async () => {
      throw new AppError('invalid_input', 'this address is a WebSocket', {
        field: 'Upgrade',
        remedy: 'open it with a WebSocket client',
      });
    },
    wsHandler: (socket, request) => {
      const { vm, console } = request.params;
      const who = findPrincipal(request);
      const id = who === undefined ? vm : vms.find(who, vm).id;
      const readOnly = who === undefined ? (readOnlyTickets.get(request) ?? true) : who.role === 'viewer';
      serveConsole(socket, services.supervisor.get(id), console, readOnly);
    },
  });
};

const readOnlyTickets = new WeakMap<object, boolean>();
