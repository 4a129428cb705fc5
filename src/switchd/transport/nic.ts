/** Network cards that are on no network, but have a transport of their own: `eth0=daemon,…`, `--nic nat`. */
import type { Transport } from '../../contracts/api/transport.ts';
import type { Attachment, NatPolicyOptions, PortSettings, SwitchHandle } from '../index.ts';
import { AS_THE_USER } from '../nat/policy.ts';

/** As slirp has it: the guest is 10.0.2.15, the host 10.0.2.2; and by router advertisements IPv6, where the host is fd00:10:0:2::1. */
const NAT_NETWORK = {
  subnet: '10.0.2.0/24',
  ipv6: { prefix: 'fd00:10:0:2::/64', addressing: 'slaac' },
  gateway: '10.0.2.2',
  pool: { first: '10.0.2.15', last: '10.0.2.254' },
} as const;
/** The guest's address behind the transport `nat`; elsewhere others give addresses. */
export const NAT_GUEST_ADDRESS = '10.0.2.15';
/** Its prefix's length, in bits. */
export const NAT_PREFIX_LENGTH = 24;

export interface NicOptions {
  /** Of the card, for the switch: no other network or card has it. */
  readonly id: string;
  /** Host name of the guest. */
  readonly name: string;
  readonly mac: string;
  readonly transport: Transport;
  /** A transport that cannot be opened now is no error: it is tried again until it can. */
  readonly mayBeLate?: boolean | undefined;
  /** What the card may do; anything when missing. */
  readonly settings?: PortSettings | undefined;
  /** Where `nat` leads; wherever the user may go when missing. */
  readonly nat?: NatPolicyOptions | undefined;
}

type Fabric = Pick<SwitchHandle, 'createNetwork' | 'deleteNetwork' | 'attach'>;

/** Connects a card, whose port has the card's id. `detach` ends the transport. Throws AppError. */
export async function plugTransport(handle: Fabric, options: NicOptions): Promise<Attachment> {
  const { id, name, mac, transport, settings } = options;
  const reservations = [{ address: NAT_GUEST_ADDRESS, mac }];
  await handle.createNetwork({
    ...{ id, name: transport.kind, ...NAT_NETWORK, reservations },
    uplink: transport,
    uplinkRequired: options.mayBeLate !== true,
    nat: options.nat ?? AS_THE_USER,
    // Elsewhere others give addresses and answer for names.
    services: transport.kind === 'nat',
  });
  try {
    const { ring, detach } = await handle.attach({ ...settings, networkId: id, portId: id, name, mac });
    return {
      ring,
      async detach() {
        await detach();
        await handle.deleteNetwork(id);
      },
    };
  } catch (error) {
    await handle.deleteNetwork(id);
    throw error;
  }
}
