/** HTTP and WebSocket to the daemon, with its errors as AppError. */
import WebSocket from 'ws';
import type { z } from 'zod';
import { Problem } from '../contracts/api/index.ts';
import { AppError } from '../contracts/errors.ts';

export interface TransportOptions {
  /** http://host:port */
  readonly url: string;
  readonly token: string;
}

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Call {
  readonly method?: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  readonly query?: Query;
  readonly body?: unknown;
  /** Sent as it is, in place of `body`. */
  readonly file?: Blob;
}

export class Transport {
  readonly #base: URL;
  readonly #token: string;

  constructor({ url, token }: TransportOptions) {
    if (!/^https?:\/\//.test(url) || !URL.canParse(url)) {
      throw new AppError('invalid_input', `"${url}" is not the address of a daemon`, {
        field: '--url',
        remedy: 'Use http://host:port.',
      });
    }
    this.#base = new URL(url);
    this.#token = token;
  }

  /** The answer's body, checked against `schema`. */
  async call<S extends z.ZodType>(schema: S, path: string, call: Call = {}): Promise<z.output<S>> {
    const response = await this.#fetch(path, call);
    const answer = schema.safeParse(await json(response));
    if (answer.success) return answer.data;
    throw new AppError(
      'internal',
      `the daemon's answer to ${path} is not understood: ${answer.error.message}`,
      {
        remedy: 'Use the umlaut command of the same version as the daemon.',
      },
    );
  }

  /** An answer's body as it comes. */
  async stream(path: string, query: Query): Promise<ReadableStream<Uint8Array>> {
    const { body } = await this.#fetch(path, { query });
    if (body === null) throw new AppError('internal', `the daemon's answer to ${path} is empty`);
    return body;
  }

  /** The answer's body as it is. */
  async bytes(path: string, call: Call = {}): Promise<Uint8Array> {
    return new Uint8Array(await (await this.#fetch(path, call)).arrayBuffer());
  }

  /** For answers that are a file. */
  async download(path: string, query: Query = {}): Promise<Response> {
    return await this.#fetch(path, { query });
  }

  /** For answers without a body. */
  async send(path: string, call: Call): Promise<void> {
    const response = await this.#fetch(path, call);
    await response.body?.cancel();
  }

  /**
   * `path` carries a ticket. Resolves when the connection is open, and paused: the first messages may be there
   * already, so the caller listens first and then calls `resume`.
   */
  open(path: string): Promise<WebSocket> {
    const url = new URL(path, this.#base);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    const socket = new WebSocket(url);
    return new Promise((resolve, reject) => {
      socket.once('open', () => {
        socket.pause();
        resolve(socket);
      });
      socket.once('error', (cause) => reject(this.#unreachable(cause)));
      socket.once('unexpected-response', (_request, response) => {
        socket.terminate();
        reject(new AppError('conflict', `the daemon refused the connection with ${response.statusCode}`));
      });
    });
  }

  async #fetch(path: string, { method = 'GET', query = {}, body, file }: Call): Promise<Response> {
    const url = new URL(path, this.#base);
    for (const [key, value] of Object.entries(query)) {
      if (value !== undefined) url.searchParams.set(key, String(value));
    }
    const headers: Record<string, string> = { authorization: `Bearer ${this.#token}` };
    if (body !== undefined) headers['content-type'] = 'application/json';
    if (file !== undefined) headers['content-type'] = 'application/octet-stream';
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        body: file ?? (body === undefined ? null : JSON.stringify(body)),
      });
    } catch (cause) {
      throw this.#unreachable(cause);
    }
    if (!response.ok) throw await problem(response);
    return response;
  }

  #unreachable(cause: unknown): AppError {
    const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
    const why = reason instanceof Error ? reason.message || reason.name : String(reason);
    return new AppError('unreachable', `no daemon answers at ${this.#base.origin}: ${why}`, {
      field: '--url',
      remedy: 'Start one with "umlaut daemon" or "npm start", or name its address with --url.',
      cause,
    });
  }
}

async function json(response: Response): Promise<unknown> {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // what is not JSON fits no schema, and the caller says so
  }
}

async function problem(response: Response): Promise<AppError> {
  const parsed = Problem.safeParse(await json(response));
  if (!parsed.success) {
    return new AppError('internal', `the daemon answered with status ${response.status}`);
  }
  const { code, detail, field, remedy } = parsed.data;
  if (code === 'unauthenticated') {
    return new AppError(code, detail, {
      field: '--token-file',
      remedy: remedy ?? 'Use the token of this daemon.',
    });
  }
  return new AppError(code, detail, { field, remedy });
}
