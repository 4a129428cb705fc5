import { z } from 'zod';
import {
  DiskRebase,
  DiskRepair,
  DiskSharers,
  DiskSharersQuery,
  DiskTree,
  DiskUsage,
  ImageDependents,
  Operation,
  Ref,
} from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { type Api, address, NoBody, problems, type RouteGroup } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['lineage'];
const params = z.object({ disk: Ref });

/** What disks are made of. */
export const lineageRoutes: RouteGroup = (app, services) => {
  const { lineage } = services;

  app.route({
    ...address('getDiskTree'),
    schema: {
      operationId: 'getDiskTree',
      tags,
      summary: 'The layers that a disk is made of, and those that have come of them',
      params,
      response: { 200: DiskTree, ...problems },
    },
    handler: async (request) => lineage.tree(principalOf(request), request.params.disk),
  });

  app.route({
    ...address('getDiskUsage'),
    schema: {
      operationId: 'getDiskUsage',
      tags,
      summary: 'How much of each layer is seen by one, by several, by nobody',
      params,
      response: { 200: DiskUsage, ...problems },
    },
    handler: async (request) => lineage.usage(principalOf(request), request.params.disk),
  });

  app.route({
    ...address('getDiskSharers'),
    schema: {
      operationId: 'getDiskSharers',
      tags,
      summary: 'Who has the same bytes at an offset, because they are the same bytes of one file',
      params,
      querystring: DiskSharersQuery,
      response: { 200: DiskSharers, ...problems },
    },
    handler: async (request) =>
      lineage.sharers(principalOf(request), request.params.disk, request.query.offset),
  });

  app.route({
    ...address('getImageDependents'),
    schema: {
      operationId: 'getImageDependents',
      tags,
      params: z.object({ image: Ref }),
      response: { 200: ImageDependents, ...problems },
    },
    handler: async (request) => lineage.dependents(principalOf(request), request.params.image),
  });

  installChanges(app, services);
};

function installChanges(app: Api, { lineage, rebases }: Parameters<RouteGroup>[1]): void {
  app.route({
    ...address('rebaseDisk'),
    schema: {
      operationId: 'rebaseDisk',
      tags,
      summary: 'Puts a disk over another image; its content stays, what is as in the image takes no space',
      params,
      body: DiskRebase,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await rebases.begin(principalOf(request), request.params.disk, request.body.image)),
  });

  app.route({
    ...address('flattenDisk'),
    schema: {
      operationId: 'flattenDisk',
      tags,
      summary: 'Makes a disk independent of all others',
      params,
      body: NoBody,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await rebases.begin(principalOf(request), request.params.disk, undefined)),
  });

  app.route({
    ...address('repairDisk'),
    schema: {
      operationId: 'repairDisk',
      tags,
      summary: 'Accepts files under a disk whose modification time has changed, and not their content',
      params,
      body: NoBody,
      response: { 200: DiskRepair, ...problems },
    },
    handler: async (request) => lineage.repair(principalOf(request), request.params.disk),
  });
}
