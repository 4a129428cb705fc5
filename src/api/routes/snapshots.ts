import { z } from 'zod';
import {
  Operation,
  Ref,
  SnapshotClone,
  SnapshotCreate,
  SnapshotDeleteQuery,
  SnapshotListQuery,
  SnapshotRollback,
  Vm,
  VmSnapshot,
  VmSnapshotPage,
} from '../../contracts/api/index.ts';
import { principalOf, withEtag } from '../request.ts';
import { type Api, address, problems, type RouteGroup, VmParams } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['snapshots'];
const params = z.object({ vm: Ref, snapshot: Ref });

export const snapshotRoutes: RouteGroup = (app, services) => {
  const { snapshots } = services;

  app.route({
    ...address('createSnapshot'),
    schema: {
      operationId: 'createSnapshot',
      tags,
      summary: 'Takes a snapshot of all disks at one moment, of a VM that runs or not',
      params: VmParams,
      body: SnapshotCreate,
      response: { 201: VmSnapshot, ...problems },
    },
    handler: async (request, reply) => {
      const snapshot = await snapshots.create(principalOf(request), request.params.vm, request.body);
      const location = `/v1/vms/${snapshot.vm_id}/snapshots/${snapshot.id}`;
      return reply.code(201).header('location', location).send(snapshot);
    },
  });

  app.route({
    ...address('listSnapshots'),
    schema: {
      operationId: 'listSnapshots',
      tags,
      params: VmParams,
      querystring: SnapshotListQuery,
      response: { 200: VmSnapshotPage, ...problems },
    },
    handler: async (request) => snapshots.list(principalOf(request), request.params.vm, request.query),
  });

  app.route({
    ...address('getSnapshot'),
    schema: { operationId: 'getSnapshot', tags, params, response: { 200: VmSnapshot, ...problems } },
    handler: async (request) =>
      snapshots.get(principalOf(request), request.params.vm, request.params.snapshot),
  });

  app.route({
    ...address('deleteSnapshot'),
    schema: {
      operationId: 'deleteSnapshot',
      tags,
      summary: 'Deletes a snapshot and merges its layers, also while VMs run on them',
      params,
      querystring: SnapshotDeleteQuery,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) => {
      const { vm, snapshot } = request.params;
      const rate = request.query.bytes_per_second;
      return accepted(reply, await snapshots.delete(principalOf(request), vm, snapshot, rate));
    },
  });

  installUses(app, services);
};

/** What snapshots are for. */
function installUses(app: Api, { snapshotUses }: Parameters<RouteGroup>[1]): void {
  app.route({
    ...address('rollbackSnapshot'),
    schema: {
      operationId: 'rollbackSnapshot',
      tags,
      summary: "The VM's disks become what they were; what they are now is lost",
      params,
      body: SnapshotRollback,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) => {
      const { vm, snapshot } = request.params;
      return accepted(reply, snapshotUses.rollback(principalOf(request), vm, snapshot, request.body));
    },
  });

  app.route({
    ...address('cloneSnapshot'),
    schema: {
      operationId: 'cloneSnapshot',
      tags,
      summary: 'A new VM over the disks of a snapshot, without a copy',
      params,
      body: SnapshotClone,
      response: { 201: Vm, ...problems },
    },
    handler: async (request, reply) => {
      const { vm: ref, snapshot } = request.params;
      const vm = await snapshotUses.clone(principalOf(request), ref, snapshot, request.body);
      reply.code(201).header('location', `/v1/vms/${vm.id}`);
      return withEtag(reply, vm);
    },
  });
}
