import { z } from 'zod';
import {
  BackupDestination,
  BackupDestinationCreate,
  BackupDestinationPage,
  ListQuery,
  Operation,
  type OperationId,
  Ref,
} from '../../contracts/api/index.ts';
import type { Principal } from '../../vmm/index.ts';
import { principalOf } from '../request.ts';
import { address, NoBody, NoContent, problems, type RouteGroup } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['backups'];
/** They are places of the host's, and all tenants' backups are in them. */
const config = { access: 'admin' } as const;
const params = z.object({ destination: Ref });

export const backupDestinationRoutes: RouteGroup = (app, { backups }) => {
  const { destinations } = backups;

  app.route({
    ...address('listBackupDestinations'),
    schema: {
      operationId: 'listBackupDestinations',
      tags,
      querystring: ListQuery,
      response: { 200: BackupDestinationPage, ...problems },
    },
    config,
    handler: async (request) => destinations.list(request.query),
  });

  app.route({
    ...address('createBackupDestination'),
    schema: {
      operationId: 'createBackupDestination',
      tags,
      body: BackupDestinationCreate,
      response: { 201: BackupDestination, ...problems },
    },
    config,
    handler: async (request, reply) => {
      const made = await destinations.create(request.body);
      return reply.code(201).header('location', `/v1/backup-destinations/${made.id}`).send(made);
    },
  });

  app.route({
    ...address('getBackupDestination'),
    schema: {
      operationId: 'getBackupDestination',
      tags,
      params,
      response: { 200: BackupDestination, ...problems },
    },
    config,
    handler: async (request) => destinations.get(request.params.destination),
  });

  app.route({
    ...address('deleteBackupDestination'),
    schema: {
      operationId: 'deleteBackupDestination',
      tags,
      params,
      response: { 204: NoContent, ...problems },
    },
    config,
    handler: async (request, reply) => {
      await destinations.delete(request.params.destination);
      return reply.code(204).send(null);
    },
  });

  app.route({
    ...address('takeOverBackupDestination'),
    schema: {
      operationId: 'takeOverBackupDestination',
      tags,
      description:
        'A remote of another daemon, which must be gone for good: if it still runs, backups are destroyed',
      params,
      body: NoBody,
      response: { 200: BackupDestination, ...problems },
    },
    config,
    handler: async (request) => destinations.takeOver(request.params.destination),
  });

  const work = {
    verifyBackupDestination: (who, ref) => backups.verifyDestination(who, ref),
    collectBackupDestination: (who, ref) => destinations.collect(who, ref),
    rebuildBackupDestination: (who, ref) => destinations.rebuild(who, ref),
  } as const satisfies Partial<Record<OperationId, (who: Principal, ref: string) => Promise<Operation>>>;
  for (const operationId of Object.keys(work) as (keyof typeof work)[]) {
    app.route({
      ...address(operationId),
      schema: { operationId, tags, params, body: NoBody, response: { 202: Operation, ...problems } },
      config,
      handler: async (request, reply) =>
        accepted(reply, await work[operationId](principalOf(request), request.params.destination)),
    });
  }
};
