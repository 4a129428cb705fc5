import { z } from 'zod';
import {
  Image,
  ImageBuild,
  ImageFileRole,
  ImageImport,
  ImageListQuery,
  ImagePage,
  Operation,
  Ref,
} from '../../contracts/api/index.ts';
import { openFileAnswer, sendFile } from '../file-answer.ts';
import { principalOf } from '../request.ts';
import { address, NoBody, NoContent, problems, type RouteGroup } from '../route.ts';
import { accepted } from './operations.ts';

const tags = ['images'];
/** Not JSON: sent as it is. */
const content = z.unknown();
const params = z.object({ image: Ref });
/** Images are the operator's; everybody can use them. */
const config = { access: 'admin' } as const;

export const imageRoutes: RouteGroup = (app, { images }) => {
  app.route({
    ...address('listImages'),
    schema: {
      operationId: 'listImages',
      tags,
      querystring: ImageListQuery,
      response: { 200: ImagePage, ...problems },
    },
    handler: async (request) => images.list(request.query),
  });

  app.route({
    ...address('getImage'),
    schema: { operationId: 'getImage', tags, params, response: { 200: Image, ...problems } },
    handler: async (request) => images.get(request.params.image),
  });

  app.route({
    ...address('downloadImageFile'),
    schema: {
      operationId: 'downloadImageFile',
      tags,
      summary: 'A file of an image, or a range of it; the disk is raw',
      params: params.extend({ role: ImageFileRole }),
      response: { 200: content, 206: content, ...problems },
    },
    handler: async (request, reply) => {
      const { file, name, sha256 } = images.file(request.params.image, request.params.role);
      return await sendFile(request, reply, { ...openFileAnswer(file, name), etag: `"${sha256}"` });
    },
  });

  app.route({
    ...address('buildImage'),
    schema: { operationId: 'buildImage', tags, body: ImageBuild, response: { 202: Operation, ...problems } },
    config,
    handler: async (request, reply) =>
      accepted(reply, await images.build(request.body, principalOf(request))),
  });

  app.route({
    ...address('importImage'),
    schema: {
      operationId: 'importImage',
      tags,
      body: ImageImport,
      response: { 202: Operation, ...problems },
    },
    config,
    handler: async (request, reply) =>
      accepted(reply, await images.import(request.body, principalOf(request))),
  });

  app.route({
    ...address('verifyImage'),
    schema: {
      operationId: 'verifyImage',
      tags,
      params,
      body: NoBody,
      response: { 202: Operation, ...problems },
    },
    config,
    handler: async (request, reply) =>
      accepted(reply, await images.verify(request.params.image, principalOf(request))),
  });

  app.route({
    ...address('deleteImage'),
    schema: { operationId: 'deleteImage', tags, params, response: { 204: NoContent, ...problems } },
    config,
    handler: async (request, reply) => {
      images.delete(request.params.image);
      return reply.code(204).send(null);
    },
  });
};
