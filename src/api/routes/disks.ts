import { Readable } from 'node:stream';
import { z } from 'zod';
import {
  Disk,
  DiskCreate,
  DiskExport,
  DiskImportQuery,
  DiskListQuery,
  DiskPage,
  DiskResize,
  DiskSettings,
  DiskToImage,
  Operation,
  Ref,
} from '../../contracts/api/index.ts';
import { AppError } from '../../contracts/errors.ts';
import { principalOf } from '../request.ts';
import { address, NoBody, NoContent, problems, type RouteGroup } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['disks'];
const params = z.object({ disk: Ref });

export const diskRoutes: RouteGroup = (app, { disks, devices, diskResizes, diskWork, transfers }) => {
  app.route({
    ...address('listDisks'),
    schema: {
      operationId: 'listDisks',
      tags,
      querystring: DiskListQuery,
      response: { 200: DiskPage, ...problems },
    },
    handler: async (request) => disks.list(principalOf(request), request.query),
  });

  app.route({
    ...address('createDisk'),
    schema: { operationId: 'createDisk', tags, body: DiskCreate, response: { 201: Disk, ...problems } },
    handler: async (request, reply) => {
      const disk = await disks.create(principalOf(request), request.body);
      return reply.code(201).header('location', `/v1/disks/${disk.id}`).send(disk);
    },
  });

  app.route({
    ...address('getDisk'),
    schema: { operationId: 'getDisk', tags, params, response: { 200: Disk, ...problems } },
    handler: async (request) => disks.get(principalOf(request), request.params.disk),
  });

  app.route({
    ...address('updateDisk'),
    schema: {
      operationId: 'updateDisk',
      tags,
      params,
      body: DiskSettings,
      response: { 200: Disk, ...problems },
    },
    handler: async (request) => devices.updateDisk(principalOf(request), request.params.disk, request.body),
  });

  app.route({
    ...address('importDisk'),
    // A stream cannot be compared with an earlier one.
    config: { replayable: false },
    schema: {
      operationId: 'importDisk',
      tags,
      consumes: ['application/octet-stream'],
      querystring: DiskImportQuery,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) => {
      if (request.body instanceof Readable) {
        return accepted(reply, await transfers.import(principalOf(request), request.query, request.body));
      }
      throw new AppError('unsupported_media_type', 'the body is not a file', {
        field: 'Content-Type',
        remedy: 'send the disk file as application/octet-stream',
      });
    },
  });

  app.route({
    ...address('exportDisk'),
    schema: {
      operationId: 'exportDisk',
      tags,
      params,
      body: DiskExport,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, transfers.export(principalOf(request), request.params.disk, request.body)),
  });

  app.route({
    ...address('imageOfDisk'),
    config: { access: 'admin' },
    schema: {
      operationId: 'imageOfDisk',
      tags,
      params,
      body: DiskToImage,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, await transfers.toImage(principalOf(request), request.params.disk, request.body)),
  });

  app.route({
    ...address('resizeDisk'),
    schema: {
      operationId: 'resizeDisk',
      tags,
      summary: 'Make a disk larger, also while a guest has it',
      params,
      body: DiskResize,
      response: { 200: Disk, ...problems },
    },
    handler: async (request) =>
      diskResizes.resize(principalOf(request), request.params.disk, request.body.size_bytes),
  });

  app.route({
    ...address('shrinkDisk'),
    schema: {
      operationId: 'shrinkDisk',
      tags,
      params,
      body: NoBody,
      response: { 202: Operation, ...problems },
    },
    handler: async (request, reply) =>
      accepted(reply, diskWork.shrink(principalOf(request), request.params.disk)),
  });

  app.route({
    ...address('deleteDisk'),
    schema: { operationId: 'deleteDisk', tags, params, response: { 204: NoContent, ...problems } },
    handler: async (request, reply) => {
      disks.delete(principalOf(request), request.params.disk);
      return reply.code(204).send(null);
    },
  });
};
