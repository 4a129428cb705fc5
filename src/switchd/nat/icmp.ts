/** ICMP and ICMPv6 messages to guests (RFC 792, RFC 4443). */
import { fold, sumOf } from '../offload/offload.ts';
import { type FrameWriter, type Peer, pseudoHeaderSum } from './frame-writer.ts';
import { PROTOCOL } from './packet.ts';

export const ICMP_HEADER_BYTES = 8;

/** Why a destination cannot be reached, as type and code: for IPv4, and for IPv6. */
export const UNREACHABLE = {
  /** Administratively (RFC 1812 §5.2.7.1): the guest's program is told at once. */
  prohibited: { ipv4: [3, 13], ipv6: [1, 1] },
  host: { ipv4: [3, 1], ipv6: [1, 3] },
} as const;

/** Sends a message whose checksum is still to be made. */
export function sendIcmp(writer: FrameWriter, from: Uint8Array, to: Peer, message: Buffer): void {
  const isIpv6 = from.length === 16;
  message.writeUInt16BE(0, 2);
  const pseudo = isIpv6 ? pseudoHeaderSum(from, to.address, PROTOCOL.ICMPV6) + message.length : 0;
  message.writeUInt16BE(~fold(pseudo + sumOf(message, 0, message.length)) & 0xffff, 2);
  writer.send(from, to, isIpv6 ? PROTOCOL.ICMPV6 : PROTOCOL.ICMP, message);
}

/** `quoted`: the beginning of the packet that this is about, from its IP header on. */
export function sendUnreachable(
  writer: FrameWriter,
  from: Uint8Array,
  to: Peer,
  why: keyof typeof UNREACHABLE,
  quoted: Uint8Array,
): void {
  const [type, code] = UNREACHABLE[why][from.length === 16 ? 'ipv6' : 'ipv4'];
  const message = Buffer.alloc(ICMP_HEADER_BYTES + quoted.length);
  message[0] = type;
  message[1] = code;
  message.set(quoted, ICMP_HEADER_BYTES);
  sendIcmp(writer, from, to, message);
}
