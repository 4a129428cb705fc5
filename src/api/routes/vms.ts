import { z } from 'zod';
import {
  Ref,
  ShareCreate,
  MconsoleSysrq,
  Operation,
  Vm,
  VmCreate,
  VmListQuery,
  VmPage,
  VmPlan,
  VmStats,
  VmUpdate,
  VmWaitQuery,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { runVerb, sysrqKey } from '../../mconsole/index.ts';
import { clientGone, ifMatch, principalOf, withEtag } from '../request.ts';
import { type Api, address, Flag, NoBody, NoContent, problems, type RouteGroup, VmParams } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['vms'];

export const vmRoutes: RouteGroup = (app, services) => {
  const { vms } = services;

  app.route({
    ...address('listVms'),
    schema: {
      operationId: 'listVms',
      tags,
      querystring: VmListQuery,
      response: { 200: VmPage, ...problems },
    },
    handler: (request) => vms.list(principalOf(request), request.query),
  });

  app.route({
    ...address('createVm'),
    schema: {
      operationId: 'createVm',
      tags,
      querystring: z.strictObject({ dry_run: Flag }),
      body: VmCreate,
      response: { 201: Vm, 200: VmPlan, ...problems },
    },
    handler: async (request, reply) => {
      const who = principalOf(request);
      if (request.query.dry_run) return reply.code(200).send(await vms.plan(who, request.body));
      const vm = await vms.create(who, request.body);
      return reply.code(201).header('location', `/v1/vms/${vm.id}`).send(withEtag(reply, vm));
    },
  });

  app.route({
    ...address('getVm'),
    schema: { operationId: 'getVm', tags, params: VmParams, response: { 200: Vm, ...problems } },
    handler: async (request, reply) =>
      withEtag(reply, await vms.get(principalOf(request), request.params.vm)),
  });

  app.route({
    ...address('updateVm'),
    schema: {
      operationId: 'updateVm',
      tags,
      params: VmParams,
      body: VmUpdate,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) => {
      const version = ifMatch(request);
      return withEtag(
        reply,
        await vms.update(principalOf(request), request.params.vm, request.body, version),
      );
    },
  });

  app.route({
    ...address('deleteVm'),
    schema: {
      operationId: 'deleteVm',
      tags,
      params: VmParams,
      querystring: z.strictObject({ force: Flag.meta({ description: 'Halt it first if it runs' }) }),
      response: { 204: NoContent, ...problems },
    },
    handler: async (request, reply) => {
      await vms.delete(principalOf(request), request.params.vm, request.query.force, ifMatch(request));
      return reply.code(204).send(null);
    },
  });

  app.route({
    ...address('waitVm'),
    schema: {
      operationId: 'waitVm',
      tags,
      params: VmParams,
      querystring: VmWaitQuery,
      response: { 200: Vm, ...problems },
    },
    handler: (request, reply) => {
      const { state, timeout } = request.query;
      return vms.wait(principalOf(request), request.params.vm, state, timeout * 1000, clientGone(reply));
    },
  });

  app.route({
    ...address('getVmStats'),
    schema: { operationId: 'getVmStats', tags, params: VmParams, response: { 200: VmStats, ...problems } },
    handler: (request) => vms.stats(principalOf(request), request.params.vm),
  });

  for (const [operationId, action] of [
    ['startVm', 'start'],
    ['haltVm', 'halt'],
    ['rebootVm', 'reboot'],
    ['shutdownVm', 'shutdown'],
  ] as const) {
    app.route({
      ...address(operationId),
      schema: {
        operationId,
        tags,
        params: VmParams,
        body: NoBody,
        response: { 202: Operation, ...problems },
      },
      handler: async (request, reply) =>
        accepted(reply, vms[action](principalOf(request), request.params.vm)),
    });
  }

  installActions(app, services);

  app.route({
    ...address('addShare'),
    schema: {
      operationId: 'addShare',
      tags,
      params: VmParams,
      body: ShareCreate,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) =>
      withEtag(reply, await services.devices.addShare(principalOf(request), request.params.vm, request.body)),
  });

  app.route({
    ...address('removeShare'),
    schema: {
      operationId: 'removeShare',
      tags,
      params: z.object({ vm: Ref, tag: z.string().max(40) }),
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) => {
      const { vm, tag } = request.params;
      return withEtag(reply, await services.devices.removeShare(principalOf(request), vm, tag));
    },
  });
};

/** Verbs that are done at once; what mconsole refuses is a conflict here. */
function installActions(app: Api, services: Parameters<RouteGroup>[1]): void {
  for (const [operationId, verb] of [
    ['stopVm', 'stop'],
    ['goVm', 'go'],
    ['cadVm', 'cad'],
  ] as const) {
    app.route({
      ...address(operationId),
      schema: { operationId, tags, params: VmParams, body: NoBody, response: { 200: Vm, ...problems } },
      handler: async (request) => {
        const who = principalOf(request);
        const result = await runVerb(services, who, request.params.vm, verb, '');
        if (!result.ok) throw new AppError('conflict', result.text, { field: 'state' });
        return services.vms.get(who, request.params.vm);
      },
    });
  }

  app.route({
    ...address('sysrqVm'),
    schema: {
      operationId: 'sysrqVm',
      tags,
      params: VmParams,
      body: MconsoleSysrq,
      response: { 200: Vm, ...problems },
    },
    handler: async (request) => {
      const who = principalOf(request);
      const key = sysrqKey(request.body.letter);
      if (key instanceof AppError) throw key;
      await runVerb(services, who, request.params.vm, 'sysrq', key);
      return services.vms.get(who, request.params.vm);
    },
  });
}
