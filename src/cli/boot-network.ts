/** NICs of `umlaut boot`: a switch of its own, which ends with it; NICs on a network of the same name are connected. */
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

/** Makes the networks and plugs in the NICs. Throws AppError. */
export async function plugNics(wanted: readonly BootNic[]): Promise<PluggedNics> {
  if (wanted.length === 0) return { nics: [], rings: [], close: async () => {} };
  const handle = await startSwitch({
    onError: (error) => process.stderr.write(`umlaut: the network has failed: ${error.message}\r\n`),
  });
  try {
    return await plugInto(handle, wanted);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function plugInto(handle: SwitchHandle, wanted: readonly BootNic[]): Promise<PluggedNics> {
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

function plug(handle: SwitchHandle, nic: BootNic, device: string, mac: string): Promise<Attachment> {
  if ('network' in nic) {
    return handle.attach({ networkId: nic.network, portId: device, name: GUEST_NAME, mac });
  }
  return plugTransport(handle, { id: `nic-${device}`, name: GUEST_NAME, mac, transport: nic.transport });
}
