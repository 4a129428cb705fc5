/** The page as the daemon serves it, over the part of the API that it uses, with VMs in memory. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import Fastify, { type FastifyInstance } from 'fastify';
import { type WebSocket, WebSocketServer } from 'ws';
import { installDashboard } from '../../src/api/plugins/dashboard.ts';
import type { Vm } from '../../src/contracts/api/index.ts';

export const TOKEN = 'good-token';

export class FakeApi {
  readonly vms: Vm[];
  /** What was on a console: an asciicast. */
  recording = '';
  readonly asked: string[] = [];
  readonly bodies: unknown[] = [];
  /** What was typed into the console. */
  readonly typed: string[] = [];
  readonly #server: Server;
  readonly #pages: FastifyInstance;
  readonly #sockets = new WebSocketServer({ noServer: true });
  readonly #events = new Set<WebSocket>();
  #seq = 0;

  private constructor(server: Server, pages: FastifyInstance, vms: Vm[]) {
    this.#server = server;
    this.#pages = pages;
    this.vms = vms;
  }

  static async start(vms: Vm[]): Promise<FakeApi> {
    const server = createServer();
    const pages = Fastify();
    await installDashboard(pages);
    await pages.ready();
    const api = new FakeApi(server, pages, vms);
    server.on('request', (request, response) => void api.#serve(request, response));
    server.on('upgrade', (request, socket, head) => {
      api.#sockets.handleUpgrade(request, socket, head, (opened) => api.#connect(opened, request.url ?? ''));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return api;
  }

  get url(): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('not listening');
    return `http://127.0.0.1:${address.port}/`;
  }

  /** Tells the page that something happened. */
  tell(type: string): void {
    this.#seq += 1;
    const event = { seq: this.#seq, time: new Date(0).toISOString(), type, resource: null, data: {} };
    for (const socket of this.#events) socket.send(JSON.stringify(event));
  }

  /** Breaks the stream of events. */
  drop(): void {
    for (const socket of this.#events) socket.terminate();
  }

  get listeners(): number {
    return this.#events.size;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
    await this.#pages.close();
  }

  #connect(socket: WebSocket, url: string): void {
    this.asked.push(`WS ${url}`);
    if (url.startsWith('/v1/events')) {
      this.#events.add(socket);
      socket.on('close', () => this.#events.delete(socket));
      return;
    }
    socket.send(Buffer.from('debian login: '));
    socket.on('message', (data: Buffer) => {
      this.typed.push(data.toString('utf8'));
      socket.send(data);
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname } = new URL(request.url ?? '/', 'http://api');
    if (!pathname.startsWith('/v1')) return this.#pages.routing(request, response);
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const key = `${request.method} ${pathname}`;
    this.asked.push(key);
    if (text !== '') this.bodies.push(JSON.parse(text));
    const [status, body] =
      request.headers.authorization === `Bearer ${TOKEN}` ? this.#answer(key) : [401, { detail: 'no' }];
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : body === undefined ? '' : JSON.stringify(body));
  }

  #answer(key: string): [number, unknown?] {
    if (key === 'GET /v1/host') return [200, { version: '9.9.9' }];
    if (key === 'GET /v1/vms') return [200, { items: this.vms, next_cursor: null }];
    if (key === 'GET /v1/operations') return [200, { items: [], next_cursor: null }];
    if (key === 'GET /v1/images') {
      return [200, { items: [{ id: 'img_1', name: 'default' }], next_cursor: null }];
    }
    if (key === 'POST /v1/events/ticket') return [201, { path: '/v1/events?ticket=e' }];
    if (key.endsWith('/ticket')) return [201, { path: '/v1/vms/vm_1/consoles/ttyS0?ticket=c' }];
    if (key === 'GET /v1/vms/vm_1/tty-log') return [200, this.recording];
    if (key === 'POST /v1/vms') return [409, { detail: 'The name is taken.', remedy: 'Take another.' }];
    return [202, {}];
  }
}
