/** Network cards that are on no network, but have a transport of their own: `eth0=daemon,…`, `--nic nat`. */
import type { Transport } from '../../contracts/api/transport.ts';
import type { Attachment, SwitchHandle } from '../index.ts';
import { AS_THE_USER } from '../nat/policy.ts';

/** As slirp has it: the guest is 10.0.2.15, the host 10.0.2.2. */
const NAT_NETWORK = {
  subnet: '10.0.2.0/24',
  gateway: '10.0.2.2',
  pool: { first: '10.0.2.15', last: '10.0.2.254' },
} as const;
const GUEST_ADDRESS = '10.0.2.15';

export interface NicOptions {
  /** Of the card, for the switch: no other network or card has it. */
  readonly id: string;
  /** Host name of the guest. */
  readonly name: string;
  readonly mac: string;
  readonly transport: Transport;
  /** A transport that cannot be opened now is no error: it is tried again until it can. */
  readonly mayBeLate?: boolean | undefined;
}

/** Connects a card of a guest of the user's own. `detach` ends the transport. Throws AppError. */
export async function plugTransport(handle: SwitchHandle, options: NicOptions): Promise<Attachment> {
  const { id, name, mac, transport } = options;
  const reservations = [{ address: GUEST_ADDRESS, mac }];
  await handle.createNetwork({
    ...{ id, name: transport.kind, ...NAT_NETWORK, reservations },
    uplink: transport,
    uplinkRequired: options.mayBeLate !== true,
    nat: AS_THE_USER,
    // Elsewhere others give addresses and answer for names.
    services: transport.kind === 'nat',
  });
  const { ring, detach } = await handle.attach({ networkId: id, portId: id, name, mac });
  return {
    ring,
    async detach() {
      await detach();
      await handle.deleteNetwork(id);
    },
  };
}
