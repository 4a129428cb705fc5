/** Answers that are files, whole or in part: ranges of bytes (RFC 9110, chapter 14). */
import * as fs from 'node:fs';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '../contracts/errors.ts';

export interface FileAnswer {
  readonly name: string;
  readonly sizeBytes: number;
  readonly etag: string;
  /** From `start` to before `end`. */
  open(start: number, end: number): Readable | AsyncIterable<Uint8Array>;
  /** In place of `open`, when nothing is sent. */
  close?(): Promise<void>;
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Sends the file, or the range of it that the request wants: 206, or `range_not_satisfiable`. */
export async function sendFile(
  request: FastifyRequest,
  reply: FastifyReply,
  file: FileAnswer,
): Promise<FastifyReply> {
  const { sizeBytes, etag } = file;
  reply
    .type('application/octet-stream')
    .header('accept-ranges', 'bytes')
    .header('etag', etag)
    .header('content-disposition', disposition(file.name))
    .header('x-content-type-options', 'nosniff');
  let range: Range | undefined;
  try {
    range = rangeOf(request, file);
  } catch (error) {
    await file.close?.();
    reply.header('content-range', `bytes */${sizeBytes}`);
    throw error;
  }
  const { start, end } = range ?? { start: 0, end: sizeBytes };
  reply.header('content-length', end - start);
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${sizeBytes}`);
  if (request.method === 'HEAD') {
    await file.close?.();
    // Fastify keeps the headers of a stream that has nothing.
    return reply.send(Readable.from([]));
  }
  const body = file.open(start, end);
  return reply.send(body instanceof Readable ? body : Readable.from(body, { objectMode: false }));
}

/** A file of the daemon's; it is what it was while its size, time and inode are. */
export function openFileAnswer(file: string, name: string): FileAnswer {
  const { size: sizeBytes, mtimeMs, ino } = fs.statSync(file);
  return {
    name,
    sizeBytes,
    etag: `"${ino.toString(36)}-${sizeBytes}-${Math.floor(mtimeMs)}"`,
    open: (start, end) =>
      end === start
        ? Readable.from([])
        : fs.createReadStream(file, { start, end: end - 1, highWaterMark: 1 << 20 }),
  };
}

/** Undefined: all of it. What is no range of bytes, or several, is passed over, as is one of a file that has changed. */
function rangeOf(request: FastifyRequest, { sizeBytes, etag }: FileAnswer): Range | undefined {
  const condition = request.headers['if-range'];
  if (condition !== undefined && condition !== etag) return undefined;
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(request.headers.range?.trim() ?? '');
  const [, from = '', to = ''] = match ?? [];
  if (match === null || (from === '' && to === '')) return undefined;
  const start = from === '' ? Math.max(0, sizeBytes - Number(to)) : Number(from);
  const end = from === '' || to === '' ? sizeBytes : Math.min(sizeBytes, Number(to) + 1);
  if (from !== '' && to !== '' && Number(to) < Number(from)) return undefined;
  if (start < sizeBytes && start < end) return { start, end };
  throw new AppError('range_not_satisfiable', `the file has ${sizeBytes} bytes`, {
    field: 'Range',
    remedy: 'ask for bytes that it has',
  });
}

/** Names are hostile: in quotes only what needs no quoting, and the whole of it encoded (RFC 6266). */
function disposition(name: string): string {
  const plain = name.replaceAll(/[^\w. +-]/g, '_');
  if (plain === name) return `attachment; filename="${plain}"`;
  const encoded = encodeURIComponent(name.toWellFormed()).replaceAll(
    /['()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  return `attachment; filename="${plain}"; filename*=UTF-8''${encoded}`;
}
