import { z } from 'zod';
import { AttachDisk, AttachNic, NicUpdate, Ref, Vm } from '../../contracts/api/index.ts';
import { principalOf, withEtag } from '../request.ts';
import { address, problems, type RouteGroup, VmParams } from '../route.ts';

const tags = ['vms'];
const DeviceParams = z.object({ vm: Ref, device: z.string().max(20) });

/** Disks and network cards of VMs, whether they run or not. */
export const deviceRoutes: RouteGroup = (app, { devices }) => {
  app.route({
    ...address('attachDisk'),
    schema: {
      operationId: 'attachDisk',
      tags,
      summary: 'Attaches a disk; a guest that runs finds it by itself',
      params: VmParams,
      body: AttachDisk,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) =>
      withEtag(reply, await devices.attachDisk(principalOf(request), request.params.vm, request.body)),
  });

  app.route({
    ...address('detachDisk'),
    schema: {
      operationId: 'detachDisk',
      tags,
      summary: 'Detaches a disk; a guest that runs is asked to let go of it first',
      params: DeviceParams,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) => {
      const { vm, device } = request.params;
      return withEtag(reply, await devices.detachDisk(principalOf(request), vm, device));
    },
  });

  app.route({
    ...address('attachNic'),
    schema: {
      operationId: 'attachNic',
      tags,
      summary: 'Attaches a network card; a guest that runs finds it by itself',
      params: VmParams,
      body: AttachNic,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) =>
      withEtag(reply, await devices.attachNic(principalOf(request), request.params.vm, request.body)),
  });

  app.route({
    ...address('updateNic'),
    schema: {
      operationId: 'updateNic',
      tags,
      summary: 'Changes what a network card may do, at once',
      params: DeviceParams,
      body: NicUpdate,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) => {
      const { vm, device } = request.params;
      return withEtag(reply, await devices.updateNic(principalOf(request), vm, device, request.body));
    },
  });

  app.route({
    ...address('detachNic'),
    schema: {
      operationId: 'detachNic',
      tags,
      summary: 'Detaches a network card; a guest that runs is asked to let go of it first',
      params: DeviceParams,
      response: { 200: Vm, ...problems },
    },
    handler: async (request, reply) => {
      const { vm, device } = request.params;
      return withEtag(reply, await devices.detachNic(principalOf(request), vm, device));
    },
  });
};
