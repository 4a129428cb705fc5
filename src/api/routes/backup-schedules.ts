import { z } from 'zod';
import {
  BackupSchedule,
  BackupScheduleCreate,
  BackupScheduleListQuery,
  BackupSchedulePage,
  BackupScheduleUpdate,
  Ref,
} from '../../contracts/api/index.ts';
import { principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup, VmParams } from '../route.ts';

const tags = ['backups'];
const params = z.object({ schedule: Ref });

export const backupScheduleRoutes: RouteGroup = (app, { backups: { schedules } }) => {
  app.route({
    ...address('listBackupSchedules'),
    schema: {
      operationId: 'listBackupSchedules',
      tags,
      querystring: BackupScheduleListQuery,
      response: { 200: BackupSchedulePage, ...problems },
    },
    handler: async (request) => schedules.list(principalOf(request), request.query),
  });

  app.route({
    ...address('createBackupSchedule'),
    schema: {
      operationId: 'createBackupSchedule',
      tags,
      params: VmParams,
      body: BackupScheduleCreate,
      response: { 201: BackupSchedule, ...problems },
    },
    handler: async (request, reply) => {
      const made = schedules.create(principalOf(request), request.params.vm, request.body);
      return reply.code(201).header('location', `/v1/backup-schedules/${made.id}`).send(made);
    },
  });

  app.route({
    ...address('getBackupSchedule'),
    schema: {
      operationId: 'getBackupSchedule',
      tags,
      params,
      response: { 200: BackupSchedule, ...problems },
    },
    handler: async (request) => schedules.get(principalOf(request), request.params.schedule),
  });

  app.route({
    ...address('updateBackupSchedule'),
    schema: {
      operationId: 'updateBackupSchedule',
      tags,
      params,
      body: BackupScheduleUpdate,
      response: { 200: BackupSchedule, ...problems },
    },
    handler: async (request) => schedules.update(principalOf(request), request.params.schedule, request.body),
  });

  app.route({
    ...address('deleteBackupSchedule'),
    schema: {
      operationId: 'deleteBackupSchedule',
      tags,
      params,
      response: { 204: NoContent, ...problems },
    },
    handler: async (request, reply) => {
      schedules.delete(principalOf(request), request.params.schedule);
      return reply.code(204).send(null);
    },
  });
};
