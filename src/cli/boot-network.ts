/** Networks of `umlaut boot`: a switch of its own, which ends with it; NICs of the same name are connected. */
import type { NicConfig } from '../contracts/machine.ts';
import { type SwitchHandle, startSwitch } from '../switchd/index.ts';

const GUEST_NAME = 'guest';

export interface PluggedNics {
  readonly nics: readonly NicConfig[];
  readonly rings: readonly SharedArrayBuffer[];
  close(): Promise<void>;
}

/** Makes the networks and plugs in one NIC for each name. Throws AppError. */
export async function plugNics(names: readonly string[]): Promise<PluggedNics> {
  if (names.length === 0) return { nics: [], rings: [], close: async () => {} };
  const handle = await startSwitch({
    onError: (error) => process.stderr.write(`umlaut: the network has failed: ${error.message}\r\n`),
  });
  try {
    return await plugInto(handle, names);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

async function plugInto(handle: SwitchHandle, names: readonly string[]): Promise<PluggedNics> {
  const networks = [...new Set(names)];
  for (const [index, name] of networks.entries()) {
    await handle.createNetwork({ id: name, name, subnet: `10.77.${index}.0/24` });
  }
  const nics: NicConfig[] = [];
  const rings: SharedArrayBuffer[] = [];
  for (const [index, network] of names.entries()) {
    const device = `eth${index}`;
    const mac = `02:00:00:00:00:${(index + 1).toString(16).padStart(2, '0')}`;
    const { ring } = await handle.attach({ networkId: network, portId: device, name: GUEST_NAME, mac });
    nics.push({ device, mac, network });
    rings.push(ring);
  }
  return { nics, rings, close: () => handle.close() };
}
