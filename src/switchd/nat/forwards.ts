/** Ports of the host that lead to guests: TCP connections, and UDP with a port of the gateway's for each sender. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { AppError, systemErrorCode } from '../../contracts/errors.ts';
import { BUFFER_BYTES } from './datagrams.ts';
import type { Peer } from './frame-writer.ts';
import { formatAddress } from './packet.ts';
import type { Tcp } from './tcp.ts';

/** Senders of one UDP forward; the one that was silent longest makes way. */
const SENDERS_MAX = 256;
const FIRST_PORT = 20_000;

export interface ForwardOptions {
  readonly id: string;
  readonly protocol: 'tcp' | 'udp';
  readonly hostAddress: string;
  readonly hostPort: number;
  /** The guest's: 4 or 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

/** A guest, and the slot of its port on the switch. */
export interface Located {
  readonly peer: Peer;
  readonly slot: number;
}

export interface ForwardsHost {
  readonly tcp: Tcp;
  /** The gateway's address, which all connections to a guest's address seem to come from. */
  gateway(address: Uint8Array): Uint8Array | undefined;
  /** Undefined while no station has this address. */
  locate(address: Uint8Array): Located | undefined;
  sendUdp(from: Uint8Array, fromPort: number, to: Peer, toPort: number, payload: Uint8Array): void;
}

interface OpenForward {
  close(): void;
}

interface UdpForward {
  readonly options: ForwardOptions;
  readonly socket: UdpSocket;
  /** By the gateway's port that stands for it; in order of their last datagram. */
  readonly senders: Map<number, RemoteInfo>;
}

export class Forwards {
  readonly #host: ForwardsHost;
  readonly #open = new Map<string, OpenForward>();
  /** By the gateway's port. */
  readonly #ports = new Map<number, UdpForward>();
  #nextPort = FIRST_PORT;

  constructor(host: ForwardsHost) {
    this.#host = host;
  }

  /** `in_use` when another program has the host's port, `invalid_input` when it cannot be had. */
  async add(options: ForwardOptions): Promise<void> {
    try {
      this.#open.set(
        options.id,
        await (options.protocol === 'tcp' ? this.#listen(options) : this.#bind(options)),
      );
    } catch (error) {
      throw portError(error, options);
    }
  }

  /** Connections that are open stay so. */
  remove(id: string): void {
    this.#open.get(id)?.close();
    this.#open.delete(id);
  }

  close(): void {
    for (const id of [...this.#open.keys()]) this.remove(id);
  }

  /** A datagram of a guest's to a port of the gateway's. False: it answers nobody. */
  answer(address: Uint8Array, port: number, toPort: number, payload: Uint8Array): boolean {
    const forward = this.#ports.get(toPort);
    const to = forward?.senders.get(toPort);
    if (forward === undefined || to === undefined) return false;
    if (Buffer.compare(forward.options.address, address) !== 0 || forward.options.port !== port) return false;
    // An error of sending is a datagram that is lost.
    forward.socket.send(payload, to.port, to.address, () => undefined);
    return true;
  }

  async #listen({ hostAddress, hostPort, address, port }: ForwardOptions): Promise<OpenForward> {
    const server: Server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (socket) => {
      const to = this.#host.locate(address);
      const from = this.#host.gateway(address);
      const isTaken =
        to !== undefined &&
        from !== undefined &&
        this.#host.tcp.forward(socket, from, to.peer, port, to.slot);
      if (!isTaken) socket.resetAndDestroy();
    });
    server.listen({ host: hostAddress, port: hostPort });
    await once(server, 'listening');
    server.on('error', () => undefined);
    return { close: () => void server.close() };
  }

  async #bind(options: ForwardOptions): Promise<OpenForward> {
    const type = options.hostAddress.includes(':') ? 'udp6' : 'udp4';
    const socket = createSocket({ type, recvBufferSize: BUFFER_BYTES });
    const forward: UdpForward = { options, socket, senders: new Map() };
    socket.on('message', (payload, sender) => this.#received(forward, payload, sender));
    try {
      socket.bind(options.hostPort, options.hostAddress);
      await once(socket, 'listening');
    } catch (error) {
      socket.close();
      throw error;
    }
    socket.on('error', () => undefined);
    return {
      close: () => {
        socket.close();
        for (const port of forward.senders.keys()) this.#ports.delete(port);
      },
    };
  }

  #received(forward: UdpForward, payload: Buffer, sender: RemoteInfo): void {
    const to = this.#host.locate(forward.options.address);
    const from = this.#host.gateway(forward.options.address);
    if (to === undefined || from === undefined) return;
    const known = [...forward.senders].find(
      ([, { address, port }]) => address === sender.address && port === sender.port,
    );
    const fromPort = known?.[0] ?? this.#freePort();
    forward.senders.delete(fromPort);
    if (forward.senders.size >= SENDERS_MAX) {
      const [oldest] = forward.senders.keys();
      forward.senders.delete(oldest!);
      this.#ports.delete(oldest!);
    }
    forward.senders.set(fromPort, sender);
    this.#ports.set(fromPort, forward);
    this.#host.sendUdp(from, fromPort, to.peer, forward.options.port, payload);
  }

  #freePort(): number {
    do {
      this.#nextPort = this.#nextPort === 0xffff ? FIRST_PORT : this.#nextPort + 1;
    } while (this.#ports.has(this.#nextPort));
    return this.#nextPort;
  }
}

function portError(error: unknown, { protocol, hostAddress, hostPort, address }: ForwardOptions): AppError {
  const what = `${protocol} port ${hostPort} of ${hostAddress}`;
  const options = { field: 'host_port', cause: error };
  switch (systemErrorCode(error)) {
    case 'EADDRINUSE':
      return new AppError('in_use', `${what} is in use by another program`, {
        ...options,
        remedy: 'choose another port, or end that program',
      });
    case 'EACCES':
      return new AppError('invalid_input', `${what} needs privileges that the daemon does not have`, {
        ...options,
        remedy: 'choose a port from 1024 on',
      });
    case 'EADDRNOTAVAIL':
      return new AppError('invalid_input', `${hostAddress} is no address of this host`, {
        field: 'host_address',
        remedy: 'use 127.0.0.1, 0.0.0.0 or an address of the host',
        cause: error,
      });
    default:
      return new AppError(
        'invalid_input',
        `${what} cannot be forwarded to ${formatAddress(address)}: ${String(error)}`,
        options,
      );
  }
}
