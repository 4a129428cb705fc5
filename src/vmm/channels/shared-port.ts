/**
 * Ports that telnet clients come to (`port:N`). As in UML several lines may share one: each client gets a line that has none, in the
 * order of the lines. Where all have one, and so where there is one line only, several see the same.
 */
import type { Socket } from 'node:net';
import type { ChannelContext, OpenChannel } from './channel.ts';
import { listen, type Listener, serve } from './listener.ts';

interface PortLine {
  readonly context: ChannelContext;
  readonly clients: Set<Socket>;
}

class SharedPort {
  readonly listening: Promise<Listener>;
  readonly #lines = new Set<PortLine>();

  constructor(host: string, port: number) {
    this.listening = listen({ host, port }, (socket) => this.#accept(socket));
  }

  /** The lines that clients are for. */
  get lines(): number {
    return this.#lines.size;
  }

  add(context: ChannelContext): PortLine {
    const line = { context, clients: new Set<Socket>() };
    this.#lines.add(line);
    return line;
  }

  remove(line: PortLine): void {
    this.#lines.delete(line);
    for (const socket of line.clients) socket.destroy();
  }

  #accept(socket: Socket): void {
    const [first, ...others] = this.#lines;
    // The last line has gone, and the port goes too.
    if (first === undefined) return void socket.destroy();
    const line = others.reduce((best, one) => (one.clients.size < best.clients.size ? one : best), first);
    line.clients.add(socket);
    socket.once('close', () => line.clients.delete(socket));
    serve(socket, line.context);
  }
}

/** Those of one VM. */
export class SharedPorts {
  readonly #ports = new Map<string, SharedPort>();

  /** @param port 0 for any that is free. AppErrors: `in_use`, `invalid_input` for an address that is not this host's. */
  async open(address: string, port: number, context: ChannelContext): Promise<OpenChannel> {
    const key = nameOf(address, port);
    const shared = this.#ports.get(key) ?? new SharedPort(address, port);
    if (port !== 0) this.#ports.set(key, shared);
    const line = shared.add(context);
    let name = key;
    const close = (): void => {
      shared.remove(line);
      if (shared.lines > 0) return;
      if (this.#ports.get(name) === shared) this.#ports.delete(name);
      void shared.listening.then(
        (listener) => listener.close(),
        () => undefined,
      );
    };
    try {
      const bound = (await shared.listening).server.address();
      const number = bound === null || typeof bound === 'string' ? port : bound.port;
      name = nameOf(address, number);
      this.#ports.set(name, shared);
      return { device: String(number), close };
    } catch (error) {
      close();
      throw error;
    }
  }
}

const nameOf = (address: string, port: number): string => `${address}:${port}`;
