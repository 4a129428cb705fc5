/** The chain of IPv6 headers (RFC 8200 §4). */
const HEADER_BYTES = 40;
const EXTENSION = { hopByHop: 0, routing: 43, fragment: 44, destination: 60 } as const;
/** Nothing follows; also said of what follows in a later fragment. */
export const NO_NEXT_HEADER = 59;
const EXTENSIONS_MAX = 8;

/**
 * Protocol and place of what follows the extension headers of a packet at `at`; the protocol is −1 when that does not begin
 * before `end`. The packet's own header must be there.
 */
export function upperLayerOf(bytes: Uint8Array, at: number, end: number): { protocol: number; at: number } {
  let protocol = bytes[at + 6]!;
  let here = at + HEADER_BYTES;
  for (let i = 0; i < EXTENSIONS_MAX; i++) {
    const isFragment = protocol === EXTENSION.fragment;
    const isExtension =
      isFragment ||
      protocol === EXTENSION.hopByHop ||
      protocol === EXTENSION.routing ||
      protocol === EXTENSION.destination;
    if (!isExtension)
      return { protocol: here < end || protocol === NO_NEXT_HEADER ? protocol : -1, at: here };
    if (here + 8 > end) break;
    const isLater = isFragment && (((bytes[here + 2]! << 8) | bytes[here + 3]!) & 0xfff8) !== 0;
    if (isLater) return { protocol: NO_NEXT_HEADER, at: end };
    protocol = bytes[here]!;
    here += isFragment ? 8 : (bytes[here + 1]! + 1) * 8;
  }
  return { protocol: -1, at: end };
}
