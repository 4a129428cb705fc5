/** Connects a network with a UML switch: a port of the network is the trunk to the clients of a control socket. */

import { AppError } from '../../contracts/errors.ts';
import type { Inlet, Pump } from '../fabric/pump.ts';
import type { Segment } from '../fabric/segment.ts';
import { createPortRings, openSwitchPort } from '../port-rings.ts';
import { UmlSwitch } from './control-server.ts';
import { libc, openEventFd, signalEventFd } from './libc.ts';

/** Id of the trunk's port. */
export const UML_PORT = 'uml';
const OWNER_ONLY = 0o600;

export class UmlTrunk {
  readonly #segment: Segment;
  readonly #pump: Pump;
  readonly #wakeFd = openEventFd();
  readonly #onFault: (detail: string) => void;
  #inlet: Inlet | undefined;
  #switch: UmlSwitch | undefined;

  private constructor(segment: Segment, pump: Pump, onFault: (detail: string) => void) {
    this.#segment = segment;
    this.#pump = pump;
    this.#onFault = onFault;
  }

  /** Rejects with AppError. `onFault`: all clients are gone, because of this. */
  static async open(
    path: string,
    segment: Segment,
    pump: Pump,
    onFault: (detail: string) => void,
  ): Promise<UmlTrunk> {
    const trunk = new UmlTrunk(segment, pump, onFault);
    try {
      await trunk.#open(path);
    } catch (error) {
      await trunk.close();
      throw error;
    }
    return trunk;
  }

  /** Also what the clients have sent last is forwarded. */
  async close(): Promise<void> {
    const open = this.#switch;
    this.#switch = undefined;
    await open?.close();
    if (this.#unplug()) libc().close(this.#wakeFd);
  }

  async #open(path: string): Promise<void> {
    const ring = createPortRings();
    const { input, output } = openSwitchPort(ring, () => signalEventFd(this.#wakeFd));
    const port = this.#segment.add(UML_PORT, output);
    if (port === undefined) throw new AppError('quota_exceeded', 'the network has no free port');
    const onCorrupt = (error: Error): void => this.#fail(error);
    this.#inlet = { port, segment: this.#segment, input, onCorrupt, open: true };
    this.#pump.add(this.#inlet);
    this.#switch = await UmlSwitch.start({
      path,
      mode: OWNER_ONLY,
      trunk: { ring, wakeFd: this.#wakeFd },
      onError: (error) => this.#fail(error),
    });
  }

  #fail(error: Error): void {
    this.#onFault(error.message);
    void this.close();
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
