/**
 * The virtual network: a switch in a worker thread of its own, outside the VMs' threads and the API's.
 * A VM's worker opens its end of a port with `openNicPort` (port-rings.ts).
 */
import type { Readable } from 'node:stream';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';
import { AppError } from '../contracts/errors.ts';
import { CaptureStream } from './capture/capture-stream.ts';
import type { CaptureOptions } from './capture/messages.ts';
import { createPortRings } from './port-rings.ts';
import type {
  AttachOptions,
  FromSwitch,
  LeaseInfo,
  MacInfo,
  NetworkOptions,
  PortFault,
  PortForward,
  PortInfo,
  PortSettings,
  SwitchRequest,
  SwitchWorkerData,
  ToSwitch,
} from './protocol.ts';
import { SwitchRecord } from './switch-record.ts';
import type { UplinkState } from './transport/uplink.ts';
import { Descriptors } from './uml/descriptors.ts';
import { libc } from './uml/libc.ts';

export type { CaptureOptions } from './capture/messages.ts';
export type { FirewallRule } from './fabric/firewall-rules.ts';
export { DROP_CAUSES, type DropCause } from './fabric/drop-cause.ts';
export { INTERNET_ONLY, type NatPolicyOptions, natPolicy } from './nat/policy.ts';
export type { RingNicPort } from './port-rings.ts';
export type {
  AttachOptions,
  LeaseInfo,
  MacInfo,
  NetworkOptions,
  PortFault,
  PortForward,
  PortInfo,
  PortSettings,
  Reservation,
  VlanSettings,
} from './protocol.ts';
export type { UplinkState } from './transport/uplink.ts';
export { addressPlan, stationAddressOf } from './settings.ts';

export interface SwitchOptions {
  /** The switch's thread has ended unasked, and too often: all ports are dead, and every further call fails. */
  readonly onError: (error: Error) => void;
  /**
   * The switch's thread has ended unasked, and another one has taken its place with the same networks and ports. VMs go on;
   * frames that were on their way are lost, and counters begin anew.
   */
  readonly onRestart?: ((cause: Error) => void) | undefined;
  /** A VM's end of a port broke the ring's rules, and the port was unplugged. Others are not affected. */
  readonly onPortFault?: ((fault: PortFault) => void) | undefined;
}

export interface Attachment {
  /** For the VM's worker: one end of the cable. */
  readonly ring: SharedArrayBuffer;
  /** Unplugs. Frames that were already sent are still forwarded. Does nothing the second time. */
  detach(): Promise<void>;
}

/** All methods fail with AppError; `unreachable` when the switch's thread dies meanwhile: the next call finds another one. */
export interface SwitchHandle {
  /** `invalid_input`; `already_exists`, also for a control socket that another switch serves. */
  createNetwork(options: NetworkOptions): Promise<void>;
  /**
   * Other settings for a network; what is plugged in stays so, and keeps its addresses. The subnet and the gateway's address
   * cannot change. `not_found`, `invalid_input`, and what `createNetwork` says.
   */
  configureNetwork(options: NetworkOptions): Promise<void>;
  /** `not_found`, `in_use`. */
  deleteNetwork(networkId: string): Promise<void>;
  /** `not_found`, `invalid_input`, `already_exists` for a port id or a MAC address that is on the network. */
  attach(options: AttachOptions): Promise<Attachment>;
  /** Changes what a port may do; all of it. `not_found`, `invalid_input`, `already_exists` for an address. */
  configurePort(networkId: string, portId: string, settings: PortSettings): Promise<void>;
  /**
   * Frames as they go by, as a stream of pcapng. `not_found`, `invalid_input` for the filter, `quota_exceeded`. Destroying
   * the stream ends the capture.
   */
  capture(networkId: string, options: CaptureOptions): Promise<Readable>;
  /** Keeps an address for a station, or, with null, no longer. */
  reserve(networkId: string, address: string, mac: string | null): Promise<void>;
  /** Opens a port of the host that leads to a station. `not_found`, `in_use`, `invalid_input`, `conflict` without the uplink nat. */
  forward(networkId: string, forward: PortForward): Promise<void>;
  /** Closes it; connections that are open stay so. */
  unforward(networkId: string, id: string): Promise<void>;
  /** Undefined for a network without one. */
  uplink(networkId: string): Promise<UplinkState | undefined>;
  leases(networkId: string): Promise<LeaseInfo[]>;
  /** Also the network's own port, `gateway`. */
  ports(networkId: string): Promise<PortInfo[]>;
  macTable(networkId: string): Promise<MacInfo[]>;
  close(): Promise<void>;
}

/** Starts the switch's thread. */
export async function startSwitch(options: SwitchOptions): Promise<SwitchHandle> {
  const client = new SwitchClient(options);
  await client.ready;
  return client;
}

// Run from source or from the built package.
const WORKER = new URL(`./switch-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** More ends than these in that time are not met with another start. */
const RESTARTS_MAX = 5;
const RESTARTS_MS = 60_000;

class SwitchClient implements SwitchHandle {
  readonly ready: Promise<void>;
  readonly #options: SwitchOptions;
  readonly #record = new SwitchRecord();
  readonly #waiting = new Map<number, Waiting>();
  readonly #descriptors = new Descriptors();
  readonly #started = Promise.withResolvers<void>();
  #worker: Worker;
  /** Times of the starts after the first. */
  #restarts: number[] = [];
  #nextId = 1;
  #ended: Error | undefined;
  #closing = false;

  constructor(options: SwitchOptions) {
    this.#options = options;
    this.ready = this.#started.promise;
    this.#worker = this.#start();
  }

  async createNetwork(options: NetworkOptions): Promise<void> {
    await this.#request({ type: 'create-network', options });
  }

  async configureNetwork(options: NetworkOptions): Promise<void> {
    await this.#request({ type: 'configure-network', options });
  }

  async deleteNetwork(networkId: string): Promise<void> {
    await this.#request({ type: 'delete-network', networkId });
  }

  async attach(options: AttachOptions): Promise<Attachment> {
    const { networkId, portId } = options;
    const ring = createPortRings();
    await this.#request({ type: 'attach', options, ring });
    let detached: Promise<void> | undefined;
    const detach = async (): Promise<void> => {
      if (this.#ended === undefined) await this.#request({ type: 'detach', networkId, portId });
    };
    return {
      ring,
      detach() {
        detached ??= detach();
        return detached;
      },
    };
  }

  async configurePort(networkId: string, portId: string, settings: PortSettings): Promise<void> {
    await this.#request({ type: 'configure-port', networkId, portId, settings });
  }

  async capture(networkId: string, options: CaptureOptions): Promise<Readable> {
    const { port1, port2 } = new MessageChannel();
    const stream = new CaptureStream(port1);
    try {
      await this.#request({ type: 'capture', networkId, options, port: port2 }, [port2]);
    } catch (error) {
      stream.destroy();
      throw error;
    }
    return stream;
  }

  async reserve(networkId: string, address: string, mac: string | null): Promise<void> {
    await this.#request({ type: 'reserve', networkId, address, mac });
  }

  async forward(networkId: string, forward: PortForward): Promise<void> {
    await this.#request({ type: 'forward', networkId, forward });
  }

  async unforward(networkId: string, id: string): Promise<void> {
    await this.#request({ type: 'unforward', networkId, id });
  }

  async uplink(networkId: string): Promise<UplinkState | undefined> {
    return (await this.#request({ type: 'uplink', networkId })) as UplinkState | undefined;
  }

  async leases(networkId: string): Promise<LeaseInfo[]> {
    return (await this.#request({ type: 'leases', networkId })) as LeaseInfo[];
  }

  async ports(networkId: string): Promise<PortInfo[]> {
    return (await this.#request({ type: 'ports', networkId })) as PortInfo[];
  }

  async macTable(networkId: string): Promise<MacInfo[]> {
    return (await this.#request({ type: 'mac-table', networkId })) as MacInfo[];
  }

  async close(): Promise<void> {
    // So that control sockets are removed, and their threads are not cut off.
    if (this.#ended === undefined) await this.#request({ type: 'close' }).catch(() => undefined);
    this.#closing = true;
    await this.#worker.terminate();
  }

  #start(): Worker {
    const workerData: SwitchWorkerData = { descriptors: this.#descriptors.memory };
    const worker = new Worker(WORKER, { name: 'switch', workerData });
    let cause: unknown;
    worker.on('message', (message: FromSwitch) => this.#receive(message));
    worker.on('error', (error: unknown) => {
      cause = error;
    });
    worker.on('exit', (code) => this.#exited(cause ?? new Error(`exit status ${code}`)));
    return worker;
  }

  /** Nothing comes between: what is asked from now on is asked of the new thread, after it has been told everything. */
  #restart(cause: Error): void {
    this.#worker = this.#start();
    for (const { request, place } of this.#record.replay()) {
      this.#post(request).catch((error: unknown) => {
        // That thread has died too: the next one is told again.
        if (error instanceof AppError && error.code === 'unreachable') return;
        this.#options.onPortFault?.({ ...place, detail: String(error) });
      });
    }
    this.#options.onRestart?.(cause);
  }

  async #request(request: SwitchRequest, transfer: readonly MessagePort[] = []): Promise<unknown> {
    if (this.#ended !== undefined) throw this.#ended;
    const result = await this.#post(request, transfer);
    this.#record.note(request);
    return result;
  }

  #post(request: SwitchRequest, transfer: readonly MessagePort[] = []): Promise<unknown> {
    const id = this.#nextId++;
    const message: ToSwitch = { id, request };
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage(message, transfer);
    });
  }

  #receive(message: FromSwitch): void {
    switch (message.type) {
      case 'ready':
        this.#started.resolve();
        break;
      case 'reply':
        this.#take(message.id)?.resolve(message.result);
        break;
      case 'reply-error':
        this.#take(message.id)?.reject(AppError.fromPlain(message.error));
        break;
      case 'port-fault':
        this.#record.unplugged(message.fault);
        this.#options.onPortFault?.(message.fault);
        break;
    }
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #exited(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const error = new AppError('unreachable', `the switch has ended: ${reason}`, { cause });
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
    this.#started.reject(error);
    // Its threads, which have ended with it, can close nothing any more.
    for (const fd of this.#descriptors.take()) libc().close(fd);
    if (this.#closing) {
      this.#ended = error;
      return;
    }
    const now = performance.now();
    this.#restarts = [...this.#restarts.filter((at) => now - at < RESTARTS_MS), now];
    if (this.#restarts.length <= RESTARTS_MAX) {
      this.#restart(error);
      return;
    }
    this.#ended = error;
    this.#options.onError(error);
  }
}
