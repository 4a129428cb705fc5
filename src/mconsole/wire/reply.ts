/** Replies of UML's management console: datagrams of err, more, length and text with its NUL; the host's order. */
import { DATA_MAX, HEADER_BYTES } from './request.ts';

/** For clients of version 0: text without a header or NUL. */
export const BARE_REFUSAL: Uint8Array = new TextEncoder().encode(
  'ERR Version 0 mconsole clients are not supported by this driver',
);
export const TOO_LARGE = 'Request too large';
export const WRONG_VERSION = 'This driver only supports version 2 clients';

const PIECE_BYTES = DATA_MAX - 1;

/**
 * The datagrams of one reply, one at least. As UML's, only the first has `err`, and the text ends at its first NUL.
 * `err`: 0, 1 or a negative errno.
 */
export function encodeReply(err: number, text: string): Uint8Array[] {
  const bytes = Buffer.from(text.split('\0', 1)[0]!, 'utf8');
  const datagrams: Uint8Array[] = [];
  let at = 0;
  do {
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    at += piece.length;
    const datagram = Buffer.alloc(HEADER_BYTES + piece.length + 1);
    datagram.writeInt32LE(datagrams.length === 0 ? err : 0, 0);
    datagram.writeUInt32LE(at < bytes.length ? 1 : 0, 4);
    datagram.writeUInt32LE(piece.length + 1, 8);
    datagram.set(piece, HEADER_BYTES);
    datagrams.push(datagram);
  } while (at < bytes.length);
  return datagrams;
}
