import { z } from 'zod';
import {
  Backup,
  BackupCreate,
  BackupListQuery,
  BackupPage,
  BackupPrune,
  BackupRestore,
  Operation,
  PruneResult,
  Ref,
} from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoBody, NoContent, problems, type RouteGroup, VmParams } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['backups'];
const params = z.object({ backup: Ref });

export const backupRoutes: RouteGroup = (app, { backups }) => {
  app.route({
    ...address('createBackup'),
    schema: {
      operationId: 'createBackup',
      tags,
      params: VmParams,
      body: BackupCreate,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await backups.create(principalOf(request), request.params.vm, request.body)),
  });

  app.route({
    ...address('pruneBackups'),
    schema: {
      operationId: 'pruneBackups',
      tags,
      params: VmParams,
      body: BackupPrune,
      response: { 200: PruneResult, ...problems },
    },
    handler: async (request) => backups.prune(principalOf(request), request.params.vm, request.body),
  });

  app.route({
    ...address('listBackups'),
    schema: {
      operationId: 'listBackups',
      tags,
      querystring: BackupListQuery,
      response: { 200: BackupPage, ...problems },
    },
    handler: async (request) => backups.list(principalOf(request), request.query),
  });

  app.route({
    ...address('getBackup'),
    schema: { operationId: 'getBackup', tags, params, response: { 200: Backup, ...problems } },
    handler: async (request) => backups.get(principalOf(request), request.params.backup),
  });

  app.route({
    ...address('deleteBackup'),
    schema: { operationId: 'deleteBackup', tags, params, response: { 204: NoContent, ...problems } },
    handler: async (request, reply) => {
      await backups.delete(principalOf(request), request.params.backup);
      return reply.code(204).send(null);
    },
  });

  app.route({
    ...address('restoreBackup'),
    schema: {
      operationId: 'restoreBackup',
      tags,
      params,
      body: BackupRestore,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await backups.restore(principalOf(request), request.params.backup, request.body)),
  });

  app.route({
    ...address('verifyBackup'),
    schema: {
      operationId: 'verifyBackup',
      tags,
      params,
      body: NoBody,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await backups.verify(principalOf(request), request.params.backup)),
  });

  app.route({
    ...address('testBackup'),
    schema: {
      operationId: 'testBackup',
      tags,
      params,
      body: NoBody,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await backups.test(principalOf(request), request.params.backup)),
  });
};
