/** Telnet clients of a console (`port:N`): any number, each sees all. */
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net';
import { AppError, systemErrorCode } from '../../contracts/errors.ts';
import { type ChannelContext, type OpenChannel, SteadyViewer } from './channel.ts';
import { encodeTelnet, TELNET_GREETING, TelnetDecoder } from './telnet.ts';

/** AppErrors: `in_use`, `invalid_input` for an address that is not this host's. */
export async function openPort(address: string, port: number, context: ChannelContext): Promise<OpenChannel> {
  const { server, close } = await listen({ host: address, port }, context);
  const bound = server.address();
  const number = bound === null || typeof bound === 'string' ? port : bound.port;
  return { device: String(number), close };
}

/** Listens with telnet's protocol. `onClient` is told how many there are. */
export async function listen(
  where: ListenOptions,
  context: ChannelContext,
  onClients: (count: number) => void = () => undefined,
): Promise<{ readonly server: Server; close(): void }> {
  const clients = new Set<Socket>();
  const server = createServer((socket) => {
    clients.add(socket);
    socket.once('close', () => {
      clients.delete(socket);
      onClients(clients.size);
    });
    serve(socket, context);
    onClients(clients.size);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(cannotListen(where, cause)));
    server.listen(where, resolve);
  });
  // A client that cannot be accepted is that client's trouble.
  server.on('error', () => undefined);
  const close = (): void => {
    server.close();
    for (const socket of clients) socket.destroy();
  };
  return { server, close };
}

function serve(socket: Socket, context: ChannelContext): void {
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
