/** ICMP echo (RFC 792). */
import { internetChecksum } from './checksum.ts';
import { viewOf } from './view.ts';

const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;
const HEADER_BYTES = 8;

/** The reply to an echo request, or undefined when it is none. */
export function echoReply(request: Uint8Array): Uint8Array | undefined {
  if (request.length < HEADER_BYTES || request[0] !== ECHO_REQUEST || request[1] !== 0) return undefined;
  if (internetChecksum(request) !== 0) return undefined;
  const reply = request.slice();
  const view = viewOf(reply);
  reply[0] = ECHO_REPLY;
  view.setUint16(2, 0);
  view.setUint16(2, internetChecksum(reply));
  return reply;
}
