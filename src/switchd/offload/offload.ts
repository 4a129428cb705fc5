/**
 * What a sender may leave to the receiver of its frame (virtio 1.2 §5.1.6): to fill in a checksum, and to cut one large TCP
 * segment into those that go over a wire. Two words travel with a frame (ring/layout.ts):
 *
 *   checksum       where to begin to sum, from the start of the frame | where the sum goes, from there << 16; 0: nothing to do
 *   segmentation   bytes of TCP payload per segment | kind << 16; 0: nothing to do
 *
 * The field of a checksum that is to be filled in has the sum of the pseudo-header.
 */
import type { FrameSource } from '../ring/producer.ts';

export const GSO = { TCP4: 1, TCP6: 4, ECN: 0x80 } as const;

export function checksumWord(start: number, offset: number): number {
  return start | (offset << 16);
}

export function segmentationWord(kind: number, segmentBytes: number): number {
  return segmentBytes | (kind << 16);
}

export function checksumOf(frame: FrameSource): number {
  return frame.words[(frame.offset >> 2) - 2]!;
}

export function segmentationOf(frame: FrameSource): number {
  return frame.words[(frame.offset >> 2) - 1]!;
}

export function hasOffload(frame: FrameSource): boolean {
  return (checksumOf(frame) | segmentationOf(frame)) !== 0;
}

/**
 * Fills the checksum in that `word` tells of, in a frame of `length` bytes at `offset`. False when it would lie outside.
 */
export function finishChecksum(bytes: Uint8Array, offset: number, length: number, word: number): boolean {
  const start = word & 0xffff;
  const at = start + (word >>> 16);
  if (at + 2 > length) return false;
  const sum = fold(sumOf(bytes, offset + start, length - start));
  const result = ~sum & 0xffff;
  // 0 stands for "no checksum" in UDP; for the others both mean the same (RFC 768, RFC 1624 §3).
  const field = result === 0 ? 0xffff : result;
  bytes[offset + at] = field >> 8;
  bytes[offset + at + 1] = field & 0xff;
  return true;
}

/** Sum of the big-endian 16-bit words of `length` bytes from `offset` on, not folded: at most 2^32. */
export function sumOf(bytes: Uint8Array, offset: number, length: number): number {
  const end = offset + (length & ~1);
  let sum = 0;
  for (let at = offset; at < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  return (length & 1) === 0 ? sum : sum + (bytes[end]! << 8);
}

/** To 16 bits, by ones' complement (RFC 1071). */
export function fold(sum: number): number {
  let folded = (sum % 0x1_0000) + Math.floor(sum / 0x1_0000);
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}
