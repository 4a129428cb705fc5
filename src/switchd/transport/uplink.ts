/** Connects a network with a transport: the port `uplink` leads to a thread that has the transport's descriptor. */
import { Worker } from 'node:worker_threads';
import { AppError } from '../../contracts/errors.ts';
import type { Inlet, Pump } from '../fabric/pump.ts';
import type { Segment } from '../fabric/segment.ts';
import { createPortRings, openSwitchPort } from '../port-rings.ts';
import { descriptorMemory } from '../uml/descriptors.ts';
import { libc, openEventFd, signalEventFd } from '../uml/libc.ts';
import type { FromLinkWorker, LinkWorkerData, ToLinkWorker } from './link-messages.ts';
import type { LinkTransport } from './open-link.ts';

/** Id of its port. */
export const UPLINK_PORT = 'uplink';

// Run from source or from the built package.
const WORKER = new URL(`./link-worker${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url);

export interface UplinkState {
  readonly up: boolean;
  /** Why it is down. */
  readonly detail: string | null;
  /** Of a pseudo-terminal. */
  readonly path: string | null;
}

export class Uplink {
  state: UplinkState = { up: false, detail: null, path: null };
  readonly #segment: Segment;
  readonly #pump: Pump;
  readonly #wakeFd = openEventFd();
  readonly #exited = Promise.withResolvers<void>();
  #inlet: Inlet | undefined;
  #worker: Worker | undefined;

  private constructor(segment: Segment, pump: Pump) {
    this.#segment = segment;
    this.#pump = pump;
  }

  /**
   * Rejects with AppError: `quota_exceeded`, and when `mustOpen` is set also what the transport says (`unreachable`,
   * `forbidden`, `not_found`, `invalid_input`). Otherwise it is tried again until it succeeds.
   */
  static async open(
    transport: LinkTransport,
    segment: Segment,
    pump: Pump,
    mustOpen: boolean,
  ): Promise<Uplink> {
    const uplink = new Uplink(segment, pump);
    try {
      await uplink.#open(transport, mustOpen);
      return uplink;
    } catch (error) {
      await uplink.close();
      throw error;
    }
  }

  /** What was sent to it last still goes out, as far as the transport takes it. */
  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    if (worker !== undefined) {
      const message: ToLinkWorker = { type: 'stop' };
      worker.postMessage(message);
      signalEventFd(this.#wakeFd);
      await this.#exited.promise;
    }
    if (this.#unplug()) libc().close(this.#wakeFd);
  }

  async #open(transport: LinkTransport, mustOpen: boolean): Promise<void> {
    const ring = createPortRings();
    const { input, output } = openSwitchPort(ring, () => signalEventFd(this.#wakeFd));
    const port = this.#segment.add(UPLINK_PORT, output);
    if (port === undefined) throw new AppError('quota_exceeded', 'the network has no free port');
    const onCorrupt = (error: Error): void => this.#fail(error.message);
    this.#inlet = { port, segment: this.#segment, input, onCorrupt, open: true };
    this.#pump.add(this.#inlet);
    const data: LinkWorkerData = {
      ...{ transport, ring, wakeFd: this.#wakeFd, mustOpen },
      descriptors: descriptorMemory(),
    };
    const worker = new Worker(WORKER, { name: `uplink ${transport.kind}`, workerData: data });
    this.#worker = worker;
    await this.#started(worker);
  }

  #started(worker: Worker): Promise<void> {
    return new Promise((resolve, reject) => {
      worker.on('message', (message: FromLinkWorker) => {
        if (message.type === 'started') resolve();
        else if (message.type === 'failed') reject(AppError.fromPlain(message.error));
        else this.state = { up: message.error === null, detail: message.error, path: message.path ?? null };
      });
      worker.on('error', (error: unknown) => {
        this.#fail(String(error));
        reject(
          new AppError('internal', `the uplink's thread has failed: ${String(error)}`, { cause: error }),
        );
      });
      worker.on('exit', () => {
        this.#worker = undefined;
        this.#exited.resolve();
      });
    });
  }

  #fail(detail: string): void {
    this.state = { up: false, detail, path: null };
  }

  /** False when that was done before. */
  #unplug(): boolean {
    const inlet = this.#inlet;
    if (inlet === undefined) return false;
    this.#inlet = undefined;
    this.#pump.remove(inlet);
    this.#segment.remove(inlet.port);
    return true;
  }
}
