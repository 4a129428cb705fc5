/**
 * A switch that speaks uml_switch's protocol on a Unix socket: the control side. A connection is a port: it asks once,
 * and the port lives until it is closed. Each client gets a data socket of its own that is connected to the client's, as in
 * vde_switch: nobody else can send to it, and a full receiver can be waited for.
 */
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { AppError } from '../../contracts/errors.ts';
import { parseRequest, printableName } from './control-request.ts';
import { DataWorker } from './data-worker-handle.ts';
import { unixAddress } from './libc.ts';
import type { StationReport, UmlPortInfo } from './messages.ts';

/** Most connections to one control socket. */
export const CLIENTS_MAX = 1024;
const PATH_BYTES_MAX = 107;
/** A connection has to ask within this time. */
const REQUEST_MS = 10_000;
const PROBE_MS = 2000;

/** What happens, for whoever wants to print it. */
export type UmlSwitchEvent =
  | { readonly type: 'connected' }
  | { readonly type: 'disconnected' }
  | { readonly type: 'bad-request'; readonly why: string }
  | { readonly type: 'unknown-version'; readonly version: number }
  | { readonly type: 'station'; readonly report: StationReport };

export interface UmlSwitchOptions {
  /** Of the control socket. */
  readonly path: string;
  /** Permissions of the control socket; what the process's umask leaves when missing. */
  readonly mode?: number | undefined;
  readonly hub?: boolean | undefined;
  /** TAP devices that are ports too. */
  readonly taps?: readonly string[] | undefined;
  /** The end of another switch's port that is this one's trunk. */
  readonly trunk?: Trunk | undefined;
  readonly onEvent?: ((event: UmlSwitchEvent) => void) | undefined;
  /** The data path has ended unasked, and the switch with it. */
  readonly onError: (error: Error) => void;
}

export interface Trunk {
  readonly ring: SharedArrayBuffer;
  /** The other switch signals it when the ring is armed. */
  readonly wakeFd: number;
}

export class UmlSwitch {
  readonly #options: UmlSwitchOptions;
  readonly #data: DataWorker;
  readonly #server: Server;
  readonly #clients = new Set<Socket>();
  #nextPort = 1;
  #closed: Promise<void> | undefined;

  private constructor(options: UmlSwitchOptions) {
    this.#options = options;
    const onEvent = options.onEvent;
    this.#data = new DataWorker({
      hub: options.hub ?? false,
      trunk: options.trunk,
      onStation: onEvent && ((report) => onEvent({ type: 'station', report })),
      onError: options.onError,
    });
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = CLIENTS_MAX;
  }

  /** Throws AppError: `already_exists` when another switch serves the path, `invalid_input` for options. */
  static async start(options: UmlSwitchOptions): Promise<UmlSwitch> {
    await makeFree(options.path);
    const made = new UmlSwitch(options);
    try {
      for (const device of options.taps ?? []) await made.#addTap(device);
      await made.#listen();
      if (options.mode !== undefined) await chmod(options.path, options.mode);
    } catch (error) {
      await made.#data.close();
      throw error;
    }
    return made;
  }

  /** The clients' ports, and the trunk. */
  ports(): Promise<UmlPortInfo[]> {
    return this.#data.ports();
  }

  /** Removes the control socket, and all ports. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    // The server's end does not mean that of its connections: no event comes after this switch's end.
    const clients = [...this.#clients];
    const gone = clients.map((client) => new Promise<void>((resolve) => client.once('close', resolve)));
    for (const client of clients) client.destroy();
    await Promise.all([closed, ...gone]);
    await this.#data.close();
  }

  async #addTap(device: string): Promise<void> {
    try {
      await this.#data.request({ type: 'tap', portId: `tap-${device}`, device });
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new AppError('invalid_input', `the TAP device ${device} cannot be opened: ${reason}`, {
        field: 'tap',
        remedy: 'Make it for this user with tunctl, or run with the right to make it.',
      });
    }
  }

  #listen(): Promise<void> {
    const { path } = this.#options;
    return new Promise((resolve, reject) => {
      this.#server.once('error', (error) =>
        reject(new AppError('invalid_input', `${path}: ${error.message}`, { field: 'unix', cause: error })),
      );
      this.#server.listen(path, resolve);
    });
  }

  #accept(socket: Socket): void {
    const portId = `client-${this.#nextPort++}`;
    this.#clients.add(socket);
    this.#emit({ type: 'connected' });
    let asked = false;
    socket.setTimeout(REQUEST_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (bytes: Uint8Array) => {
      if (asked) this.#refuse(socket, 'more after the request');
      asked = true;
      void this.#ask(socket, portId, bytes);
    });
    socket.on('close', () => {
      this.#clients.delete(socket);
      this.#data.request({ type: 'leave', portId }).catch(() => undefined);
      this.#emit({ type: 'disconnected' });
    });
  }

  /** The request has to come in one piece, as uml_switch wants it. */
  async #ask(socket: Socket, portId: string, bytes: Uint8Array): Promise<void> {
    if (socket.destroyed) return;
    const request = parseRequest(bytes);
    if (request.kind === 'refused') return this.#refuse(socket, request.why);
    if (request.kind === 'unknown-version')
      return this.#emit({ type: 'unknown-version', version: request.version });
    try {
      const name = await this.#data.request({ type: 'join', portId, name: request.name });
      if (socket.destroyed) return;
      socket.setTimeout(0);
      // Clients of version 0 expect no answer: they get frames, and know of no socket to send to.
      if (request.version !== 0) socket.write(unixAddress(name as Uint8Array));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#refuse(socket, `${printableName(request.name)}: ${reason}`);
    }
  }

  #refuse(socket: Socket, why: string): void {
    if (socket.destroyed) return;
    this.#emit({ type: 'bad-request', why });
    socket.destroy();
  }

  #emit(event: UmlSwitchEvent): void {
    this.#options.onEvent?.(event);
  }
}

/** Removes a control socket that nobody serves any more. Throws AppError. */
async function makeFree(path: string): Promise<void> {
  const bytes = Buffer.byteLength(path);
  if (bytes === 0 || bytes > PATH_BYTES_MAX) {
    throw new AppError(
      'invalid_input',
      `a socket's path has 1 to ${PATH_BYTES_MAX} bytes, and this has ${bytes}`,
      {
        field: 'unix',
        remedy: 'Choose a shorter one.',
      },
    );
  }
  const known = await lstat(path).catch(() => undefined);
  if (known === undefined) return;
  if (!known.isSocket()) {
    throw new AppError('already_exists', `${path} is there and is no socket`, { field: 'unix' });
  }
  if (await isServed(path)) {
    const remedy = 'Remove it, or choose another name.';
    throw new AppError('already_exists', `the control socket ${path} has another server`, {
      field: 'unix',
      remedy,
    });
  }
  await unlink(path);
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path);
    const end = (served: boolean): void => {
      probe.destroy();
      resolve(served);
    };
    probe.setTimeout(PROBE_MS, () => end(true));
    probe.once('connect', () => end(true));
    // Anything but a refusal says that somebody listens, or that we must not know.
    probe.once('error', (error: NodeJS.ErrnoException) => end(error.code !== 'ECONNREFUSED'));
  });
}
