/** Network cards of a machine in the foreground: a switch of its own, with a network for each transport. */
import { toAppError } from '../../contracts/errors.ts';
import type { NicConfig } from '../../contracts/machine.ts';
import { type Attachment, type SwitchHandle, startSwitch } from '../../switchd/index.ts';
import { type NicOptions, plugTransport } from '../../switchd/transport/nic.ts';
import type { TransportCard } from '../../uml/eth.ts';
import { macFor } from '../../vmm/ids.ts';
import type { Io } from '../io.ts';
import type { Cards, PluggedCard } from './foreground.ts';

const GUEST_NAME = 'guest';

export class NetworkCards implements Cards {
  readonly #umid: string;
  readonly #io: Io;
  /** By unit. */
  readonly #attachments = new Map<number, Attachment>();
  #switch: Promise<SwitchHandle> | undefined;

  constructor(umid: string, io: Io) {
    this.#umid = umid;
    this.#io = io;
  }

  /** The cards that the machine starts with. AppErrors as `plug`. */
  async plugAll(
    eths: ReadonlyMap<number, TransportCard>,
  ): Promise<{ readonly nics: readonly NicConfig[]; readonly nicRings: readonly SharedArrayBuffer[] }> {
    const cards: PluggedCard[] = [];
    for (const [unit, eth] of eths) cards.push(await this.plug(unit, eth));
    return { nics: cards.map(({ nic }) => nic), nicRings: cards.map(({ ring }) => ring) };
  }

  async plug(unit: number, { transport, mac }: TransportCard): Promise<PluggedCard> {
    const device = `eth${unit}`;
    const nic = { device, mac: mac ?? macFor(this.#umid, device), network: transport.kind };
    const handle = await this.#open();
    const attachment = await this.#connect(handle, { id: device, name: GUEST_NAME, mac: nic.mac, transport });
    this.#attachments.set(unit, attachment);
    const path = (await handle.uplink(device))?.path ?? undefined;
    if (path !== undefined) this.#io.stderr.write(`umlaut: ${device} is attached to ${path}\r\n`);
    return { nic, ring: attachment.ring };
  }

  async unplug(unit: number): Promise<void> {
    const attachment = this.#attachments.get(unit);
    this.#attachments.delete(unit);
    await attachment?.detach();
  }

  async close(): Promise<void> {
    const handle = this.#switch;
    this.#switch = undefined;
    await (await handle)?.close();
  }

  /** A switch that is not there may come: the card is there and its cable is not. */
  async #connect(handle: SwitchHandle, options: NicOptions): Promise<Attachment> {
    try {
      return await plugTransport(handle, options);
    } catch (error) {
      const known = toAppError(error);
      if (known.code !== 'unreachable') throw error;
      this.#io.stderr.write(`umlaut: ${options.id}: ${known.message}; it is tried again\r\n`);
      return await plugTransport(handle, { ...options, mayBeLate: true });
    }
  }

  #open(): Promise<SwitchHandle> {
    this.#switch ??= startSwitch({
      onError: (error) => this.#io.stderr.write(`umlaut: the network has failed: ${error.message}\r\n`),
    });
    return this.#switch;
  }
}
