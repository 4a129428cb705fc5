/** Requests of UML's management console, protocol version 2 (arch/um/drivers/mconsole.h); numbers in the host's order. */

export const MAGIC = 0xcafe_babe;
export const VERSION = 2;
/** Longest text with its NUL, in requests and in each datagram of a reply. */
export const DATA_MAX = 512;
export const HEADER_BYTES = 12;
/** Nothing behind this belongs to a request. */
export const REQUEST_BYTES_MAX = HEADER_BYTES + DATA_MAX;

export type MconsoleRequest =
  /** No magic: a client of version 0, which sends and reads bare text. */
  | { readonly kind: 'bare' }
  | { readonly kind: 'too-large' }
  /** UML complains about another version, and then carries the command out all the same. */
  | { readonly kind: 'command'; readonly text: string; readonly wrongVersion: boolean };

/** What is missing of a short datagram counts as zeros. The text ends at its first NUL. */
export function decodeRequest(datagram: Uint8Array): MconsoleRequest {
  const bytes = Buffer.alloc(REQUEST_BYTES_MAX);
  bytes.set(datagram.subarray(0, REQUEST_BYTES_MAX));
  if (bytes.readUInt32LE(0) !== MAGIC) return { kind: 'bare' };
  const length = bytes.readUInt32LE(8);
  if (length >= DATA_MAX) return { kind: 'too-large' };
  const data = bytes.subarray(HEADER_BYTES, HEADER_BYTES + length);
  const nul = data.indexOf(0);
  const text = data.toString('utf8', 0, nul < 0 ? length : nul);
  return { kind: 'command', text, wrongVersion: bytes.readUInt32LE(4) !== VERSION };
}
