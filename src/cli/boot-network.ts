/** NICs of `umlaut boot`: a switch of its own, which ends with it; NICs on a network of the same name are connected. */
import { parseTransport, type Transport } from '../contracts/api/transport.ts';
import { AppError, toAppError } from '../contracts/errors.ts';
import type { NicConfig } from '../contracts/machine.ts';
import { type Attachment, type SwitchHandle, startSwitch } from '../switchd/index.ts';
import { plugTransport } from '../switchd/transport/nic.ts';
import type { BootNic } from './boot-options.ts';

const GUEST_NAME = 'guest';

export interface PluggedNics {
  readonly nics: readonly NicConfig[];
  readonly rings: readonly SharedArrayBuffer[];
  close(): Promise<void>;
}

type Card = { readonly network: string } | { readonly transport: Transport };

function parseCard(nic: BootNic): Card {
  if ('network' in nic) return nic;
  try {
    return { transport: parseTransport(nic.transport, '--nic') };
  } catch (error) {
    const { message, remedy } = toAppError(error);
    throw new AppError('invalid_input', message, {
      field: '--nic',
      remedy: `${remedy}, or none or network=NAME`,
      cause: error,
    });
  }
}

/** Makes the networks and plugs in the NICs. Throws AppError. */
export async function plugNics(wanted: readonly BootNic[]): Promise<PluggedNics> {
  const cards = wanted.map(parseCard);
  const handle = await startSwitch({
    onError: (error) => process.stderr.write(`umlaut: the network has failed: ${error.message}\r\n`),
  });
  try {
    return await plugInto(handle, cards);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function plugInto(handle: SwitchHandle, wanted: readonly Card[]): Promise<PluggedNics> {
  const networks = new Set(wanted.flatMap((nic) => ('network' in nic ? [nic.network] : [])));
  for (const [index, name] of [...networks].entries()) {
    await handle.createNetwork({ id: name, name, subnet: `10.77.${index}.0/24` });
  }
  const nics: NicConfig[] = [];
  const rings: SharedArrayBuffer[] = [];
  const attachments: Attachment[] = [];
  for (const [index, nic] of wanted.entries()) {
    const device = `eth${index}`;
    const mac = `02:00:00:00:00:${(index + 1).toString(16).padStart(2, '0')}`;
    const attachment = await plug(handle, nic, device, mac);
    attachments.push(attachment);
    nics.push({ device, mac, network: 'network' in nic ? nic.network : nic.transport.kind });
    rings.push(attachment.ring);
  }
  const close = async (): Promise<void> => {
    for (const attachment of attachments) await attachment.detach();
    await handle.close();
  };
  return { nics, rings, close };
}

function plug(handle: SwitchHandle, nic: Card, device: string, mac: string): Promise<Attachment> {
  if ('network' in nic) {
    return handle.attach({ networkId: nic.network, portId: device, name: GUEST_NAME, mac });
  }
  return plugTransport(handle, { id: `nic-${device}`, name: GUEST_NAME, mac, transport: nic.transport });
}
