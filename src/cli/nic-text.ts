/** Where network cards are plugged in, for people. */
import { formatTransport, type Nic, type Transport, type TransportState } from '../contracts/api/index.ts';

/** A network's name, or a transport with its state. */
export function nicPlace({ network, transport, transport_state: state }: Nic): string {
  return transport === undefined ? (network ?? '') : transportText(transport, state ?? null);
}

export function transportText(transport: Transport, state: TransportState | null): string {
  const parts = [formatTransport(transport), state?.path, state?.up === false && `down: ${state.detail}`];
  return parts.filter(Boolean).join(' ');
}
