/** Listening for clients that speak telnet. */
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { AppError, systemErrorCode } from '../../contracts/errors.ts';
import { type ChannelContext, SteadyViewer } from './channel.ts';
import { encodeTelnet, TELNET_GREETING, TelnetDecoder } from './telnet.ts';

export interface Listener {
  readonly server: Server;
  /** Listens no more, and ends what has come in. */
  close(): void;
}

/** AppErrors: `in_use`, `invalid_input` for an address that is not this host's. */
export async function listen(where: ListenOptions, accept: (socket: Socket) => void): Promise<Listener> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    accept(socket);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(cannotListen(where, cause)));
    server.listen(where, resolve);
  });
  // A client that cannot be accepted is that client's trouble.
  server.on('error', () => undefined);
  const close = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return { server, close };
}

/** Joins a client to a console, until it closes its connection. */
export function serve(socket: Socket, context: ChannelContext): void {
  socket.setNoDelay(true);
  // Its end comes as `close`.
  socket.on('error', () => undefined);
  socket.write(TELNET_GREETING);
  const sink = {
    write: (bytes: Uint8Array, done: () => void) => void socket.write(encodeTelnet(bytes), () => done()),
  };
  const silent = { write: (_bytes: Uint8Array, done: () => void) => done() };
  const held = (isHeld: boolean): void => void (isHeld ? socket.pause() : socket.resume());
  const viewer = new SteadyViewer(context.writes ? sink : silent, held, () => socket.end());
  try {
    viewer.opened(context.join(viewer, context.writes));
  } catch (error) {
    socket.end(`${error instanceof Error ? error.message : String(error)}\r\n`);
    return;
  }
  receive(socket, viewer, context);
}

function receive(socket: Socket, viewer: SteadyViewer, { reads }: ChannelContext): void {
  const decoder = new TelnetDecoder();
  socket.on('data', (data: Buffer) => {
    const { bytes, size } = decoder.decode(data);
    if (size !== undefined) viewer.resize(size.columns, size.rows);
    if (reads && bytes.length > 0) viewer.input(bytes);
  });
  socket.once('close', () => viewer.close());
}

function cannotListen(where: ListenOptions, cause: unknown): AppError {
  const name = where.path ?? `${where.host}:${where.port}`;
  const code = systemErrorCode(cause);
  if (code === 'EADDRINUSE') {
    return new AppError('in_use', `the port ${name} is in use`, {
      field: 'channel',
      remedy: 'choose another port',
      cause,
    });
  }
  return new AppError('invalid_input', `cannot listen on ${name}: ${code ?? String(cause)}`, {
    field: 'channel',
    remedy: 'choose an address of this host and a port that you may use',
    cause,
  });
}
