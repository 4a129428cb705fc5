import type { FastifyReply } from 'fastify';
import { z } from 'zod';
import {
  Operation,
  OperationListQuery,
  OperationPage,
  OperationWaitQuery,
  Ref,
} from '../../contracts/api/index.ts';
import { openFileAnswer, sendFile } from '../file-answer.ts';
import { clientGone, principalOf } from '../request.ts';
import { address, NoContent, problems, type RouteGroup } from '../route.ts';

const tags = ['operations'];
const params = z.object({ operation: Ref });

/** 202, with the address of the operation. */
export function accepted(reply: FastifyReply, operation: Operation): FastifyReply {
  return reply.code(202).header('location', `/v1/operations/${operation.id}`).send(operation);
}

export const operationRoutes: RouteGroup = (app, { operations, transfers }) => {
  app.route({
    ...address('listOperations'),
    schema: {
      operationId: 'listOperations',
      tags,
      querystring: OperationListQuery,
      response: { 200: OperationPage, ...problems },
    },
    handler: async (request) => operations.list(principalOf(request), request.query),
  });

  app.route({
    ...address('getOperation'),
    schema: { operationId: 'getOperation', tags, params, response: { 200: Operation, ...problems } },
    handler: async (request) => operations.get(principalOf(request), request.params.operation),
  });

  app.route({
    ...address('waitOperation'),
    schema: {
      operationId: 'waitOperation',
      tags,
      params,
      querystring: OperationWaitQuery,
      response: { 200: Operation, ...problems },
    },
    handler: (request, reply) => {
      const timeoutMs = request.query.timeout * 1000;
      return operations.wait(principalOf(request), request.params.operation, timeoutMs, clientGone(reply));
    },
  });

  app.route({
    ...address('downloadFile'),
    schema: { operationId: 'downloadFile', tags, params, produces: ['application/octet-stream'] },
    handler: async (request, reply) => {
      const { file, name } = transfers.download(principalOf(request), request.params.operation);
      return await sendFile(request, reply, openFileAnswer(file, name));
    },
  });

  app.route({
    ...address('deleteFile'),
    schema: { operationId: 'deleteFile', tags, params, response: { 204: NoContent, ...problems } },
    handler: async (request, reply) => {
      transfers.drop(principalOf(request), request.params.operation);
      return reply.code(204).send(null);
    },
  });

  app.route({
    ...address('cancelOperation'),
    schema: { operationId: 'cancelOperation', tags, params, response: { 202: Operation, ...problems } },
    handler: async (request, reply) =>
      accepted(reply, await operations.cancel(principalOf(request), request.params.operation)),
  });
};
