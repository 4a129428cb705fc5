/** LZ4 "legacy" frames, as `lz4 -l` and the Linux build make them (lz4_Frame_format.md, "Legacy frame"). */

const MAGIC = 0x184c_2102;
/** Every block but the last unpacks to this many bytes. */
const BLOCK_BYTES = 8 << 20;
const LONG = 15;
const MIN_MATCH = 4;

/** Unpacks a frame; throws RangeError on damaged data or more than `maxBytes` of output. */
export function unpackLz4Legacy(packed: Uint8Array, maxBytes: number): Uint8Array {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  // More than it takes: pages that are not written to take no memory.
  const out = new Uint8Array(maxBytes + BLOCK_BYTES);
  let total = 0;
  let at = 4;
  while (at + 4 <= packed.length) {
    const length = view.getUint32(at, true);
    at += 4;
    if (length === MAGIC) continue;
    // The kernel's build adds the unpacked size after the last block.
    if (at + length > packed.length && at === packed.length) break;
    if (at + length > packed.length) throw new RangeError('an LZ4 block reaches beyond the end');
    total += unpackBlock(packed.subarray(at, at + length), out.subarray(total, total + BLOCK_BYTES));
    if (total > maxBytes) throw new RangeError('LZ4 data unpacks to more than the kernel declares');
    at += length;
  }
  return out.subarray(0, total);
}

/** A length that begins with four bits of a token; 15 goes on in bytes from `at`, up to the first that is not 255. */
function lengthAt(packed: Uint8Array, at: number, start: number): number {
  let length = start;
  if (start !== LONG) return length;
  for (let next = at; ; next++) {
    const byte = packed[next];
    if (byte === undefined) throw new RangeError('LZ4 data ends within a length');
    length += byte;
    if (byte !== 255) return length;
  }
}

/** How many bytes a length takes besides the token. */
function lengthBytes(length: number): number {
  return length < LONG ? 0 : Math.floor((length - LONG) / 255) + 1;
}

/** One block (lz4_Block_format.md): sequences of literals and a match. Gives the bytes that it unpacks to. */
function unpackBlock(packed: Uint8Array, out: Uint8Array): number {
  let to = 0;
  let at = 0;
  while (at < packed.length) {
    const token = packed[at++]!;
    const literals = lengthAt(packed, at, token >>> 4);
    at += lengthBytes(literals);
    if (at + literals > packed.length || to + literals > BLOCK_BYTES)
      throw new RangeError('LZ4 literals overrun');
    if (literals > 16) out.set(packed.subarray(at, at + literals), to);
    else for (let i = 0; i < literals; i++) out[to + i] = packed[at + i]!;
    at += literals;
    to += literals;
    if (at === packed.length) break;
    const distance = packed[at]! | (packed[at + 1]! << 8);
    at += 2;
    const matched = lengthAt(packed, at, token & 15);
    at += lengthBytes(matched);
    const length = matched + MIN_MATCH;
    if (distance === 0 || distance > to || to + length > BLOCK_BYTES)
      throw new RangeError('LZ4 match out of range');
    if (distance >= length && length > 32) {
      out.copyWithin(to, to - distance, to - distance + length);
    } else {
      for (let i = 0; i < length; i++) out[to + i] = out[to - distance + i]!;
    }
    to += length;
  }
  return to;
}
