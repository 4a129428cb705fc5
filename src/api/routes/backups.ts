import { z } from 'zod';
import {
  Backup,
  BackupCreate,
  BackupFilePage,
  BackupFileQuery,
  BackupFileSystems,
  BackupFilesQuery,
  BackupListQuery,
  BackupPage,
  BackupPrune,
  BackupRestore,
  BackupTest,
  Operation,
  PruneResult,
  Ref,
} from '../../contracts/api/index.ts';
import { sendFile } from '../file-answer.ts';
import { principalOf } from '../request.ts';
import { address, NoBody, NoContent, problems, type RouteGroup, VmParams } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['backups'];
/** Not JSON: sent as it is. */
const content = z.unknown();
const params = z.object({ backup: Ref });

export const backupRoutes: RouteGroup = (app, services) => {
  const { backups } = services;
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
      body: BackupTest,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await backups.test(principalOf(request), request.params.backup, request.body)),
  });

  fileRoutes(app, services);
};

/** What is in the file systems of a backup. */
const fileRoutes: RouteGroup = (app, { backups: { files } }) => {
  app.route({
    ...address('listBackupFileSystems'),
    schema: {
      operationId: 'listBackupFileSystems',
      tags,
      params,
      response: { 200: BackupFileSystems, ...problems },
    },
    handler: async (request) => ({
      items: await files.fileSystems(principalOf(request), request.params.backup),
    }),
  });

  app.route({
    ...address('listBackupFiles'),
    schema: {
      operationId: 'listBackupFiles',
      tags,
      params,
      querystring: BackupFilesQuery,
      response: { 200: BackupFilePage, ...problems },
    },
    handler: async (request) => files.list(principalOf(request), request.params.backup, request.query),
  });

  app.route({
    ...address('readBackupFile'),
    // Whose contents are secrets of the guest's.
    config: { access: 'write' },
    schema: {
      operationId: 'readBackupFile',
      tags,
      summary: 'A regular file out of a backup, or a range of it',
      params,
      querystring: BackupFileQuery,
      response: { 200: content, 206: content, ...problems },
    },
    handler: async (request, reply) => {
      const file = await files.open(principalOf(request), request.params.backup, request.query);
      return await sendFile(request, reply, {
        ...file,
        open: (start, end) => file.bytes(start, end),
      });
    },
  });
};
