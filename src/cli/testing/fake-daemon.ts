/** An HTTP server that answers like the daemon, from a table; it remembers what it was asked. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type WebSocket, WebSocketServer } from 'ws';
import { type ErrorCode, errorEntry } from '../../contracts/errors.ts';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: Record<string, string>;
  readonly body: unknown;
  readonly authorization: string | undefined;
}

export interface Answer {
  readonly status: number;
  readonly body?: unknown;
}

/** `GET /v1/vms` → the answers to it, in order; the last one is repeated. */
export type Answers = Readonly<Record<string, readonly [Answer, ...Answer[]]>>;

export class FakeDaemon {
  readonly asked: Asked[] = [];
  readonly #server: Server;
  readonly #sockets = new WebSocketServer({ noServer: true });
  readonly #answers: Answers;
  readonly #used = new Map<string, number>();

  private constructor(server: Server, answers: Answers) {
    this.#server = server;
    this.#answers = answers;
  }

  /** `onSocket` gets every WebSocket that is opened, with its path and query. */
  static async start(
    answers: Answers,
    onSocket?: (socket: WebSocket, url: string) => void,
  ): Promise<FakeDaemon> {
    const server = createServer();
    const daemon = new FakeDaemon(server, answers);
    server.on('request', async (request, response) => {
      const { status, body } = await daemon.#answer(request);
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(body === undefined ? '' : JSON.stringify(body));
    });
    server.on('upgrade', (request, socket, head) => {
      daemon.#sockets.handleUpgrade(request, socket, head, (opened) => onSocket?.(opened, request.url ?? ''));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return daemon;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    const url = new URL(request.url ?? '', 'http://daemon');
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    this.asked.push({
      method: request.method ?? '',
      path: url.pathname,
      query: Object.fromEntries(url.searchParams),
      body: text === '' ? undefined : JSON.parse(text),
      authorization: request.headers.authorization,
    });
    const key = `${request.method} ${url.pathname}`;
    const answers = this.#answers[key];
    if (answers === undefined) return problem('not_found', `nothing at ${key}`);
    const used = this.#used.get(key) ?? 0;
    this.#used.set(key, used + 1);
    return answers[Math.min(used, answers.length - 1)] ?? answers[0];
  }
}

/** The daemon's answer to a mistake. */
export function problem(
  code: ErrorCode,
  detail: string,
  more: { readonly field?: string; readonly remedy?: string } = {},
): Answer {
  const { status, title, retryable } = errorEntry(code);
  const body = { type: `urn:umlaut:${code}`, title, status, detail, instance: '/', code, retryable };
  return { status, body: { ...body, request_id: 'r1', ...more } };
}
