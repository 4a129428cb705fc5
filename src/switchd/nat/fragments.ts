/** Puts the fragments of IPv4 packets together (RFC 791 §3.2), within narrow bounds: guests use them for large datagrams alone. */
import type { Packet } from './packet.ts';

const PACKETS_MAX = 32;
const BYTES_MAX = 65_535;
const LIFETIME_MS = 10_000;

interface Partial {
  readonly bytes: Uint8Array;
  /** Byte ranges that have come, in order, without overlaps: overlapping fragments drop the packet (RFC 5722's rule). */
  readonly ranges: { readonly first: number; readonly end: number }[];
  readonly since: number;
  received: number;
  total: number | undefined;
}

export class Reassembler {
  readonly #partials = new Map<string, Partial>();

  /** The whole payload, once the last missing fragment is here. */
  add(packet: Packet, nowMs: number): Uint8Array | undefined {
    const key = `${packet.source.join('.')}>${packet.destination.join('.')}/${packet.protocol}/${packet.identification}`;
    const first = packet.fragmentOffset;
    const end = first + packet.length;
    const isMiddle = packet.hasMoreFragments;
    if (end > BYTES_MAX || packet.length === 0 || (isMiddle && packet.length % 8 !== 0)) return undefined;
    const partial = this.#partials.get(key) ?? this.#begin(key, nowMs);
    const overlaps = partial.ranges.some((range) => first < range.end && range.first < end);
    if (overlaps || (partial.total !== undefined && (end > partial.total || !isMiddle))) {
      this.#partials.delete(key);
      return undefined;
    }
    partial.bytes.set(packet.copy(0), first);
    partial.ranges.push({ first, end });
    partial.received += packet.length;
    if (!isMiddle) partial.total = end;
    if (partial.total === undefined || partial.received < partial.total) return undefined;
    this.#partials.delete(key);
    // Ranges do not overlap, so as many bytes as the total are the whole, unless one lies behind the end.
    const isWhole = partial.ranges.every((range) => range.end <= partial.total!);
    return isWhole ? partial.bytes.subarray(0, partial.total) : undefined;
  }

  #begin(key: string, nowMs: number): Partial {
    for (const [old, { since }] of this.#partials) {
      if (nowMs - since < LIFETIME_MS && this.#partials.size < PACKETS_MAX) break;
      this.#partials.delete(old);
    }
    const partial = {
      bytes: new Uint8Array(BYTES_MAX),
      ranges: [],
      since: nowMs,
      received: 0,
      total: undefined,
    };
    this.#partials.set(key, partial);
    return partial;
  }
}
